"""Reports on any number of runs: figures, findings with intervals and tests, one self-contained page."""

from lit_prompt.report.page import write_report
from lit_prompt.report.runs import read_runs
from lit_prompt.report.study import study_of

__all__ = ["read_runs", "study_of", "write_report"]
