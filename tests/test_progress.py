"""What a phase shows in a terminal while it lasts."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios

import pytest

SLOW = """
import time
from lit_prompt.progress import phase
from lit_prompt.scoring import MicroBatch
import torch
with phase("waiting"):
    time.sleep(2.3)
with phase("quick", "target", 3) as tick:
    tick(3)
micro_batch = MicroBatch()
with micro_batch.shown("scoring"):
    for _ in range(4):
        micro_batch.run(lambda rows: time.sleep(0.5), torch.arange(5))
micro_batch.run(lambda rows: None, torch.arange(5))
"""


def seen_in_terminal(program: str) -> str:
    """What a program writes to a terminal of 100 columns."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdout=theirs, stderr=theirs, cwd=os.getcwd(), env=os.environ) as process:
        os.close(theirs)
        found = b""
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # the other end is closed
                break
            if not part:
                break
            found += part
    os.close(ours)
    assert process.returncode == 0
    return found.decode()


@pytest.mark.skipif(os.name != "posix", reason="needs a pseudo-terminal")
def test_phases_that_last_show_their_clock_and_their_count_and_short_ones_nothing():
    seen = seen_in_terminal(SLOW)
    assert "waiting [00:01]" in seen
    assert "waiting [00:02]" in seen  # the clock goes on, though nothing is told
    assert "quick" not in seen
    counts = [int(count) for count in re.findall(r"scoring: (\d+) prompts \[00:0", seen)]
    assert counts == sorted(counts)
    assert 15 <= counts[-1] <= 20
    assert not seen.split("\r")[-1].strip()  # and the line is clean in the end
