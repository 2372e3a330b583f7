"""A mistyped option is named as it was typed, with the option that was meant, where one is near."""

from pathlib import Path

import pytest

from lit_prompt.cli.near_options import nearest_option
from lit_prompt.data.texts import TextSource

KINDS = {
    "hard": "model: {class_path: HardPrompt, init_args: {length: 3}}\n",
    "soft": "model: {class_path: SoftPrompt, init_args: {length: 3}}\n",
}
SEARCHERS = "choose one of ARCA, CoordinateDescent, GBDA, GCG, HotFlip, PEZ, RandomSearch, SharedSearch"


@pytest.mark.parametrize(
    ("kind", "option", "said"),
    [
        ("hard", "model.init.texts.path", "; did you mean 'model.start.texts.path'?"),
        ("hard", "model.start.text.path", "; did you mean 'model.start.texts.path'?"),
        ("hard", "model.start.kidn", "; did you mean 'model.start.kind'?"),
        ("hard", "start.kind", "; did you mean 'model.start.kind'?"),
        ("hard", "modle.steps", "; did you mean 'model.steps'?"),
        ("hard", "trainer.loger", "; did you mean 'trainer.logger'?"),
        ("hard", "chunk_size", "; did you mean 'data.chunk_size'?"),
        ("hard", "foo.bar", ""),
        ("hard", "lm_options.zzz", ""),
        ("hard", "data.families.count", ""),
        ("soft", "model.start.kind", "; did you mean 'model.init.kind'?"),
        ("soft", "model.optimiser.lr", "; did you mean 'model.optimizer.lr'?"),
        ("soft", "model.init.texts.path", ""),
        ("soft", "model.length.x", ""),
    ],
)
def test_an_option_that_does_not_exist(cli, workdir, kind, option, said):
    Path("run.yaml").write_text(KINDS[kind])
    for typed in ([f"--{option}", "x"], [f"--{option}=x"], [f"--{option.replace('model.', 'model.init_args.')}", "x"]):
        error = cli("fit", "--config", "run.yaml", *typed, code=2)
        assert error.splitlines()[-1] == f"lit_prompt: error: unknown option --{option}{said}"


def test_an_option_of_a_class_that_is_not_chosen(cli, workdir):
    Path("run.yaml").write_text(KINDS["hard"])
    error = cli("fit", "--config", "run.yaml", "--model.searcher.width", "4", code=2).splitlines()[-1]
    said = f"--model.searcher.width needs a class, as --model.searcher gives one; {SEARCHERS}"
    assert error == f"lit_prompt: error: {said}"


def test_what_is_near():
    options = {"texts": TextSource, "lists": list[TextSource], "model.help": TextSource, "run": None}
    for name, near in {"texts.pth": "texts.path", "path": "texts.path", "rnu": "run", "untt": "texts.unit"}.items():
        assert nearest_option(name, options) == f"; did you mean {near!r}?"
    for name in ("lists.path.x", "model.hlp", "texts.path", "zzz"):
        assert nearest_option(name, options) == ""
