"""``lit_prompt``: the command. Help and version answer before anything heavy is imported."""

import io
import os
import shlex
import sys
from collections.abc import Sequence

from lit_prompt import __version__
from lit_prompt.cli.arguments import read_arguments
from lit_prompt.cli.parser import as_utf8, check_command
from lit_prompt.commands.options import run_command
from lit_prompt.errors import InputError, shown_errors
from lit_prompt.interruption import SIGNALS, end_at_once, signals_taken
from lit_prompt.results.text import visible
from lit_prompt.unread import unread_output
from lit_prompt.warnings_shown import show_warnings

USAGE = """\
usage: lit_prompt COMMAND [--config FILE] [--lm NAME_OR_PATH] [--KEY VALUE ...]

Searches, for every target distribution over a language model's vocabulary, the prompt whose next-token
distribution is closest to it in KL(target || LM), in nats.

commands:
  find       the prompt of one target that you type: lit_prompt find --help
  fit        search prompts; writes logs/CONFIG/version_K; --run resumes
  test       recompute every number from the saved prompts; writes results, prompts and a picture
  validate   the same table without writing anything
  predict    target and reached probability of each target's top tokens
  report     one page on any number of runs: figures and findings; lit_prompt report --help
  export     a run's prompts for other programs, read back by them: lit_prompt export --help
  score      what a prompt reaches behind a server, or a text on an LM at hand: lit_prompt score --help
  shortest   the shortest prompt of each target that reaches a KL: lit_prompt shortest --help
  floor      for every target the KL that no prompt can go below; searches nothing: lit_prompt floor --help
  targets    build, show or validate targets: lit_prompt targets --help
  pretrain   train a small LM, tokenizer included, from a text: lit_prompt pretrain --help
  completion a script for bash or zsh that completes commands and options: lit_prompt completion --help

most used:
  --config FILE            settings in YAML; several may follow one another, later ones win
  --run FOLDER             a run's folder (logs/CONFIG/version_K): its settings, its targets and what was found
  --trainer.devices N      so many processes, a device each;  --join FOLDER --data.shard 3/16  one of 16 jobs on a run
  --threads N              threads of a process
  --trust MODULE           lets that config name classes of MODULE; else of lit_prompt, torch.optim and lightning alone
  --floors false           solve no floors that are not known;  --floor_seconds S  for how long to solve them
  --cache false            take no texts and states of the LM from earlier runs (logs/cache), and leave none
  --draws N                test: draw from the LM, count and test;  --sampling.temperature T (.top_k, .top_p): so drawn
  --lm NAME_OR_PATH        hub id, local folder or GGUF file of the language model, or the address of a server of one
  --lm_options.dtype TYPE  float32 (default), bfloat16, float16, float64, auto
  --model.length N         embeddings or tokens of a prompt;  --model.steps N  most steps for a target
  --logs FOLDER            where runs keep their folders (logs)
  --data.chunk_size N      targets that are searched at the same time
  --print_config           print the resolved settings and stop

help:
  lit_prompt COMMAND --help               every key of a command
  lit_prompt fit --model.help HardPrompt  the keys of a class, with their meaning
  lit_prompt fit --model HardPrompt --model.searcher.help GCG
  lit_prompt --version --verbose          versions and devices, as a report of a fault needs them

examples:
  lit_prompt find --lm gpt2 --target ' heads=0.5' --target ' tails=0.5' --hard
  lit_prompt fit --config configs/demo.yaml
  lit_prompt test --run logs/demo/version_0
  lit_prompt fit --config configs/hard.yaml
  lit_prompt test --run logs/hard/version_0 --lm gpt2    # its prompts' texts on another LM
  lit_prompt fit --config configs/lift.yaml
  lit_prompt floor --config configs/demo.yaml
  lit_prompt fit --config configs/demo.yaml --lm gpt2 --model.steps 200
  lit_prompt targets validate data/targets/die.jsonl
  lit_prompt report logs/*/version_* --out report
  tensorboard --logdir logs
"""


SEARCHES = ("fit", "test", "validate", "predict")
COMMANDS = (*SEARCHES, "find", "report", "export", "score", "shortest", "floor", "targets", "pretrain", "completion")


def main(args: Sequence[str] | None = None) -> None:
    """Runs the command line: ``args``, or those of the process.

    Raises:
        SystemExit: with code 2 after a mistake of the user, 130 after Ctrl-C, 141 where nobody reads its output any
            more, 143 after SIGTERM.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a table must not fail for a character of some token
    show_warnings()
    words = list(sys.argv[1:] if args is None else args) or ["help"]
    command = shlex.join(["lit_prompt", *words])
    try:
        with unread_output(), signals_taken(command), shown_errors(command):
            _run(*map(as_utf8, words))
    except SystemExit as stop:
        if args is None and stop.code in {128 + number for number in SIGNALS}:
            end_at_once(int(stop.code or 0))
        raise


def _run(command: str, *options: str) -> None:
    if command in ("-h", "--help", "help"):
        print(USAGE, end="")
        return
    if command in ("-V", "--version"):
        print(f"lit_prompt {__version__}")
        if "--verbose" in options:
            from lit_prompt.about import about_this_machine

            print(about_this_machine())
        return
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")  # five retries, then our own line
    # same rounding in every run on a CPU, whatever else the machine is doing; read when torch is imported
    os.environ.setdefault("MKL_CBWR", "AUTO")
    if command.startswith("-") and (named := next((option for option in options if option in COMMANDS), None)):
        others = [command, *options]
        others.remove(named)
        raise InputError(f"the command stands first: lit_prompt {shlex.join([named, *others])}")
    check_command(command, COMMANDS)
    if command in SEARCHES:
        arguments = read_arguments(command, options, takes_run=True)
        if not _asks(options) and os.environ.get("LOCAL_RANK", "0") == "0":
            about = arguments.run_folder or ", ".join(str(config.path) for config in arguments.configs)
            print(visible(f"lit_prompt {command} {about}: PyTorch is being loaded"), file=sys.stderr, flush=True)
        from lit_prompt.cli.prompt import PromptCLI

        PromptCLI(command, arguments)
    elif command == "pretrain":
        from lit_prompt.pretrain.cli import main as pretrain

        pretrain(options)
    else:
        run_command(command, options)


def _asks(options: Sequence[str]) -> bool:
    """Whether the answer is a text alone: a help, or the settings."""
    names = [option.partition("=")[0] for option in options]
    return any(name in ("-h", "--help", "--print_config") or name.endswith(".help") for name in names)
