"""What is shown beside results, whatever names it holds: warnings, phases, errors."""

import logging

import pytest

from lit_prompt import progress
from lit_prompt.warnings_shown import show_warnings

BAD = "a\x1b]0;b\x07\0\n\t\x9b\u202e"
SHOWN = r"a\x1b]0;b\x07\x00\n\t\x9b\u202e"


def test_a_warning_is_a_line(capsys):
    show_warnings()
    logging.lastResort.handle(logging.LogRecord("lit_prompt", logging.WARNING, "", 0, "note on %s", (BAD,), None))
    assert capsys.readouterr().err == f"note on {SHOWN}\n"


def test_a_phase_is_a_line(capsys, monkeypatch):
    monkeypatch.setattr(progress, "BEAT_SECONDS", 0.0)
    with progress.phase(f"loading {BAD}"):
        pass
    assert f"loading {SHOWN} [00:00]" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["fit", "report", "floor"])
def test_an_error_is_a_line(cli, command):
    path = BAD.replace("\0", "")
    options = [path, "--out", "out"] if command == "report" else ["--config", path]
    said = cli(command, *options, code=2)
    assert SHOWN.replace(r"\x00", "") in said
    assert said.replace("\n", "").isprintable()
