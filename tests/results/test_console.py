"""Tables of results: every family is told apart, however many there are."""

import re
from pathlib import Path

import pyarrow as pa
import pytest

from lit_prompt.records.results import SCHEMA
from lit_prompt.results.comparisons import Comparison
from lit_prompt.results.console import print_table
from lit_prompt.results.results_shown import print_comparisons, print_results, print_unfinished
from lit_prompt.results.table import Table


def results(families, entropies, per_entropy=2):
    return pa.Table.from_pylist(
        [
            {"target_id": f"{f}/{h}/{k}", "family": f, "entropy": h, "kl": 0.25 + k, "kl_uniform": 8.0 - h, "tv": 0.5}
            for f in families
            for h in entropies
            for k in range(per_entropy)
        ],
        schema=SCHEMA,
    )


@pytest.fixture
def terminal(capsys, monkeypatch):
    """What a terminal of 80 columns shows."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("rich.console.Console.is_terminal", True)
    return capsys


@pytest.fixture
def printed(terminal):
    def run(table):
        print_results(table)
        return terminal.readouterr().out

    return run


def test_a_row_for_each_family_and_entropy(printed):
    said = printed(results(["random", "outlier"], [1.0, 2.0, 3.0], 5))
    assert re.findall(r"^ (random|outlier) +(\d.00) +5 +2.250 ", said, re.M) == [
        (family, f"{h}.00") for family in ("random", "outlier") for h in (1, 2, 3)
    ]
    assert re.search(r"^ all +1.00-3.00 +30 +2.250", said, re.M)


def test_one_family_needs_no_name(printed):
    said = printed(results(["random"], [1.0, 2.0], 14))
    assert "random" not in said
    assert re.search(r"^ +1.00-2.00 +28 +6.750", said, re.M)


def test_many_families_get_a_row_each(printed):
    families = [f"f{i}" for i in range(9)]
    said = printed(results(families, range(1, 9)))
    assert re.findall(r"^ (f\d) +1.00-8.00 +16 ", said, re.M) == families
    assert len(said.splitlines()) < 20


def test_a_long_name_is_folded_not_lost(printed):
    families = [f"other_tokenizer_outlier_{i}" for i in range(3)]
    said = printed(results(families, [1.0], 9))
    assert max(map(len, said.splitlines())) <= 80
    first = "".join(re.findall(r"^ ([\w]+)", said[said.index("───") :], re.M))
    assert first.startswith("".join(families))


def test_targets_that_no_search_did_anything_for_are_counted(printed):
    table = results(["a"], [1.0, 2.0]).to_pylist()
    for row, reason in zip(table, ("not_finite", "not_searched", "running", "steps"), strict=True):
        row["stop_reason"] = reason
        row["kl"] = row["kl"] if reason == "steps" else None
    said = printed(pa.Table.from_pylist(table, schema=SCHEMA))
    assert "1 of 4 targets have no prompt, as no search gave a finite number." in said


def test_a_search_that_has_not_ended_is_said_to_go_on(capsys):
    table = results(["a"], [1.0, 2.0]).to_pylist()
    for row, reason in zip(table, ("not_searched", "running", "running", "steps"), strict=True):
        row["stop_reason"] = reason
    print_unfinished(pa.Table.from_pylist(table, schema=SCHEMA), Path("logs/a/version_0"))
    said = " ".join(capsys.readouterr().out.split())
    assert "of 4 targets 2 are under way and 1 not begun. Resume it with: lit_prompt fit --run logs/a/version_0" in said
    print_unfinished(pa.Table.from_pylist(table[3:], schema=SCHEMA), None)
    assert capsys.readouterr().out == ""


def test_comparisons_fit_into_a_terminal_and_none_prints_nothing(terminal):
    print_comparisons([])
    assert terminal.readouterr().out == ""
    paired = Comparison("own_lm", "random", 32, 32, 0.0625, 2.5, 0.025, 0.01, 0.04, 1e-6, won=31)
    unpaired = Comparison("random: low entropy", "moderate entropy", 8, 16, 0.5, 2.0, 0.25, 0.2, 0.3, 1e-3)
    print_comparisons([paired, unpaired])
    said = terminal.readouterr().out
    assert max(map(len, said.splitlines())) <= 80
    assert re.search(r"own_lm / random, in pairs +32 +0.0625 +2.5000 +0.025 +0.01 to 0.04 +31 of 32", said)
    assert re.search(r"random: low entropy / +8, 16 +0.5000 +2.0000 +0.25 +0.2 to 0.3", said)
    assert "low, moderate, high: the lowest sixth" in " ".join(said.split())


def test_a_kl_that_rounding_has_made_negative_is_shown_as_none(printed):
    rows = [{"target_id": str(i), "family": "f", "entropy": 1.0, "kl": -1.4e-6} for i in range(30)]
    said = printed(pa.Table.from_pylist(rows, schema=SCHEMA))
    assert re.search(r"^ +1.00 +30 +0.000 +0.000 +0.000 ", said, re.M)
    assert "-0.000" not in said


def wide():
    head = ["target", *(f"column {k}" for k in range(9)), "TV", "draws"]
    return Table(head, [["family/of/targets/0", *["12345.678"] * 10, "3"]], ["target"], total=["all", *["9"] * 11])


def test_a_file_gets_every_column(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    print_table(wide())
    said = capsys.readouterr().out
    assert " family/of/targets/0 12345.678" in said
    assert said.count("12345.678") == 10
    assert re.search(r" TV +draws", said)


def test_a_narrow_terminal_leaves_whole_columns_out_and_names_them(terminal):
    print_table(wide())
    said = terminal.readouterr().out
    *lines, left_out = said.splitlines()
    assert max(map(len, lines)) <= 80
    assert said.count("12345.678") == said.count("column ") - 3 == 6
    assert left_out == (
        "no room for column 6; column 7; column 8; TV; draws: a terminal of 118 columns, or a file, has all"
    )


def test_rows_that_are_not_shown_take_no_room(terminal):
    few = Table(wide().head[:6], [["a", *"12345"], ["b", *["1" * 40] * 5]], ["target"])
    print_table(few, most=1)
    assert "no room for" not in terminal.readouterr().out


@pytest.mark.parametrize("name", ["\x1b[31mred", "a\0b", "a\nb", "[bold]", ":x:"])
def test_any_name_is_shown_as_it_is(capsys, monkeypatch, name):
    monkeypatch.setenv("COLUMNS", "80")
    print_table(Table([name, "n", name], [[name, "1", "2"]], ["name", name], name, name, total=[name, "1", "2"]))
    said = capsys.readouterr().out
    shown = name.encode("unicode_escape").decode()
    assert said.count(shown) == 6
    assert set(said) <= {*map(chr, range(32, 127)), "\n", "─"}


def test_a_table_of_very_many_rows_says_that_it_is_cut():
    table = Table(["n"], [[str(n)] for n in range(5)], [], caption="counted")
    assert table.first(5) is table
    assert list(table.first(2).rows) == [["0"], ["1"]]
    assert table.first(2).caption == "counted; the first 2 of 5 rows; the others are in the run's files"
