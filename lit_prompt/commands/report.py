"""``lit_prompt report``: one page on any number of runs. Help answers before anything heavy is imported."""

from collections.abc import Sequence

from lit_prompt.cli.parser import CommandParser, user_path
from lit_prompt.errors import InputError

_EPILOG = """\
A RUN is a run's folder (logs/CONFIG/version_K) that lit_prompt test has evaluated. Its newest results are read, and
what lit_prompt predict found where it has run. Name a results-K.parquet instead to report on older ones.

examples:
  lit_prompt report logs/entropy/version_0 logs/outliers/version_0 logs/lm_made/version_0 --out report
  lit_prompt report logs/*/version_* --out report
"""


def main(args: Sequence[str]) -> None:
    """Runs ``lit_prompt report``.

    Args:
        args: what follows ``report`` on the command line.

    Raises:
        InputError: after a mistake of the user.
    """
    parser = CommandParser(
        "report",
        "RUN [RUN ...] --out FOLDER",
        "Writes one self-contained page on runs, FOLDER/report.html, and its figures as PNG and PDF.",
        _EPILOG,
    )
    parser.add_argument(
        "runs", metavar="RUN", type=user_path, nargs="+", help="a run's folder, or a file of its results"
    )
    parser.add_argument("--out", metavar="FOLDER", type=user_path, required=True, help="where the report goes")
    known = parser.parse_args(args)
    if known.out.exists() and not known.out.is_dir():
        raise InputError(f"--out: {known.out} is a file; name a folder")
    from lit_prompt.report import read_runs, study_of, write_report
    from lit_prompt.results.console import console, say

    study = study_of(read_runs(known.runs))
    try:
        with console.status("drawing and testing"):
            page = write_report(study, known.out)
    except OSError as error:
        raise InputError(f"--out: {known.out} cannot be written ({error.strerror})") from error
    say(f"report    {page}", f"figures   {page.parent / 'figures'}")
