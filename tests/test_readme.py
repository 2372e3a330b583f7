"""What the README tells people to type works."""

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

README = (REPOSITORY / "README.md").read_text()
COMMANDS = [
    line.split("#")[0].split()
    for block in re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
    if line.startswith("lit_prompt fit")
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_fit_commands_parse(cli, workdir, command):
    (workdir / "configs").symlink_to(REPOSITORY / "configs")
    assert "class_path: lit_prompt.models." in cli(*command[1:], "--print_config")


def test_files_that_it_names_exist():
    named = re.findall(r"\b((?:configs|data|docs|tests|benchmarks)/[\w./-]+\.\w+)", README)
    assert len(named) > 5
    lms = runpy.run_path(str(REPOSITORY / "benchmarks" / "fetch_lm.py"))["LMS"]
    fetched = {f"data/lms/{file}" for file, _ in lms.values()}  # by make
    assert [path for path in named if not (REPOSITORY / path).exists() and path not in fetched] == []


def test_layout_names_every_package():
    packages = {path.parent.name for path in Path(REPOSITORY, "lit_prompt").glob("*/__init__.py")}
    assert packages == set(re.findall(r"^lit_prompt/(\w+)", README, re.MULTILINE))


def test_python_example_runs():
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    said = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, check=True, capture_output=True, text=True
    ).stdout
    assert "['one_hot/0/ fox', 'one_hot/1/ king']" in said
