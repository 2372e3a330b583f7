"""Results and hard prompts on a screen of 80 columns."""

import json
import re

import pyarrow as pa
import pytest
from rich.cells import cell_len

from lit_prompt.records.results import SCHEMA
from lit_prompt.results.console import console
from lit_prompt.results.results_shown import print_floors, print_prompts, print_results


def row(i, text, **fields):
    found = {"target_id": f"t/{i}", "family": "f", "entropy": 1.0, "kl": 1.0 + i, "prompt_text": text}
    return found | {"kl_text": None if text is None else found["kl"]} | fields


@pytest.fixture
def printed(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")

    def run(rows, show=print_prompts):
        show(pa.Table.from_pylist(rows, schema=SCHEMA))
        said = capsys.readouterr().out
        prompts = [line for line in said.splitlines() if line.startswith('"')]
        assert all(cell_len(line) <= 90 for line in said.splitlines() if line not in prompts)
        return said

    return run


@pytest.mark.parametrize(
    "text",
    [
        "[bold]", "[/]", "\\[bold]", "a\\", "[link=x]", ":smile: :x:", "a\nb", "\x1b[31m", "日本語", "''\"", "",
        "a  b   c", "  ", "x y\xa0z ", "word [bold] " * 40, "\ufffd\ue000\u200b\u202e\U000e0001",
    ],
)  # fmt: skip
def test_a_copied_line_is_the_prompt(printed, text):
    (line,) = (line for line in printed([row(0, text)]).splitlines() if line.startswith('"'))
    assert json.loads(line) == text
    assert line.isprintable()
    assert "  " not in line


def test_best_first_and_no_more_than_fit(printed):
    said = printed([row(i, f"p{i}") for i in reversed(range(20))])
    assert re.findall(r'^"p(\d+)"$', said, re.MULTILINE) == [str(i) for i in range(16)]
    assert "... and 4 more in the file." in said
    assert "the same for 20 of 20 prompts" in " ".join(said.split())


def test_a_text_without_a_kl(printed):
    said = printed([row(0, "a", kl_text=None), row(1, "b", kl_text=2.5), row(2, "c")])
    assert 't/0: KL 1.000, as text -\n"a"\n' in said
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


# ---- KLs and floors ----


def results(count, entropies=(1.0, 1.0, 2.0), **fields):
    known = {"kl_floor": 0.5, "kl_uniform": 7.0, "kl_unprompted": 9.0, "tv": 0.25} | fields
    return [row(i, None, entropy=entropies[i % len(entropies)], **known) for i in range(count)]


def cells(said, name):
    (line,) = (line for line in said.splitlines() if line.split()[:1] == [name])
    return line.split()[1:]


def test_few_targets_have_a_row_each_under_their_names(printed):
    said = printed(results(24), print_results)
    for i in range(24):
        assert cells(said, f"t/{i}") == [f"{(1, 1, 2)[i % 3]}.000", f"{1 + i}.000", "0.500", "7.000", "9.000", "0.250"]
    assert cells(said, "median")[:2] == ["1.000", "12.500"]
    assert "10 %" not in said


def test_a_floor_that_is_not_known_is_explained(printed):
    told = {"kl_uniform": 7.0, "kl_floor": 0.5}
    said = [
        " ".join(printed([row(0, None, **told | floor)], print_results).split()) for floor in ({}, {"kl_floor": None})
    ]
    assert ["as over cells of answers (not convex)" in each for each in said] == [False, True]


def test_a_mixture_of_a_task_counts_once_and_its_best_prompt_is_in_the_table(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    mixed = {"components": 2, "kl": 0.25, "kl_single": 0.75, "weight": 0.5, "split": "train"}
    tasks = [each | {"task": task} for each, task in zip(results(3, **mixed), "aab", strict=True)]
    print_results(pa.Table.from_pylist(tasks, schema=SCHEMA))
    said = capsys.readouterr().out
    assert "2 of 2 mixtures are below the floor" in said
    assert re.search(r"^ *task +targets +KL +of one +floor ", said, re.MULTILINE)
    assert re.search(r"^ *a +2 +0\.250 +0\.750 +0\.500 ", said, re.MULTILINE)
    print_results(pa.Table.from_pylist(results(3, **mixed), schema=SCHEMA))
    assert "3 of 3 mixtures are below the floor" in capsys.readouterr().out


def test_many_targets_are_grouped(printed):
    said = printed(results(25), print_results)
    assert "t/" not in said
    assert cells(said, "1.00")[0] == "17"


def test_floors_of_few_targets_have_their_names_too(printed):
    floors = [{"target_id": f"t/{i}", "family": "f", "entropy": 1.0, "kl_floor": i / 4, "kl_ball": i / 4 + 0.001,
               "kl_sphere": i / 4 + 0.01} for i in range(3)]  # fmt: skip
    said = printed([], lambda _: print_floors(pa.Table.from_pylist(floors)))
    assert cells(said, "t/2") == ["1.000", "0.500", "0.510", "1.0e-03"]


@pytest.mark.parametrize("count", [3, 30])
def test_another_objective_stands_beside_the_kl(printed, count):
    of_js = results(count, (1.0,), kl=2.0, objective="0.5 js + 1 reverse_kl", objective_value=0.125)
    said = printed(of_js, print_results)
    assert re.search(r" 2.000 +0.125 +0.500 +7.000 ", said)
    assert "objective: 0.5 JS + 1 reverse KL, which was minimised" in " ".join(said.split())
    assert "objective" not in printed(results(count, objective="kl", objective_value=2.0), print_results)


def test_no_emoji_in_names():
    with console.capture() as capture:
        console.print(":x:")
    assert capture.get() == ":x:\n"
