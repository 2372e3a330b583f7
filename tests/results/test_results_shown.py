"""Hard prompts on a screen of 80 columns."""

import re

import pyarrow as pa
import pytest
from rich.cells import cell_len

from lit_prompt.records.results import SCHEMA
from lit_prompt.results.console import console
from lit_prompt.results.results_shown import print_prompts


def row(i, text, **fields):
    found = {"target_id": f"t/{i}", "family": "f", "entropy": 1.0, "kl": 1.0 + i, "prompt_text": text}
    return found | {"kl_text": None if text is None else found["kl"]} | fields


@pytest.fixture
def printed(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")

    def run(rows):
        print_prompts(pa.Table.from_pylist(rows, schema=SCHEMA))
        said = capsys.readouterr().out
        assert all(cell_len(line) <= 80 for line in said.splitlines())
        return said

    return run


@pytest.mark.parametrize(
    "text", ["[bold]", "[/]", "\\[bold]", "a\\", "[link=x]", ":smile: :x:", "a\nb", "\x1b[31m", "日本語", "''\"", ""]
)
def test_a_prompt_is_shown_as_it_is(printed, text):
    assert repr(text) in printed([row(0, text)])


def test_long_prompts_and_names_are_folded(printed):
    said = printed([row(0, "word [bold] " * 20 + "x" * 200, target_id="name[b]/" * 10)])
    assert sum(line.count("[bold]") for line in said.splitlines()) >= 15
    assert said.count("x") >= 200
    assert said.replace("\n", "").count("name[b]/") > 5


def test_best_first_and_no_more_than_fit(printed):
    said = printed([row(i, f"p{i}") for i in reversed(range(20))])
    assert re.findall(r"'p(\d+)'", said) == [str(i) for i in range(16)]
    assert "... and 4 more in the file." in said
    assert "the same for 20 of 20 prompts" in " ".join(said.split())


def test_a_text_without_a_kl(printed):
    said = printed([row(0, "a", kl_text=None), row(1, "b", kl_text=2.5), row(2, "c")])
    assert re.search(r"t/0 +1.000 +- +'a'", said)
    assert "the same for 1 of 3 prompts" in " ".join(said.split())


def test_the_gap_is_that_of_medians(printed):
    kls = [(1.0, 5.0), (2.0, 4.0), (6.0, 9.0)]
    said = printed([row(i, "a", kl_soft=s, kl_projected=p, kl=3.0 + i) for i, (s, p) in enumerate(kls)])
    line = " ".join(said.split())
    assert "soft prompts 2.000, the tokens nearest to them 5.000 (projection gap 3.000), searched from" in line
    assert line.endswith("4.000")


def test_prompts_without_text_are_not_shown(printed):
    assert printed([row(0, None), row(1, None, kl=None)]) == ""
    assert "t/1" not in printed([row(0, "a"), row(1, None, kl=None)])


def test_no_emoji_in_names():
    with console.capture() as capture:
        console.print(":x:")
    assert capture.get() == ":x:\n"
