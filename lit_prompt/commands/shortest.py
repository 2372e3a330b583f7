"""``lit_prompt shortest``: the shortest prompt that reaches a KL. Help answers before anything heavy is imported."""

from collections.abc import Sequence

from lit_prompt.cli.arguments import read_arguments
from lit_prompt.cli.parser import CommandParser
from lit_prompt.errors import InputError

_EPILOG = """\
Lengths are tried in rising order; a target that has reached the KL is left out of longer ones. Each length is a run of
its own, which test has evaluated; shortest.parquet, in the last one's folder, has what each target needed. All other
options are those of fit.

example:
  lit_prompt shortest --config configs/hard.yaml --kl 2.5 --lengths 1 2 4 8 16
"""


def main(args: Sequence[str]) -> None:
    """Runs ``lit_prompt shortest``.

    Args:
        args: what follows ``shortest`` on the command line.

    Raises:
        InputError: after a mistake of the user.
    """
    parser = CommandParser(
        "shortest",
        "--config FILE --kl NATS --lengths N [N ...] [--KEY VALUE ...]",
        "Finds, for each target, the shortest prompt whose KL(target || LM) is at most a given number of nats.",
        _EPILOG,
    )
    parser.add_argument("--kl", metavar="NATS", type=float, required=True, help="what a prompt must reach")
    parser.add_argument("--lengths", metavar="N", type=int, nargs="+", required=True, help="lengths to try")
    known, rest = parser.parse_known_args(args)
    lengths = sorted(set(known.lengths))
    if lengths[0] < 1:
        raise InputError(f"shortest: --lengths holds {lengths[0]}; a prompt has at least 1 token")
    if not known.kl > 0:
        raise InputError(f"shortest: --kl is {known.kl:g}; give a number of nats above 0")
    arguments = read_arguments("shortest", rest)
    if not arguments.configs:
        raise InputError("shortest: give the search's settings with --config (see configs/hard.yaml)")
    from lit_prompt.commands.shortest_search import find_shortest

    find_shortest(known.kl, lengths, arguments)
