"""A text is what was typed: on the command line, in a config, in what a run saves, in any locale."""

import os
import subprocess
import sys

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jsonargparse import ActionConfigFile

from lit_prompt.cli.settings_parser import SettingsParser
from lit_prompt.cli.yaml_text import read_yaml, write_yaml
from lit_prompt.data.families import TargetFamily
from lit_prompt.data.texts import TextSource

ODD = [
    "Question: how are you?", "- one", "#x", "a #b", "1e5", "1_000", "0x10", "1:30", "12", "2020-01-01", "null", "~",
    "yes", "true", ".inf", "=", "<<", "[a, b]", "[INST] hi", "{a: b}", "'x'", '"x"', "*a", "&a", "!t", "%a", "@a",
    "? a", "---", "...", "|\n x", "> y", "-", "--x", "", " ", "\n", "\t x ", "\r\n", "\x07\x1b[0m", "\ufeffb", "\x85",
    "a\u2028b", "é ß 中 😀", "\ufffe", "x" * 90 + " y" * 90,
]  # fmt: skip
texts = st.text() | st.sampled_from(ODD)


def _parser():
    parser = SettingsParser(exit_on_error=False)
    parser.add_argument("--config", action=ActionConfigFile)
    parser.add_subclass_arguments(TargetFamily, "one")
    parser.add_subclass_arguments(TargetFamily, "other")
    parser.add_class_arguments(TextSource, "plain")
    return parser


PARSER = _parser()


def _texts(one, other, plain):
    return [one.name, *one.tokens, other.lm, other.contexts.path, other.contexts.config, plain.path, plain.config]


@given(texts, texts, texts, st.lists(texts | st.integers(0, 20), min_size=1))
@example("Question: how are you?", "#x", "1e5", ["12", 12, "yes"])
@example("- one", "~", "null", ["null", "#x", " "])
@settings(max_examples=100, deadline=None)
def test_from_the_command_line_to_what_is_saved_and_back(name, perhaps, path, tokens):
    perhaps = perhaps if perhaps != "null" else "~"  # on the command line "null" is none where there may be none
    options = {"one": "OneHot", "one.name": name, "one.tokens": write_yaml(tokens)}
    options |= {"other": "FromLM", "other.lm": perhaps, "other.contexts.path": path, "other.contexts.config": perhaps}
    options |= {"plain.path": path, "plain.config": perhaps}
    given_ = [name, *tokens, perhaps, path, perhaps, path, perhaps]
    typed = PARSER.parse_args([f"--{key}={value}" for key, value in options.items()])
    assert _texts(typed.one.init_args, typed.other.init_args, typed.plain) == given_
    saved = PARSER.dump(typed, skip_unset=False)
    again = PARSER.parse_args([f"--config={saved}"])
    assert PARSER.dump(again, skip_unset=False) == saved
    made = PARSER.instantiate(again)
    assert _texts(made.one, made.other, made.plain) == given_


@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts,
    lambda values: st.lists(values) | st.dictionaries(texts, values),
))  # fmt: skip
@settings(deadline=None)
def test_what_is_written_reads_back(settings_):
    assert read_yaml(write_yaml({"key": settings_})) == {"key": settings_}


@pytest.mark.parametrize(
    ("written", "expected"), [("null", None), ("'null'", "null"), ("'#x'", "#x"), ("'1e5'", "1e5")]
)
def test_null_and_the_word(written, expected):
    parsed = PARSER.parse_args([f"--config=plain: {{path: x, config: {written}}}"])
    assert PARSER.instantiate(parsed).plain.config == expected
    assert PARSER.parse_args(["--plain.path=x", "--plain.config=null"]).plain.config is None


@pytest.mark.parametrize(
    ("config", "where", "read_as"),
    [
        ("model: {init_args: {before: yes}}", "model.before", "True"),
        ("model: {init_args: {before: 1e5}}", "model.before", "100000.0"),
        ("model: {init_args: {init: {kind: text, text: 12}}}", "model.init.text", "12"),
        ("model: {class_path: HardPrompt, init_args: {tokens: {block: [a, no]}}}", "model.tokens.block", "False"),
        ("data: {families: [{class_path: OneHot, init_args: {tokens: [yes, a]}}]}", "data.families.tokens", "True"),
        ("data: {families: [{class_path: OneHot, init_args: {tokens: [1.5]}}]}", "data.families.tokens", "1.5"),
    ],
)
def test_what_yaml_takes_for_something_else_is_named(cli, workdir, config, where, read_as):
    (workdir / "c.yaml").write_text(config)
    said = cli("fit", "-c", "c.yaml", "--print_config", code=2)
    assert f"{where}: YAML reads a value as {read_as} where a text is wanted; put it between quotes" in said
    assert said.count("\n") == 1


ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.mark.parametrize("locale", [{}, ASCII], ids=["utf-8", "ascii"])
def test_a_run_in_any_locale(workdir, tiny_lm, locale):
    before = "Frage: ist 1e5 größer? 中"
    (workdir / "odd.yaml").write_text(
        'model: {init_args: {steps: 2, after: "1e5 é"}}\n'
        "data: {families: [{class_path: OneHot, init_args: {count: 2}}]}\n",
        encoding="utf-8",
    )
    fit = ["fit", "-c", "odd.yaml", "--lm", str(tiny_lm), "--model.before", before]
    for command in (fit, ["test", "--run", "logs/odd/version_0"]):
        done = subprocess.run(
            [sys.executable, "-m", "lit_prompt", *command], env=os.environ | locale, capture_output=True
        )
        assert done.returncode == 0, done.stderr.decode()
    saved = yaml.safe_load((workdir / "logs" / "odd" / "version_0" / "config.yaml").read_text(encoding="utf-8"))
    assert saved["model"]["init_args"]["before"] == before
    assert saved["model"]["init_args"]["after"] == "1e5 é"


def test_a_text_that_begins_with_a_dash(cli, workdir):
    assert "before: -x" in cli("fit", "--model.before=-x", "--print_config").replace('"', "")
    assert "stands behind an equals sign: --KEY=-VALUE" in cli("fit", "--model.before", "-x", "--print_config", code=2)


def test_an_argument_that_is_no_text():
    command = [sys.executable.encode(), b"-m", b"lit_prompt", b"fit", b"--model.before", b"\xff"]
    done = subprocess.run(command, capture_output=True)
    assert done.returncode == 2
    assert done.stderr == b"lit_prompt: error: an argument is not UTF-8: \\udcff\n"
