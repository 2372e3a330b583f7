"""Numbers and texts as they are shown."""

import ast
import json
import math

import pytest

from lit_prompt.results.text import as_json, nats, number, visible


@pytest.mark.parametrize("value", [-1.4e-6, -0.0, 0.0, -0.2])
def test_no_kl_is_negative(value):
    assert nats(value) == "0.000"
    assert nats(value, 1) == "0.0"


def test_numbers_keep_their_sign_unless_they_round_to_zero():
    assert number(-0.0004) == "0.000"
    assert number(-0.0006) == "-0.001"
    assert nats(1.23456, 4) == number(1.23456, 4) == "1.2346"


def test_what_is_not_known_is_a_dash():
    assert nats(None) == number(None) == number(math.nan) == "-"


@pytest.mark.parametrize("character", ["\x1b", "\0", "\x7f", "\x9b", "\n", "\r", "\t", "\u202e", "\u200b", "\ud800"])
def test_what_cannot_be_seen_is_escaped(character):
    shown = visible(f"a{character}b")
    assert shown.isprintable()
    assert shown.isascii()
    assert ast.literal_eval(f"'{shown}'") == f"a{character}b"


@pytest.mark.parametrize(
    "text", ["", " ", "a  b   ", '"\\', "\x07\ue000\u200b\xa0\n\t\u2028", "\U000f0000", "日本語 é 😀 \ufffd"]
)
def test_json_gives_a_text_back_in_characters_that_every_copy_keeps(text):
    shown = as_json(text)
    assert json.loads(shown) == text
    assert shown.isprintable()
    assert "  " not in shown


def test_what_can_be_seen_stays():
    text = "word [b] \\ ' \" 日本語 é 😀 $x$"
    assert visible(text) == text
