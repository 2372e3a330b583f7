"""The wheel works alone: in an empty folder, with nothing of this repository at hand."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import lit_prompt
from lit_prompt.embedded import embedded, embedded_config
from tests.conftest import REPOSITORY


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """A folder with what the wheel installs."""
    folder = tmp_path_factory.mktemp("wheel")
    words = ("wheel", str(REPOSITORY), "--no-deps", "--no-build-isolation", "-q", "-w", str(folder))
    subprocess.run([sys.executable, "-m", "pip", *words], check=True, cwd=folder)
    (wheel,) = folder.glob("*.whl")
    assert wheel.name == f"lit_prompt-{lit_prompt.__version__}-py3-none-any.whl"
    zipfile.ZipFile(wheel).extractall(folder / "installed")
    return folder / "installed"


def command(package, *words):
    code = f"import lit_prompt, sys; assert lit_prompt.__file__.startswith({str(package)!r}), lit_prompt.__file__"
    code += f"\nfrom lit_prompt.main import main\nmain({[*map(str, words)]!r})"
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(package)}
    )


def test_an_embedded_config_runs_in_an_empty_folder(package, workdir):
    done = command(package, "fit", "--config", "demo", "--model.steps", 2, "--data.chunk_size", 4)
    assert done.returncode == 0, done.stderr
    assert "lit_prompt test --run logs/demo/version_0" in done.stdout
    done = command(package, "validate", "--run", "logs/demo/version_0")
    assert done.returncode == 0, done.stderr
    assert [path.name for path in workdir.iterdir()] == ["logs"]


def test_targets_are_validated_without_an_lm_of_ones_own(package, workdir):
    Path("my.jsonl").write_text('{"probs": {" a": 0.5, " the": 0.5}}\n')
    done = command(package, "targets", "validate", "my.jsonl")
    assert done.returncode == 0, done.stdout + done.stderr
    Path("my.jsonl").write_text('{"probs": {" a": 0.5, " the": 0.6}}\n')
    assert command(package, "targets", "validate", "my.jsonl").returncode == 2


def test_targets_of_an_embedded_config_come_with_it(package, workdir):
    done = command(package, "targets", "build", "--config", "die", "--out", "built")
    assert done.returncode == 0, done.stderr
    done = command(package, "fit", "--config", "dice")
    assert done.returncode == 2
    assert "no file dice; the embedded ones are demo, die, families" in done.stderr


def test_what_the_user_has_comes_first(workdir):
    assert embedded("data/lms/tales-llama") == str(REPOSITORY / "data/lms/tales-llama")
    assert embedded_config("demo") == REPOSITORY / "configs/demo.yaml"
    Path("data/lms/tales-llama").mkdir(parents=True)
    Path("demo.yaml").touch()
    Path("demo").touch()
    assert embedded("data/lms/tales-llama") == "data/lms/tales-llama"
    assert embedded_config("demo.yaml") == Path("demo.yaml")
    assert embedded_config("demo") == Path("demo")
    for name in ("logs/x", "../configs/demo.yaml", "data/none", "/etc/passwd", "gpt2"):
        assert embedded(name) == name
    assert embedded("~/x") == os.path.expanduser("~/x")
