"""``lit_prompt``: the command. Help and version answer before anything heavy is imported."""

import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from lit_prompt import __version__
from lit_prompt.errors import InputError

USAGE = """\
usage: lit_prompt COMMAND [--config FILE] [--lm NAME_OR_PATH] [--KEY VALUE ...]

Searches, for every target distribution over a language model's vocabulary, the prompt whose next-token
distribution is closest to it in KL(target || LM), in nats.

commands:
  fit        search prompts; writes logs/CONFIG/version_K and goes on with an interrupted run
  test       recompute every number from the saved prompts; writes results, prompts and a picture
  validate   the same table without writing anything
  predict    target and reached probability of each target's top tokens
  report     one page on any number of runs: figures and findings; lit_prompt report --help
  shortest   the shortest prompt of each target that reaches a KL: lit_prompt shortest --help
  floor      for every target the KL that no prompt can go below; searches nothing: lit_prompt floor --help
  targets    build, show or validate targets: lit_prompt targets --help
  pretrain   train a small LM, tokenizer included, from a text: lit_prompt pretrain --help

most used:
  --config FILE            settings in YAML; several may follow one another, later ones win
  --run FOLDER             a run's folder (logs/CONFIG/version_K): its settings, targets and checkpoint
  --lm NAME_OR_PATH        hub id or local folder of the language model, for model and data at once
  --lm_options.dtype TYPE  float32 (default), bfloat16, float16, float64, auto
  --model.length N         embeddings or tokens of a prompt;  --model.steps N  most steps for a target
  --data.chunk_size N      targets that are searched at the same time
  --print_config           print the resolved settings and stop

help:
  lit_prompt COMMAND --help               every key of a command
  lit_prompt fit --model.help HardPrompt  the keys of a class, with their meaning
  lit_prompt fit --model HardPrompt --model.searcher.help GCG
  lit_prompt --version

examples:
  lit_prompt fit --config configs/demo.yaml
  lit_prompt test --run logs/demo/version_0
  lit_prompt fit --config configs/hard.yaml
  lit_prompt fit --config configs/lift.yaml
  lit_prompt floor --config configs/demo.yaml
  lit_prompt fit --config configs/demo.yaml --lm gpt2 --model.steps 200
  lit_prompt targets validate data/targets/die.jsonl
  lit_prompt report logs/*/version_* --out report
  tensorboard --logdir logs
"""


#: Commands other than those of the search: the modules whose ``main`` they are.
COMMANDS = {
    "report": "lit_prompt.commands.report",
    "shortest": "lit_prompt.commands.shortest",
    "floor": "lit_prompt.commands.floor",
    "targets": "lit_prompt.commands.targets",
    "pretrain": "lit_prompt.pretrain.cli",
}


def expand_run(args: Sequence[str]) -> tuple[list[str], Path | None]:
    """Turns ``--run FOLDER`` into the run's own config and checkpoint.

    A ``--ckpt_path`` without a config, whose run folder holds one, is treated the same way.

    Args:
        args: command and options.

    Returns:
        The options with ``--config`` and ``--ckpt_path``, and the run's folder, or None for a new run.

    Raises:
        InputError: if the folder is no run, or the run has no checkpoint.
    """
    args = list(args)
    run = _pop_option(args, "--run")
    folder: Path | None = None
    checkpoint: Path | None = None
    if run is not None:
        folder = Path(run)
        if not (folder / "config.yaml").is_file():
            raise InputError(
                f"--run: {run} is no run's folder (it holds no config.yaml); runs are in logs/CONFIG/version_K"
            )
        checkpoint = folder / "checkpoints" / "last.ckpt"
        if _peek_option(args, "--ckpt_path") is None:
            if not checkpoint.is_file():
                raise InputError(
                    f"--run: {run} has no checkpoint yet ({checkpoint}); start its search anew with fit --config"
                )
            args += ["--ckpt_path", str(checkpoint)]
    elif (given := _peek_option(args, "--ckpt_path")) is not None and not config_files(args):
        folder = Path(given).parent.parent
        if not (folder / "config.yaml").is_file():
            return args, None
    if folder is not None:
        args[1:1] = ["--config", str(folder / "config.yaml")]
    return args, folder


def _peek_option(args: Sequence[str], name: str) -> str | None:
    return _pop_option(list(args), name)


def _pop_option(args: list[str], name: str) -> str | None:
    for i, arg in enumerate(args):
        if arg == name:
            if i + 1 == len(args):
                raise InputError(f"{name} needs a value")
            del args[i]
            return args.pop(i)
        if arg.startswith(f"{name}="):
            del args[i]
            return arg.split("=", 1)[1]
    return None


def config_files(args: Sequence[str]) -> list[str]:
    """The config files of a command line, in their order; the last one names a new run's folder."""
    found, rest = [], list(args)
    for i, arg in enumerate(rest):
        if arg in ("-c", "--config") and i + 1 < len(rest):
            found.append(rest[i + 1])
        elif arg.startswith("--config="):
            found.append(arg.split("=", 1)[1])
    return found


def check_yaml(paths: Sequence[str]) -> None:
    """Names file and line of a YAML mistake, which the parser does not.

    Raises:
        InputError: if a file is missing or holds no settings.
    """
    import yaml

    for path in paths:
        try:
            if not isinstance(yaml.safe_load(Path(path).read_text(encoding="utf-8")), dict):
                raise InputError(f"--config: {path} holds no settings; see configs/demo.yaml")
        except FileNotFoundError:
            raise InputError(f"--config: no file {path}; the embedded ones are in configs/") from None
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"--config: {path} cannot be read ({error})") from error
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            line = "" if mark is None else f":{mark.line + 1}"
            raise InputError(f"{path}{line}: not YAML ({getattr(error, 'problem', error)})") from error


def main(args: Sequence[str] | None = None) -> None:
    """Runs the command line.

    Args:
        args: command and options; those of the process by default.

    Raises:
        SystemExit: with code 2 after a mistake of the user, 130 after Ctrl-C.
    """
    args = list(sys.argv[1:] if args is None else args)
    if not args or args[0] in ("-h", "--help", "help"):
        print(USAGE, end="")
        return
    if args[0] in ("-V", "--version"):
        print(f"lit_prompt {__version__}")
        return
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # same rounding in every run on a CPU, whatever else the machine is doing; read when torch is imported
    os.environ.setdefault("MKL_CBWR", "AUTO")
    from lit_prompt.errors_shown import shown_errors

    with shown_errors():
        if args[0] in COMMANDS:
            quiet()
            importlib.import_module(COMMANDS[args[0]]).main(args[1:])
            return
        args, folder = expand_run(args)
        configs = config_files(args)
        check_yaml(configs)
        from lit_prompt.cli import PromptCLI

        quiet()
        PromptCLI(args, folder, name=Path(configs[-1]).stem if configs else "default")


def quiet() -> None:
    """Silences what says nothing about the search."""
    import logging
    import warnings

    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # five retries, then our own line
    for message in (
        ".*does not have many workers.*",  # the loader reads one memory-mapped chunk an epoch
        ".*in eval mode at the start of training.*",  # the LM is frozen
        ".*dataloader's?.*not resumable.*",  # every batch of an epoch is the same
        ".*this fit will run with no optimizer.*",  # hard prompts have none
        ".*LightningCLI's args parameter.*",
        ".*LeafSpec.*",  # Lightning 2.6 with a newer torch
        ".*Total length of `list` across ranks is zero.*",  # a fit validates at its end, not in between
    ):
        warnings.filterwarnings("ignore", message=message)
