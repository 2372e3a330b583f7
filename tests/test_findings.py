"""The configs of the paper's findings, with a step or two of search on the embedded LMs."""

import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from lit_prompt.data import TargetSet
from tests.conftest import REPOSITORY

CONFIGS = sorted((REPOSITORY / "configs" / "findings").glob("*.yaml"))
#: families whose targets have partners, and how many in all
COUNTS = {
    "entropy": {"random": 192},
    "outliers": {"outlier": 96, "random": 96},
    **{
        name: {"own_lm": 32, "other_lm": 32, "other_tokenizer": 32, "random": 96, "outlier": 96}
        for name in ("lm_made", "lm_made_neox")
    },
}


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_findings_are_set_up_as_they_say(config, cli, workdir):
    (workdir / "data").symlink_to(REPOSITORY / "data")
    cli("fit", "--config", config, "--model.steps", 1)
    run = Path("logs") / config.stem / "version_0"
    targets = TargetSet(run / "targets")
    assert not targets.rejected
    assert {family: targets.family.count(family) for family in targets.family} == COUNTS[config.stem]
    printed = " ".join(cli("test", "--run", run).split())
    assert "Mean KL, compared" in printed
    table = pq.read_table(run / "results.parquet")
    entropy = dict(zip(table["target_id"].to_pylist(), table["entropy"].to_pylist(), strict=True))
    for row in table.select(["target_id", "partner_of"]).to_pylist():
        if row["partner_of"] is not None:
            assert abs(entropy[row["target_id"]] - entropy[row["partner_of"]]) <= 2e-3


def test_make_findings_runs_every_config():
    named = re.findall(r"\b(\w+):(tales-\w+)", (REPOSITORY / "Makefile").read_text())
    assert {name for name, _ in named} == {config.stem for config in CONFIGS}
    assert all((REPOSITORY / "data" / "lms" / lm).is_dir() for _, lm in named)


def test_the_same_contexts_whoever_speaks():
    """own_lm, other_lm and other_tokenizer differ in the LM alone."""
    import yaml

    for name in ("lm_made", "lm_made_neox"):
        families = yaml.safe_load((REPOSITORY / "configs" / "findings" / f"{name}.yaml").read_text())["data"][
            "families"
        ]
        settings = [family["init_args"] for family in families]
        for key in ("contexts", "cut", "count"):
            assert settings[0][key] == settings[1][key] == settings[2][key]
        assert [s["name"] for s in settings] == ["own_lm", "other_lm", "other_tokenizer"]
