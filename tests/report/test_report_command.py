"""``lit_prompt report``: page and figures, from made-up results and from a run."""

import html
import io
import json
import math
import re
import shutil
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from string import ascii_lowercase

import pytest
from matplotlib.text import Text

from lit_prompt.report.method_figures import excess_by_entropy
from lit_prompt.report.runs import read_runs
from lit_prompt.report.sections import sections
from lit_prompt.report.study import study_of
from lit_prompt.report.target_figures import kl_by_entropy, outlier_against_random
from lit_prompt.report.task_figures import kl_by_target
from lit_prompt.report.token_figures import token_floor_by_length
from lit_prompt.results.style import figure_style
from tests.browser import copied
from tests.report.conftest import row, study_rows

FIGURES = [
    "kl_by_entropy", "outlier_against_random", "by_maker", "kl_by_length", "token_floor", "excess", "parts",
    "method_against_method", "kl_by_seconds", "kl_by_components", "tasks",
]  # fmt: skip


class Page(HTMLParser):
    """Checks that tags are closed; collects what a browser would load, and the text."""

    def __init__(self, text):
        super().__init__()
        self.open, self.loaded, self.tags, self.words = [], [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.loaded += [value for name, value in attrs if name in ("src", "href", "data") and value[:1] != "#"]
        if tag not in ("meta", "link", "br", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


@pytest.fixture
def report(cli, tmp_path):
    def make(*runs):
        cli("report", *runs, "--out", tmp_path / "report")
        return Page((tmp_path / "report" / "report.html").read_text(encoding="utf-8"))

    return make


def task_rows(task, kls, held_out=(), weights=None, **columns):
    """A task whose targets are named by letters, those that were searched for first."""
    weights = weights or [1 / len(kls)] * len(kls)
    found = [
        row(f"user/{name}", 1.0, kl, task=f"user/{task}", weight=weight, **columns)
        for name, kl, weight in zip(ascii_lowercase, kls, weights, strict=False)
    ]
    out = {"split": "test", "task": f"user/{task}", "weight": 1 / max(len(held_out), 1)}
    return found + [row(f"user/new {i}", 1.0, kl, **out, **columns) for i, kl in enumerate(held_out)]


def full(**columns):
    """Results with everything that a report can show."""
    rows = study_rows(**columns) + task_rows("survey", [0.1, 0.4], [0.5], **columns)
    for each in rows:
        each["kl_floor"], each["excess"] = 0.7 * each["kl"], 0.3 * each["kl"]
        each["excess_norm"], each["excess_prompt"] = 0.1 * each["kl"], 0.2 * each["kl"]
    return rows


def with_token_floors(rows):
    """Gives the random targets among results of hard prompts token floors, half of them above the certified floor."""
    random = [each for each in rows if each["family"] == "random" and each["partner_of"] is None]
    for i, each in enumerate(random):
        each["kl_floor_tokens"] = (0.9 if i % 2 else 0.5) * each["kl"]
        each["excess_tokens"] = each["kl"] - max(each["kl_floor"], each["kl_floor_tokens"])
        each["token_floor_curve"] = [each["kl"] / (n + 1) for n in range(7)]
    return random


def test_everything_is_shown(report, make_run, tmp_path):
    hard = full(method="gcg", factor=1.4, prompt_text="once upon", kl_text=1.5)
    with_token_floors(hard)
    neox = {"lm": "data/lms/tales-neox", "lm_fingerprint": "neox", "seed": 1}
    page = report(
        make_run("soft/version_0", full()), make_run("soft/version_1", full(prompt_length=1, factor=1.1)),
        make_run("hard/version_0", hard),
        make_run("neox/version_0", full(**neox)),
        make_run("neox/version_1", full(**neox, factor=0.8, components=2), {"components": 2}),
    )  # fmt: skip
    figures = tmp_path / "report" / "figures"
    assert {path.name for path in figures.iterdir()} == {
        f"{name}.{kind}" for name in FIGURES for kind in ("png", "pdf")
    }
    assert (figures / "parts.png").read_bytes().startswith(b"\x89PNG")
    assert (figures / "parts.pdf").read_bytes().startswith(b"%PDF")
    assert page.tags.count("img") == len(FIGURES)
    assert all(uri.startswith(("data:image/svg+xml;base64,", "data:,")) for uri in page.loaded)
    assert "url(" not in (tmp_path / "report" / "report.html").read_text(encoding="utf-8").split("</style>")[0]
    assert "Not in this report" not in page.text
    assert "once upon" in page.text
    assert "soft comes closer than hard (gcg)" in page.text
    random = [each for each in hard if each["excess_tokens"] is not None]
    mean = sum(each["excess_tokens"] for each in random) / len(random)
    assert f"and {mean:.4f} (95 % interval" in page.text
    assert f"for {len(random) // 2} of {len(random)} targets that is the token floor." in page.text
    assert "above both: the KL less the larger floor." in page.text


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_token_floor_in_a_panel_holds_for_all_its_runs(make_run, order):
    found = []
    for number, curve in enumerate(([3.0, 2.5, 2.0, 1.5, 1.0, 0.5, 0.0], [2.0, 2.0, 2.0, 2.0, 0.5, 0.5, 0.5])):
        rows = [row("random/0", 4.0, 3.0, method="hard", token_floor_curve=curve, kl_floor_tokens=curve[0])]
        found.append(make_run(f"t{number}/version_0", rows, {"steps": number + 1}))
    (panel,) = token_floor_by_length(study_of(read_runs([found[i] for i in order]))).axes
    (line,) = [line for line in panel.lines if len(line.get_xdata()) == 7]
    assert line.get_ydata().tolist() == [2.0, 2.0, 2.0, 1.5, 0.5, 0.5, 0.0]


def test_what_mixtures_are_above_is_the_token_floor_alone(report, make_run):
    known = {"method": "gcg", "kl_floor": 1.5, "kl_floor_tokens": 0.5, "excess_tokens": 1.5, "components": 2}
    page = report(make_run("a/version_0", [row("random/0", 4.0, 2.0, **known)], {"components": 2}))
    assert "less the larger floor, of a mixture less the token floor alone, as the floor is of single" in page.text
    assert page.text.count("Needs single prompts: the certified floor is of those") == 2


def test_no_name_is_a_formula_or_hidden_in_any_figure(make_run):
    bad = "$\\frac{\x1b[31m\n\u202e$"
    rows = [full(lm=bad, factor=factor) + task_rows(bad, [0.1, 0.2], lm=bad) for factor in (1.0, 1.4)]
    runs = [make_run(f"{bad}{i}/version_0", each) for i, each in enumerate(rows)]
    study = study_of(read_runs(runs))
    for section in sections(study):
        with figure_style():
            if (figure := section.figure(study)) is None:
                continue
        figure.savefig(io.BytesIO(), format="svg")
        texts = [text for text in figure.findobj(Text) if "frac" in text.get_text()]
        assert texts
        assert not any(text.get_parse_math() for text in texts)
        assert all(text.get_text().isprintable() for text in figure.findobj(Text))


def test_held_out_targets_stand_beside_the_others_in_every_table(report, make_run):
    rows = task_rows("survey", [0.125, 0.375], [0.75])
    run = make_run("a/version_0", rows)
    others = [each | {"lm": "lms/tales-neox", "lm_fingerprint": "neox", "kl": 2 * each["kl"]} for each in rows]
    make_run("a/version_0/on-tales-neox-1234", others)
    page = report(run)
    assert "targets KL median 10 to 90 % held out no prompt uniform seconds" in page.text
    assert "tales-llama soft 2 0.250 0.250 0.150 to 0.350 0.750" in page.text
    assert "tales-llama user (held out) 1 1.00 to 1.00 0.750" in page.text
    assert "user/survey 2 + 1 0.250 0.750" in page.text
    assert "new 0 held out 0.750" in page.text
    assert "on held-out targets of its task 0.7500" in page.text
    assert "user/new 0 (held out) 1.000 0.750 1.500" in page.text


def test_draws_and_asking_stand_beside_the_kl(report, make_run):
    told = {"draws_to_tell": 40.0, "kl_asking": 1.25}
    plain = report(make_run("a/version_0", [row(f"a/{i}", 1.0, 0.5, **told) for i in range(6)]))
    assert "no prompt asking uniform draws seconds" in plain.text
    assert "9.000 1.250 7.318 40 0.50" in plain.text
    assert "Does it sample right?" not in plain.text
    way = {"sampling": "temperature 0.7", "sampled_kl": 0.375, "sampled_draws_to_tell": 30.0}
    drawn = {"draws": 100, "draws_p_value": 0.25}
    page = report(make_run("b/version_0", [row("a/die", 1.0, 0.5, **told, **way, **drawn)]))
    assert "soft (b/version_0): as tokens are sampled: temperature 0.7" in page.text
    assert "target entropy KL sampled KL to tell draws p a/die 1.000 0.500 0.375 30 100 0.2500" in page.text


def drawn(panel):
    """The points of a panel: what a target adds by its name, and which of them are hollow."""
    names = [label.get_text() for label in panel.get_yticklabels()]
    points = [line for line in panel.lines if line.get_marker() not in ("None", "", None)]
    found = {names[round(point.get_ydata()[0])]: point for point in points}
    return {name: point.get_xdata()[0] for name, point in found.items()}, {
        name for name, point in found.items() if point.get_markerfacecolor() == "white"
    }


def test_targets_of_a_task_are_drawn_by_what_they_add(make_run):
    rows = task_rows("survey", [0.1, 0.4, 0.2], [0.5, 0.7], weights=[0.6, 0.3, 0.1]) + task_rows("alone", [3.0])[:1]
    rows[-1] |= {"target_id": "user/alone"}
    figure = kl_by_target(study_of(read_runs([make_run("a/version_0", rows)])))
    (panel,) = figure.axes
    assert panel.get_title("left") == "user/survey on tales-llama"
    kl, hollow = drawn(panel)
    assert kl == pytest.approx({"b": 0.12, "a": 0.06, "c": 0.02, "new 1": 0.35, "new 0": 0.25})
    assert [label.get_text() for label in panel.get_yticklabels()] == ["b", "a", "c", "new 1", "new 0"]
    assert hollow == {"new 0", "new 1"}


@pytest.mark.parametrize("count", [2, 50, 90])
def test_many_targets_of_a_task_do_not_overlap(make_run, count):
    rows = [row(f"user/question {i}", 1.0, 0.01 * (i + 1), task="user/t", weight=1 / count) for i in range(count)]
    with figure_style():
        figure = kl_by_target(study_of(read_runs([make_run("a/version_0", rows)])))
    figure.draw_without_rendering()
    (panel,) = figure.axes
    boxes = [label.get_window_extent() for label in panel.get_yticklabels()]
    assert len(boxes) == min(count, 60)
    assert all(below.y1 <= above.y0 for above, below in pairwise(boxes))
    assert ("the 60 of 90 targets that carry most" in panel.get_title("left")) == (count == 90)
    assert panel.get_yticklabels()[0].get_text() == f"question {count - 1}"


def test_what_is_absent_is_named_with_what_would_give_it(report, make_run, tmp_path):
    make_run("a/version_0", study_rows())
    (tmp_path / "report" / "figures").mkdir(parents=True)
    (tmp_path / "report" / "figures" / "parts.png").write_text("of an earlier report")
    page = report("logs/a/version_0")
    absent = page.text.split("Not in this report")[1]
    for words in (
        "--model.length 1",
        "certified floor",
        "two methods on the same targets",
        "several methods or lengths",
    ):
        assert words in absent
    assert "Soft prompts have no text" in page.text
    assert "lit_prompt predict --run RUN" in page.text
    assert page.tags.count("img") == 3
    assert not (tmp_path / "report" / "figures" / "parts.png").exists()


def test_another_objective_stands_beside_the_kl(report, make_run):
    of_js = {"objective": "js", "objective_value": 0.125}
    page = report(make_run("a/version_0", [row(f"a/{i}", 1.0, 0.5, **of_js) for i in range(6)]))
    assert "10 to 90 % objective its mean" in page.text
    assert "0.500 0.500 0.500 to 0.500 JS 0.125" in page.text
    assert "KL 0.5000, JS 0.1250" in page.text
    assert "soft by JS" in page.text
    plain = report(make_run("b/version_0", [row(f"a/{i}", 1.0, 0.5, objective="kl") for i in range(6)]))
    assert "objective its mean" not in plain.text


def test_panels_without_data_are_left_out(make_run):
    neox = {"lm": "data/lms/tales-neox", "lm_fingerprint": "neox-fingerprint"}
    runs = [make_run("a/version_0", study_rows()), make_run("b/version_0", study_rows(method="gcg", **neox))]
    figure = outlier_against_random(study_of(read_runs(runs)))
    assert [axes.get_title("left") for axes in figure.axes] == ["tales-llama", "tales-neox"]
    assert all(axes.has_data() and axes.get_ylabel() and axes.get_xlabel() for axes in figure.axes)


def test_a_single_target_makes_a_report(report, make_run):
    page = report(make_run("a/version_0", [row("die/0", 1.79, 0.03)]))
    assert "too few targets to compare" in page.text
    assert "tales-llama die 1 1.79 to 1.79 0.030" in page.text
    few = [each for each in study_rows(count=2) if "own_lm" in each["target_id"]]
    assert "five or more targets that an LM makes" in report(make_run("b/version_0", few)).text


def test_texts_cannot_break_the_page(report, make_run):
    evil = "<script>alert('x')</script> & \"$y$\" </td>\n\u202e"
    names = {"lm": f"a/{evil}", "method": evil}
    rows = [
        row(f"{evil}/{i}", 1.0 + i, 0.1 * (i + 1), prompt_text=f"{evil}{i}", kl_text=1.0, **names) for i in range(8)
    ]
    tokens = [
        {
            "target_id": rows[i]["target_id"],
            "token": evil,
            "target_probability": p,
            "reached_probability": q,
            "token_kl": p * math.log(p / q) + q - p,
        }
        for i in range(8)
        for p, q in ((0.5, 0.25), (0.25, 0.5))
    ]
    page = report(make_run("a/version_0", rows, tokens=tokens))
    assert "script" not in page.tags
    assert "alert('x')" in page.text
    assert r"</td>\n\u202e" in page.text  # what cannot be seen, or turns the line around, is escaped
    # the token's share of the KL, p ln(p / q) + q - p: where the target has more than was reached
    assert re.search(r" 0\.097\b", page.text)
    assert not re.search(r" 0\.077\b", page.text)


PROMPTS = [
    " once upon a time", "  two  spaces   ", "trailing ", " ", "a \\ back\\n `slash`", "<b>&amp;</b> &nbsp;",
    "日本語 é 😀", '"quoted"', "line\n\tline\r\n", "non\xa0breaking\u2003spaces\u2028", "\x07\ue000\u202e\u200b\xad",
    "x" * 300, "word " * 80,
]  # fmt: skip


def test_what_is_copied_from_the_page_is_the_prompt(report, make_run, tmp_path):
    rows = [row(f"a/{i}", 1.0, 0.1 + i, prompt_text=text, kl_text=0.1 + i) for i, text in enumerate(PROMPTS)]
    page = report(make_run("a/version_0", rows))
    found = copied((tmp_path / "report" / "report.html").read_text(encoding="utf-8"), ".prompt", tmp_path)
    plain = [text.isprintable() for text in PROMPTS]
    assert [text if ok else json.loads(text) for text, ok in zip(found, plain, strict=True)] == PROMPTS
    assert page.text.count("(as JSON)") == plain.count(False)


def test_of_a_mixture_each_prompt_is_shown_with_its_weight(report, make_run):
    drawn = {"components": 2, "weights": [0.9, 0.1], "component_texts": [" once", "<b>\n"], "kl_text": 0.1}
    page = report(make_run("a/version_0", [row("a/x", 1.0, 0.1, method="gcg", **drawn)], {"components": 4}))
    assert "target prompts, of which one is drawn by its weight a/x" in page.text
    assert '90.00 % once 10.00 % "<b>\\n" (as JSON)' in page.text
    assert "Soft prompts have no text" not in page.text
    soft = drawn | {"component_texts": None, "kl_text": None}
    assert "Soft prompts have no text" in report(make_run("b/version_0", [row("a/x", 1.0, 0.1, **soft)])).text


def test_few_targets_are_all_shown_and_of_many_the_best_and_the_worst(report, make_run):
    for count, shown in ((1, 1), (24, 24), (25, 6)):
        rows = [row(f"a/{i}", 1.0, 0.1, prompt_text="x", kl_text=0.1) for i in range(count)]
        assert report(make_run(f"a/version_{count}", rows)).words.count("x") == shown


def test_no_control_character_is_on_the_page(report, make_run, tmp_path):
    prompt, name = "  two  spaces\n\tand a \\\\ line\\n", "bad\x1b[31m\0name\n"
    texts = {"prompt_text": prompt, "kl_text": 1.0, "method": name}
    page = report(make_run("a/version_0", [row(f"{name}/{i}", 1.0 + i, 0.1, **texts) for i in range(8)]))
    assert any(r"bad\x1b[31m\x00name\n/0" in words for words in page.words)
    html = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert not set(html) & {chr(i) for i in range(32) if chr(i) not in "\n\t"}


def test_no_kl_is_shown_below_zero(report, make_run):
    page = report(make_run("a/version_0", [row(f"die/{i}", 1.79, -1.4e-6) for i in range(6)]))
    assert "-0.0" not in page.text
    assert "1.79 to 1.79 0.000" in page.text
    assert "KL 0.0000" in page.text


def test_the_same_results_give_the_same_page(report, make_run, tmp_path):
    runs = make_run("a/version_0", study_rows(count=5)), make_run("b/version_0", study_rows(count=5, method="gcg"))
    report(*runs)
    files = [path for path in (tmp_path / "report").rglob("*") if path.is_file()]
    first = {path: path.read_bytes() for path in files}
    report(*runs)
    assert {path: path.read_bytes() for path in files} == first


def test_a_run_from_search_to_report(cli, workdir, tiny_lm, report, caplog):
    config = workdir / "tiny.yaml"
    config.write_text(
        f"lm: {tiny_lm}\nmodel: {{class_path: SoftPrompt, init_args: {{length: 2, steps: 2}}}}\n"
        "data:\n  families:\n    - class_path: EntropyMatched\n      init_args: {entropies: 6, per_entropy: 5}\n"
        "    - class_path: Outlier\n      init_args: {entropies: [2.0], per_entropy: 5, k: 3}\n"
    )
    cli("fit", "--config", config)
    said = cli("report", "logs/tiny/version_0", "--out", "r", code=2)
    assert "run lit_prompt test --run logs/tiny/version_0 first" in said
    cli("test", "--run", "logs/tiny/version_0")
    (workdir / "logs/tiny/version_1").mkdir()
    shutil.copy("logs/tiny/version_0/config.yaml", "logs/tiny/version_1")
    said = cli("report", "logs/tiny/version_0", "logs/tiny/version_1", "--out", "r")
    assert "report    r/report.html" in said
    assert "left out: logs/tiny/version_1 was not tested (lit_prompt test --run logs/tiny/version_1)" in caplog.text
    shutil.rmtree("r")
    cli("predict", "--run", "logs/tiny/version_0")
    page = report(Path("logs/tiny/version_0"))
    assert "Outlier targets are easier than random ones of the same entropy" in page.text
    assert "wanted → reached" in page.text
    assert html.escape("tiny-llama") in page.text


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ((), "the following arguments are required: RUN, --out; see lit_prompt report --help"),
        (("here", "--out", "r"), "no run here"),
        (("here", "--out", "file"), "--out: file is a file; name a folder"),
        (("here", "--oout", "r"), "see lit_prompt report --help"),
    ],
)
def test_mistakes_are_one_line(cli, workdir, args, said):
    (workdir / "file").write_text("")
    printed = cli("report", *args, code=2)
    assert said in printed
    assert printed.count("\n") == 1


