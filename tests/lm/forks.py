"""Loads LMs in forks of one process that has imported what that needs: as separate as processes, but quick.

The argument is the folder of an LM of the kind that they load. A line of standard input is a JSON object: the ``lm``,
its ``revision``, the ``environment``, the file ``said`` that takes what is printed (at last the LM's fingerprint),
``seconds`` after which the process is killed. The answer is a line with its exit code.
"""

import json
import os
import signal
import sys

import accelerate  # noqa: F401
import gguf  # noqa: F401
import huggingface_hub.constants

from lit_prompt.errors import shown_errors
from lit_prompt.lm import FrozenLM, LMOptions, Vocabulary


def load(asked):
    os.environ.update(asked["environment"])
    huggingface_hub.constants.HF_HUB_OFFLINE = os.environ["HF_HUB_OFFLINE"] == "1"  # read at import
    for stream in (1, 2):
        os.dup2(os.open(asked["said"], os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
    signal.alarm(asked["seconds"])
    with shown_errors(""):
        options = LMOptions(revision=asked["revision"])
        Vocabulary.load(asked["lm"], options)
        print(FrozenLM.load(asked["lm"], options).fingerprint)


def main():
    """Answers until the input ends."""
    Vocabulary.load(sys.argv[1], LMOptions())  # imports what the architecture needs
    FrozenLM.load(sys.argv[1], LMOptions())
    for line in sys.stdin:
        asked = json.loads(line)
        if os.fork() == 0:
            code = 0
            try:
                load(asked)
            except SystemExit as stop:
                code = int(stop.code)
            sys.stdout.flush()
            os._exit(code)  # without the clearing up, which takes seconds
        print(os.waitstatus_to_exitcode(os.wait()[1]), flush=True)


if __name__ == "__main__":
    main()
