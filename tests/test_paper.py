"""The paper's study is set up as it says."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from lit_prompt.callbacks.curves import KLCurves
from lit_prompt.data import TargetSet
from tests.conftest import REPOSITORY
from tests.test_interruption import signal_at

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


RUN = Path("logs", "few", "few", "lift", "version_0")


@pytest.fixture
def study(workdir):
    """Runs the script on two targets, a chunk each, with one method; gives what it says."""
    (workdir / "data").symlink_to(REPOSITORY / "data")
    configs = workdir / "configs" / "paper"
    configs.mkdir(parents=True)
    shutil.copy(REPOSITORY / "configs" / "paper" / "lift.yaml", configs)
    families = [{"class_path": "EntropyMatched", "init_args": {"entropies": [1.0, 4.0], "per_entropy": 1}}]
    few = {"lm": "data/lms/tales-llama", "data": {"chunk_size": 1, "families": families}}
    (configs / "few.yaml").write_text(yaml.safe_dump(few))
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "STUDY": "few", "METHODS": "lift", "LENGTHS": ""}

    def study():
        return subprocess.run(["sh", SCRIPT, "few"], env=environment, capture_output=True, text=True, check=True).stdout

    return study


def test_the_script_searches_evaluates_reports_and_repeats_nothing(study):
    assert f"== {RUN}" in study()
    assert (RUN / "results.parquet").is_file()
    assert (RUN / "predictions.parquet").is_file()
    assert Path("logs", "few", "report", "report.html").is_file()
    assert "==" not in study()


def test_the_script_goes_on_with_a_run_that_was_interrupted(cli, study):
    configs = [Path("configs", "paper", f"{name}.yaml") for name in ("few", "lift")]
    with signal_at(KLCurves, "on_train_epoch_start", call=2):
        cli("fit", "--config", configs[0], "--config", configs[1], "--logs", "logs/few/few", code=130)
    (found,) = (RUN / "chunks").glob("chunk_0.steps_*.zip")
    written = found.stat().st_mtime_ns
    study()
    assert found.stat().st_mtime_ns == written
    assert len(list((RUN / "chunks").glob("chunk_*.steps_*.zip"))) == 2
    assert (RUN / "results.parquet").is_file()