def test_help(cli):
    assert "lit_prompt report RUN [RUN ...] --out FOLDER" in cli("report", "--help")


def test_legends_fit_their_figures(make_run):
    names = {"method": "a method with a name that is long"}
    rows = [each | names | {"kl_floor": 0.5 * each["kl"], "excess": 0.5 * each["kl"]} for each in study_rows()]
    study = study_of(read_runs([make_run(f"r{i}/version_0", rows, {"steps": 10**i}) for i in range(4)]))
    for draw in (kl_by_entropy, excess_by_entropy, outlier_against_random):
        figure = draw(study)
        (legend,) = figure.legends
        assert legend.get_window_extent().width <= figure.bbox.width


def test_results_on_other_lms_stand_beside_the_runs_own(make_run, report):
    own = [row(f"my/{name}", 1.0, kl, kl_text=kl, method="gcg") for name, kl in (("die", 0.125), ("coin", 0.25))]
    own.append(row("my/lost", 1.0, 0.5, kl_text=0.5, method="gcg"))
    there = {"lm": "lms/tales-neox", "lm_fingerprint": "neox-fingerprint"}
    others = [each | there | {"kl": kl, "kl_text": kl} for each, kl in zip(own, (1.625, 1.75), strict=False)]
    run = make_run("a/version_0", own)
    make_run("a/version_0/on-tales-neox-1234", [others[0] | {"kl": 99.0}, others[1]])
    make_run("a/version_0/on-tales-neox-1234", others, file="results-1.parquet")
    page = report(run)
    assert "hard (gcg) (a/version_0): prompts found on tales-llama, tested on tales-neox" in page.text
    assert "target entropy own LM other LM no prompt" in page.text
    assert "my/die 1.000 0.125 1.625 9.000 my/coin 1.000 0.250 1.750 9.000 median" in page.text
    assert "1 of 3 targets could not be carried over or tested" in page.text
    # they are no results of the run's own
    assert "1 LM: tales-llama" in page.text
