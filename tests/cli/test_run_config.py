"""A run's config carries a checksum: what was changed is taken as it stands, and said."""

import shutil
from pathlib import Path

import pytest

CONFIG = """
model: {class_path: SoftPrompt, init_args: {length: 2, steps: 2}}
data: {families: [{class_path: OneHot, init_args: {count: 2}}]}
"""
NOTE = "lit_prompt: logs/small/version_0/config.yaml: was changed since its run wrote it, and is taken as it is now"


@pytest.fixture
def run(cli, workdir, tiny_lm):
    """A run's folder."""
    (workdir / "small.yaml").write_text(CONFIG)
    said = cli("fit", "--config", "small.yaml", "--lm", tiny_lm)
    assert "was changed" not in said
    return Path("logs/small/version_0")


def test_a_config_as_it_was_written_is_no_news(run, cli):
    assert "was changed" not in cli("test", "--run", run)
    assert "was changed" not in cli("fit", "--run", run, "--model.steps", 3)
    assert "was changed" not in cli("validate", "--run", run)
    assert "was changed" not in cli("report", run, "--out", "page")
    assert "was changed" not in cli("fit", "--config", run / "config.yaml", "--logs", "others")


@pytest.mark.parametrize(("old", "new"), [("chunk_size: 64", "chunk_size: 1"), ("\n# checksum of", " # checksum of")])
def test_a_config_that_was_changed_by_hand_works_and_is_named(run, cli, old, new, caplog):
    cli("test", "--run", run)
    path = run / "config.yaml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    assert NOTE in cli("validate", "--run", run)
    cli("report", run, "--out", "page")
    assert NOTE.removeprefix("lit_prompt: ") in caplog.text
    copy = shutil.copy(path, "mine.yaml")
    assert "was changed" not in cli("fit", "--config", copy)  # a config of one's own


def test_a_config_without_a_checksum_is_taken_as_it_is(run, cli):
    path = run / "config.yaml"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[1:-1]))
    assert "was changed" not in cli("validate", "--run", run)


def test_a_config_that_was_cut_is_named(run, cli):
    path = run / "config.yaml"
    content = path.read_bytes()
    for kept in (0, 30, content.index(b"kl_tolerance: ") + 16, content.index(b"every_n_steps") + 5, len(content) - 70):
        path.write_bytes(content[:kept])
        said = cli("validate", "--run", run, code=0 if kept == len(content) - 70 else 2)
        assert str(path) in said.replace(f"{run}: ", "")
