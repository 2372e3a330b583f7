"""``lit_prompt report``: one page on any number of runs."""

from argparse import Namespace

from lit_prompt.cli.parser import writing
from lit_prompt.errors import InputError
from lit_prompt.progress import phase
from lit_prompt.report import read_runs, study_of, write_report
from lit_prompt.results.console import say


def run(options: Namespace) -> None:
    """Reads runs and writes the page."""
    if options.out.exists() and not options.out.is_dir():
        raise InputError(f"--out: {options.out} is a file; name a folder")
    study = study_of(read_runs(options.runs))
    with writing(options.out), phase("drawing and testing"):
        page = write_report(study, options.out)
    say(f"report    {page}", f"figures   {page.parent / 'figures'}")
