"""Prompts in Markdown, read back from what TensorBoard makes of them."""

import json
import xml.etree.ElementTree as ET

import pytest
from tensorboard.plugin_util import markdown_to_safe_html

from lit_prompt.results.markdown import code_span, means_table, prompt_table
from lit_prompt.results.text import visible
from lit_prompt.results.tokens_shown import error_lines, error_markdown
from tests.browser import copied

TEXTS = [
    " the fox",
    "a|b",
    "a\\|b",
    "||",
    "`",
    "a `b` c",
    "``` | ```",
    "`a``",
    "\\",
    "\\`|`\\\\",
    "line\nline\r\n\n| a | b |",
    "\u2028\x0b\x00\x1b[0m\t",
    "<b>&amp;<script>alert(1)</script>",
    "**bold** _x_ [link](http://a)",
    'it\'s "both"',
    "  ",
    "a  b   c\xa0",
    "",
    "日本語 �",
]


def cells(markdown):
    html = markdown_to_safe_html(markdown)
    rows = ET.fromstring(f"<page>{html}</page>").findall("./table/tbody/tr")
    return [[ET.tostring(cell, "unicode", "text").strip("\n") for cell in row] for row in rows]


def test_every_prompt_is_shown_as_it_is():
    rows = [(f"t/{i}", i / 7, text) for i, text in enumerate(TEXTS)]
    shown = cells(prompt_table(rows))
    assert [cell[:2] for cell in shown] == [[f"t/{i}", f"{i / 7:.4f}"] for i in range(len(TEXTS))]
    assert [json.loads(cell[2]) for cell in shown] == TEXTS
    assert not any("  " in cell[2] for cell in shown)  # a browser would show one space


def test_what_is_copied_from_tensorboard_is_the_prompt(tmp_path):
    html = markdown_to_safe_html(prompt_table([("t", 1.0, text) for text in TEXTS]))
    found = copied(f"<meta charset=utf-8><body>{html}</body>", "td:last-child code", tmp_path)
    assert [json.loads(text) for text in found] == TEXTS


def test_means_are_a_row_a_group():
    means = {"test/kl": 0.5, "test/js": 0.25, "test/a|b/c/kl": 1.0, "test/a|b/c/js": 0.125}
    assert cells(means_table(means)) == [["all", "0.5000", "0.2500"], ["a|b/c", "1.0000", "0.1250"]]


@pytest.mark.parametrize("target_id", ["a|b", "*a*_b_", "`a`|`", "<i>", "#1", "a\nb", "\x1b[31m\u202e"])
def test_any_name_of_a_target_is_one_cell(target_id):
    shown = cells(prompt_table([(target_id, 1.0, "x"), ("next", 2.0, "y")]))
    assert shown == [[visible(target_id), "1.0000", '"x"'], ["next", "2.0000", '"y"']]


@pytest.mark.parametrize("score", [float("inf"), float("nan")])
def test_no_prompt_yet_is_a_dash(score):
    assert cells(prompt_table([("a", score, "")])) == [["a", "-", "-"]]


def test_the_heading_names_the_score():
    assert "| KL (nats) |" in prompt_table([])
    assert "| KL + fluency (nats) |" in prompt_table([], "KL + fluency")


def test_a_plain_text_has_plain_quotes():
    assert code_span("a b") == "`a b`"


def test_errors_by_token_are_a_line_each():
    records = [
        {"token": token, "target_probability": p, "reached_probability": q, "token_kl": 0.1, "wrong_mass": 0.3}
        for token, p, q in ((" a*b*", 0.5, 0.3), ("`|\n", 0.2, 0.1), ("c", 0.1, 0.4))
    ]
    html = markdown_to_safe_html(error_markdown(records, "best: *x*\n\0"))
    shown = "".join(ET.fromstring(f"<page>{html}</page>").itertext())
    lines = [line.strip() for line in shown.splitlines() if line.strip()]
    assert lines[0] == r"best: *x*\n\x00"
    assert [line.split(" 0.")[0] for line in lines[1:]] == ["missing", "' a*b*'", "'`|\\n'", "excess", "'c'"]
    assert error_lines(records) == [
        "missing 0.300:  ' a*b*' 0.5 to 0.3 (0.1 nats),  '`|\\n' 0.2 to 0.1 (0.1 nats)",
        "excess 0.300:  'c' 0.1 to 0.4 (0.1 nats)",
    ]
