"""What the README and the documentation tell people to type works."""

import re
import runpy
import shlex
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from lit_prompt.commands.options import parsers
from tests.conftest import REPOSITORY

README = (REPOSITORY / "README.md").read_text()
PAGES = {
    str(path.relative_to(REPOSITORY)): path.read_text("utf-8")
    for path in (REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md")))
    if "_build" not in path.parts
}
#: Those that run no search and load no LM: they are run as they stand.
CHEAP = ("targets validate", "completion")
#: Those that read finished runs, or saved targets: their options are read.
READERS = ("report", "targets show", "export", "score")
#: A stand-in for what a page calls a study of one's own.
OWN = {"study.yaml": "demo.yaml"}


def lines_in(text: str) -> list[list[str]]:
    """The lines of the shell's blocks, in words, without comments."""
    blocks = re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [words for line in lines if (words := shlex.split(line, comments=True))]


LINES = list(dict.fromkeys(tuple(line) for page in PAGES.values() for line in lines_in(page)))
COMMANDS = [line[line.index("lit_prompt") :] for line in LINES if line[0] in ("lit_prompt", "srun")]


def make_run(folder: Path) -> None:
    """A folder that looks like a run that has found something, of the config of its name."""
    name = OWN.get(f"{folder.parent.name}.yaml", f"{folder.parent.name}.yaml")
    found = list((REPOSITORY / "configs").rglob(name)) or [REPOSITORY / "configs" / "demo.yaml"]
    (folder / "chunks").mkdir(parents=True, exist_ok=True)
    (folder / "chunks" / "chunk_0.steps_1.zip").touch()
    shutil.copy(found[0], folder / "config.yaml")


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_commands_are_understood(cli, workdir, command):
    for name in ("configs", "data"):
        (workdir / name).symlink_to(REPOSITORY / name)
    for name, config in OWN.items():
        shutil.copy(REPOSITORY / "configs" / config, name)
    command = [word.replace("$SLURM_ARRAY_TASK_ID", "1").replace("/shared", "shared") for word in command[1:]]
    for option, value in pairwise(command):
        if option == "--run" and command[0] != "pretrain":
            make_run(workdir / value)
    name = " ".join(command[: 2 if command[0] == "targets" else 1])
    if name in CHEAP:
        assert cli(*command)
    elif name in READERS:
        assert vars(parsers()[name].parse_args(command[len(name.split()) :]))
    else:
        printed = cli(*command, "--print_config")
        assert re.search(r"^model:\n +(class_path: lit_prompt\.\w+|architecture)", printed, re.MULTILINE)


def test_what_make_is_told_to_do_is_in_the_makefile():
    rules = set(re.findall(r"^([\w-]+(?: [\w-]+)*):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
    rules = {word for rule in rules for word in rule.split()}
    asked = {word for line in LINES if line[0] == "make" for word in line[1:] if "=" not in word}
    asked |= {word for page in PAGES.values() for word in re.findall(r"`make ([\w-]+)`", page)}
    assert asked
    assert asked <= rules


def test_options_of_benchmarks_exist():
    inline = [shlex.split(said) for page in PAGES.values() for said in re.findall(r"`(python benchmarks/[^`]+)`", page)]
    for _, script, *options in [*inline, *(list(line) for line in LINES if line[0] == "python" and line[1] != "-m")]:
        code = (REPOSITORY / script).read_text()
        assert [option for option in options if option.startswith("--") and f'"{option}"' not in code] == []


@pytest.mark.parametrize("page", PAGES)
def test_files_that_it_names_exist(page):
    named = re.findall(r"(?<![\w/])((?:configs|data|docs|tests|benchmarks)/[\w./-]+\.\w+)", PAGES[page])
    lms = runpy.run_path(str(REPOSITORY / "benchmarks" / "fetch_lm.py"))["LMS"]
    fetched = {f"data/lms/{file}" for file, *_ in lms.values()}  # by make
    assert [path for path in named if not (REPOSITORY / path).exists() and path not in fetched] == []


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_pages(page):
    links = re.findall(r"\]\(((?!https?:)[\w./-]+\.\w+)", PAGES[page])
    folder = (REPOSITORY / page).parent
    assert [link for link in links if not (folder / link).exists()] == []


def test_layout_names_every_package():
    packages = {path.parent.name for path in Path(REPOSITORY, "lit_prompt").glob("*/__init__.py")}
    assert packages == set(re.findall(r"^lit_prompt/(\w+)", PAGES["docs/reference/layout.md"], re.MULTILINE))


def test_readme_is_short():
    assert len(README.splitlines()) <= 180


def test_python_example_runs():
    code = re.findall(r"```python\n(.*?)```", PAGES["docs/how_to/python.md"], re.DOTALL)[1]
    said = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, check=True, capture_output=True, text=True
    ).stdout
    assert "['one_hot/0/ fox', 'one_hot/1/ king']" in said
