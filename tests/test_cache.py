"""What runs keep of an LM for one another: the same results, and fewer passes."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file

from lit_prompt.lm import FrozenLM
from tests.test_cli import HARD

SMALL = [
    "--model.steps", "3", "--model.max_forward_passes", "60", "--model.start.random_sequences", "4",
    "--model.start.sampled_texts", "4", "--model.start.drawn_sequences", "2",
]  # fmt: skip


@pytest.fixture
def make(cli, workdir, tiny_lm):
    """Fits and tests; returns the run's folder, its prompts and its rows."""
    (workdir / "small.yaml").write_text(HARD)

    def make(run, *options):
        cli("fit", "--config", "small.yaml", "--lm", tiny_lm, *SMALL, *options)
        cli("test", "--run", run, *options)
        rows = pq.read_table(Path(run) / "results.parquet").to_pylist()
        for row in rows:
            del row["seconds"]
        return load_file(Path(run) / "prompts.safetensors"), rows

    return make


def test_results_do_not_depend_on_the_cache(make, monkeypatch):
    prompts, rows = make("logs/small/version_0", "--cache", "false")
    assert not Path("logs/cache").exists()
    assert "cache: false" in Path("logs/small/version_0/config.yaml").read_text()
    assert None not in [row[f"kl_best_{kind}"] for row in rows for kind in ("random", "natural")]

    passes, features = [], FrozenLM.features
    monkeypatch.setattr(FrozenLM, "features", lambda self, x, *rest: passes.append(len(x)) or features(self, x, *rest))
    counts = []
    for version in (1, 2):
        passes.clear()
        found, again = make(f"logs/small/version_{version}")
        counts.append(sum(passes))
        assert again == rows
        assert all((found[name] == prompts[name]).all() for name in prompts)
    # four random sequences, four texts and 24 natural ones in the first chunk, 128 random and 128 natural prompts
    assert counts[0] - counts[1] == 8 + 24 + 256
    (kept,) = Path("logs/cache").iterdir()
    before = {path: path.read_bytes() for path in kept.iterdir()}
    assert len(before) == 2 + 4  # texts and states of the bank and of natural prompts, states of random ones

    make("logs/small/version_3", "--model.init_args.seed", "1")
    assert len([*kept.iterdir()]) == len(before) + 2  # baselines are the same
    assert {path: path.read_bytes() for path in before} == before


def test_a_validation_reads_the_cache_and_adds_nothing(make, cli, workdir, tiny_lm, monkeypatch):
    cli("fit", "--config", "small.yaml", "--lm", tiny_lm, *SMALL, "--cache", "false")
    cli("validate", "--run", "logs/small/version_0", "--cache", "true")
    assert not Path("logs/cache").exists()
    cli("test", "--run", "logs/small/version_0", "--cache", "true")
    assert [len([*folder.iterdir()]) for folder in Path("logs/cache").iterdir()] == [3]
    monkeypatch.setattr("lit_prompt.lm.sample._sample", lambda *_, **__: pytest.fail("sampled twice"))
    cli("validate", "--run", "logs/small/version_0", "--cache", "true")


def test_a_run_goes_on_where_nothing_can_be_kept(make, caplog):
    Path("logs").mkdir()
    Path("logs/cache").write_text("")
    prompts, rows = make("logs/small/version_0")
    assert caplog.text.count("what the LM gives is not kept") == 2  # by fit, by test
    Path("logs/cache").unlink()
    found, again = make("logs/small/version_1")
    assert again == rows
    assert all((found[name] == prompts[name]).all() for name in prompts)
