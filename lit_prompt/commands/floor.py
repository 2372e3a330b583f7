"""``lit_prompt floor``: certified floors of a config's targets, without any search."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lit_prompt.cli.arguments import RunArguments, read_arguments
from lit_prompt.cli.parser import CommandParser, user_path
from lit_prompt.errors import InputError
from lit_prompt.files import free_path

_DESCRIPTION = """\
Computes, for every target of a config, a KL that no prompt of the LM can go below, soft or hard, of any length, and
the KL that a soft prompt can reach (on the sphere to which the final norm scales every state). Nothing is searched.
What a run or this command has solved before, for the same LM, is taken from logs/floors.
Config and overrides are those of fit; --data.load FOLDER takes targets that were built before."""
_EPILOG = """\
examples:
  lit_prompt floor --config configs/demo.yaml
  lit_prompt floor --config configs/demo.yaml --lm gpt2 --tolerance 1e-5
"""


def main(args: Sequence[str]) -> None:
    """Runs ``lit_prompt floor``.

    Args:
        args: what follows ``floor`` on the command line.

    Raises:
        InputError: after a mistake of the user, or for an LM whose output geometry does not hold.
    """
    parser = CommandParser(
        "floor",
        "--config FILE [--lm NAME_OR_PATH] [--tolerance NATS] [--out FILE] [--data.KEY VALUE ...]",
        _DESCRIPTION,
        _EPILOG,
    )
    parser.add_argument(
        "--tolerance", metavar="NATS", type=float, default=1e-3,
        help="largest gap between a floor and the best one that can be certified (%(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--out", metavar="FILE", type=user_path,
        help="the floors, a row a target (logs/CONFIG/floors.parquet; never overwritten)",
    )  # fmt: skip
    known, rest = parser.parse_known_args(args)
    if not known.tolerance > 0:
        raise InputError(f"--tolerance is {known.tolerance}; it must be positive")
    _floors(known.tolerance, known.out, read_arguments("floor", rest))


def _floors(tolerance: float, out: Path | None, arguments: RunArguments) -> None:

    from lit_prompt.cli.prompt import PromptCLI
    from lit_prompt.data.datamodule import TargetDataModule
    from lit_prompt.lm import FrozenLM
    from lit_prompt.models.floors import FOLDER, Floors
    from lit_prompt.records.floors import FLOORS
    from lit_prompt.results.console import console, say
    from lit_prompt.results.results_shown import print_floors

    wanted = out or Path("logs") / arguments.name / "floors.parquet"
    _check_place(wanted, is_new=out is not None)
    data: TargetDataModule = PromptCLI(None, arguments).datamodule
    data.setup("floor")
    lm = FrozenLM.load(data.lm, data.lm_options)
    floors = Floors(lm, Path("logs") / FOLDER, tolerance)
    if floors.why_not is not None:
        raise InputError(f"--lm {data.lm}: {floors.why_not}")
    rows: list[dict[str, Any]] = []
    for chunk in data.evaluation_dataloader():
        with console.status(f"{len(rows)} of {len(data.targets)} floors"):
            about = zip(chunk.target_id, chunk.family, chunk.entropy.tolist(), floors.of(chunk), strict=True)
            for target_id, family, entropy, floor in about:
                assert floor is not None
                row = {"target_id": target_id, "family": family, "entropy": entropy, "lm": data.lm}
                rows.append(row | {"lm_fingerprint": lm.fingerprint} | vars(floor))
    table = FLOORS.table(rows)
    print_floors(table)
    try:
        wanted.parent.mkdir(parents=True, exist_ok=True)
        written = FLOORS.write(table, free_path(wanted.parent, wanted.name))
    except OSError as error:
        raise _cannot_write(wanted, error) from error
    say(f"floors   {written}")


def _check_place(path: Path, is_new: bool) -> None:
    """Refuses, before anything is solved, a file that cannot be written, or is there where it must be new."""
    try:
        if is_new and path.exists():
            raise InputError(f"--out: {path} exists; floors are never overwritten, name another file")
        place = next(folder for folder in path.absolute().parents if folder.exists())
        tempfile.TemporaryFile(dir=place).close()
    except OSError as error:
        raise _cannot_write(path, error) from error


def _cannot_write(path: Path, error: OSError) -> InputError:
    return InputError(f"--out: {path} cannot be written ({error.strerror}); name another file")
