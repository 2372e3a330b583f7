"""``lit_prompt targets``: build, look at and check sets of targets. Help answers before anything heavy is imported."""

from collections.abc import Callable, Sequence

from lit_prompt.cli.arguments import read_arguments
from lit_prompt.cli.parser import CommandParser, check_command, user_path

USAGE = """\
usage: lit_prompt targets COMMAND ...

commands:
  build --config FILE --out FOLDER   make the targets of a config once and save them
  show FOLDER                        table and picture of a saved set, or of a run's targets
  validate FILE                      every mistake in a file of your own targets, with its line

help:
  lit_prompt targets COMMAND --help

examples:
  lit_prompt targets build --config configs/demo.yaml --out targets/demo
  lit_prompt targets show targets/demo
  lit_prompt fit --config configs/demo.yaml --data.load targets/demo
  lit_prompt targets validate data/targets/die.jsonl
"""


class _Parser(CommandParser):
    """The parser of one of the commands on targets."""

    def __init__(self, command: str, usage: str, description: str) -> None:
        super().__init__(f"targets {command}", usage, description)

    def add_lm(self, help_text: str) -> None:
        """Adds the LM's name and those of its options that a tokenizer needs."""
        self.add_argument("--lm", metavar="NAME_OR_PATH", help=help_text)
        self.add_argument(
            "--lm_options.revision", metavar="R", dest="revision", help="branch, tag or commit on the hub"
        )
        self.add_argument(
            "--lm_options.trust_remote_code", metavar="BOOL", dest="trust_remote_code", default="false",
            choices=("true", "false"), help="run the tokenizer code that comes with the LM (false)",
        )  # fmt: skip


def main(args: Sequence[str]) -> None:
    """Runs ``lit_prompt targets``.

    Args:
        args: what follows ``targets`` on the command line.

    Raises:
        InputError: after a mistake of the user.
        SystemExit: with code 2 if a file that was validated has mistakes.
    """
    if not args or args[0] in ("-h", "--help", "help"):
        print(USAGE, end="")
        return
    commands: dict[str, Callable[[Sequence[str]], None]] = {"build": _build, "show": _show, "validate": _validate}
    check_command(args[0], commands, "targets: ")
    commands[args[0]](args[1:])


def _build(args: Sequence[str]) -> None:
    parser = _Parser(
        "build",
        "--config FILE --out FOLDER [--lm NAME_OR_PATH] [--data.KEY VALUE ...]",
        "Makes the targets of data.families and saves them in a folder, which fit takes as --data.load FOLDER.\n"
        "Config and overrides are those of fit; what concerns model and trainer is left aside.\n"
        "The keys: lit_prompt fit --help; those of a family: lit_prompt fit --data.families.help OneHot.",
    )
    parser.epilog = (
        "example:\n  lit_prompt targets build --config configs/demo.yaml --data.families.init_args.per_entropy 2 "
        "--out targets/small"
    )
    parser.add_argument("--out", metavar="FOLDER", type=user_path, required=True, help="folder to make")
    known, rest = parser.parse_known_args(args)
    arguments = read_arguments("targets build", rest)
    from lit_prompt.commands.targets_build import build_targets

    build_targets(known.out, arguments)


def _show(args: Sequence[str]) -> None:
    parser = _Parser(
        "show",
        "FOLDER [--rows N] [--out PNG] [--lm NAME_OR_PATH]",
        "Prints a table of targets and draws their sorted probabilities.",
    )
    parser.add_argument(
        "folder", metavar="FOLDER", type=user_path, help="a saved set, or a run (logs/CONFIG/version_K)"
    )
    parser.add_argument(
        "--rows", metavar="N", type=int, default=40, help="targets in the table; 0 for all (%(default)s)"
    )
    parser.add_argument("--out", metavar="PNG", type=user_path, help="the picture (targets.png in the set's folder)")
    parser.add_lm("LM whose tokenizer spells the tokens (the one that the set was built for)")
    known = parser.parse_args(args)
    from lit_prompt.commands.targets_show import show_targets

    show_targets(known.folder, known.rows, known.out, known.lm, known.revision, known.trust_remote_code == "true")


def _validate(args: Sequence[str]) -> None:
    parser = _Parser(
        "validate",
        "FILE [--lm NAME_OR_PATH] [--rest zero|spread]",
        "Lists every mistake in a file of targets (.jsonl, .csv, .parquet) with its line; exit code 2 if there is one.",
    )
    parser.add_argument("file", metavar="FILE", type=user_path, help="as the path of a FromFile family")
    parser.add_argument(
        "--rest", choices=("zero", "spread"), default="zero", help="as the rest of a FromFile family (%(default)s)"
    )
    parser.add_lm("LM whose tokens the targets name (the embedded Llama)")
    known = parser.parse_args(args)
    from lit_prompt.commands.targets_validate import validate_file

    validate_file(known.file, known.rest, known.lm, known.revision, known.trust_remote_code == "true")
