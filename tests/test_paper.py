"""The paper's study is set up as it says."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from lit_prompt.data import TargetSet
from tests.conftest import REPOSITORY

SETTINGS = {path.stem: yaml.safe_load(path.read_text()) for path in (REPOSITORY / "configs" / "paper").glob("*.yaml")}
METHODS = [name for name, settings in SETTINGS.items() if "model" in settings]
LMS = [name for name, settings in SETTINGS.items() if "data" in settings]
SCRIPT = REPOSITORY / "benchmarks" / "paper.sh"


def test_a_file_is_an_lm_or_a_method():
    assert sorted(METHODS + LMS) == sorted(SETTINGS)
    assert {"gpt2", "pythia", "llama-3.2-1b"} <= set(LMS)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("lm", LMS)
def test_every_cell_parses(cli, workdir, lm, method):
    folder = REPOSITORY / "configs" / "paper"
    said = cli("fit", "--config", folder / f"{lm}.yaml", "--config", folder / f"{method}.yaml", "--print_config")
    resolved = yaml.safe_load(said)
    assert resolved["lm"] == SETTINGS[lm]["lm"]
    assert len(resolved["data"]["families"]) == len(SETTINGS[lm]["data"]["families"])


@pytest.mark.parametrize("lm", [lm for lm in LMS if lm.startswith("tales-")])
def test_targets_of_the_embedded_lms(cli, workdir, lm):
    (workdir / "data").symlink_to(REPOSITORY / "data")
    cli("targets", "build", "--config", REPOSITORY / "configs" / "paper" / f"{lm}.yaml", "--out", "targets")
    targets = TargetSet(Path("targets"))
    assert not targets.rejected
    made = {"own_lm", "other_tokenizer", *(["other_lm"] if lm != "tales-gpt2" else [])}
    assert set(targets.family) == {"random", "outlier", *made}
    assert all(targets.family.count(family) >= 8 for family in made)


def test_the_script_is_a_script_and_knows_its_configs():
    assert subprocess.run(["sh", "-n", SCRIPT]).returncode == 0
    text = SCRIPT.read_text()
    assert all(name in text for name in (*METHODS, *(lm for lm in LMS if lm.startswith("tales-"))))


def test_the_script_searches_evaluates_reports_and_repeats_nothing(workdir):
    (workdir / "data").symlink_to(REPOSITORY / "data")
    configs = workdir / "configs" / "paper"
    configs.mkdir(parents=True)
    shutil.copy(REPOSITORY / "configs" / "paper" / "lift.yaml", configs)
    families = [{"class_path": "EntropyMatched", "init_args": {"entropies": [1.0, 4.0], "per_entropy": 1}}]
    (configs / "few.yaml").write_text(yaml.safe_dump({"lm": "data/lms/tales-llama", "data": {"families": families}}))
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "STUDY": "few", "METHODS": "lift", "LENGTHS": ""}

    def study():
        return subprocess.run(["sh", SCRIPT, "few"], env=environment, capture_output=True, text=True, check=True).stdout

    run = Path("logs", "few", "few", "lift", "version_0")
    assert f"== {run}" in study()
    assert (run / "results.parquet").is_file()
    assert (run / "predictions.parquet").is_file()
    assert Path("logs", "few", "report", "report.html").is_file()
    assert "==" not in study()
