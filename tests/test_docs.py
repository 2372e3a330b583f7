"""What the documentation says of the code is so."""

import ast
import json
import re
import runpy
from pathlib import Path

import pytest

from lit_prompt.commands.shortest import SHORTEST
from lit_prompt.main import COMMANDS
from lit_prompt.records.floors import FLOORS
from lit_prompt.records.predictions import PREDICTIONS
from lit_prompt.records.results import RESULTS
from lit_prompt.records.table_format import TableFormat
from lit_prompt.records.tasks import TASKS
from lit_prompt.search import StopReason
from tests.conftest import REPOSITORY

DOCS = REPOSITORY / "docs"
TYPES = {"text": "string", "float64": "double", "int64": "int64"}
TYPES |= {f"list of {name}": f"list<item: {TYPES[name]}>" for name in ("text", "float64")}


def section(page: str, title: str) -> str:
    """What stands under a heading of the second level."""
    return re.split(r"^## ", page.partition(f"\n## {title}\n")[2], flags=re.MULTILINE)[0]


def table(text: str) -> list[list[str]]:
    """Cells of the tables in a text, whose first one is in code."""
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in rows]


@pytest.mark.parametrize(
    ("file", "written"),
    [
        ("results.parquet", RESULTS), ("tasks.parquet", TASKS), ("predictions.parquet", PREDICTIONS),
        ("floors.parquet", FLOORS), ("shortest.parquet", SHORTEST),
    ],
)  # fmt: skip
def test_every_column_is_explained(file: str, written: TableFormat):
    rows = [row for row in table(section((DOCS / "reference/results.md").read_text(), file)) if len(row) == 4]
    assert [(row[0].strip("`"), TYPES[row[1]]) for row in rows] == [(f.name, str(f.type)) for f in written.schema]
    assert all(meaning for *_, meaning in rows)


def test_every_stop_reason_is_explained():
    rows = table(section((DOCS / "reference/results.md").read_text(), "results.parquet"))
    assert {row[0].strip("`") for row in rows if len(row) == 2} == {reason.name.lower() for reason in StopReason}


def messages() -> list[str]:
    """The texts in the code, ``…`` for what is put into them."""
    found = []
    for file in sorted((REPOSITORY / "lit_prompt").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.JoinedStr):
                found.append("".join(v.value if isinstance(v, ast.Constant) else "…" for v in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(re.sub(r"%[ds]", "…", node.value))
    return found


def test_messages_in_the_faq_are_the_codes_own():
    quoted = re.findall(r"```none\n(.*?)\n```", (DOCS / "faq.md").read_text("utf-8"), re.DOTALL)
    assert len(quoted) > 20
    known = set(messages())
    assert [message for message in quoted if message not in known] == []


def test_tags_of_tensorboard_are_the_codes_own():
    cells = table((DOCS / "how_to/tensorboard.md").read_text().replace("| Scalars |", "|").replace("| Images |", "|"))
    code = "".join(file.read_text() for file in (REPOSITORY / "lit_prompt/callbacks").glob("*.py"))
    tags = [tag for row in cells for tag in re.findall(r"`([\w/]+)`", row[0])]
    assert len(tags) > 8
    assert [
        tag for tag in tags if not any(part in code for part in (tag, tag.split("/")[-1].removeprefix("kl_")))
    ] == []


@pytest.mark.parametrize("notebook", sorted(DOCS.glob("notebooks/*.ipynb")), ids=lambda path: path.stem)
def test_notebooks_are_kept_without_outputs(notebook: Path):
    cells = json.loads(notebook.read_text("utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert code
    assert [cell for cell in code if cell["outputs"] or cell["execution_count"] is not None] == []


def test_helps_of_all_commands_and_classes_are_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "100")  # what the site sets
    runpy.run_path(str(DOCS / "program_help.py"))["write_helps"](tmp_path)
    commands, classes = ((tmp_path / name).read_text("utf-8") for name in ("commands.md", "classes.md"))
    titles = re.findall(r"^##+ (.*)", commands, re.MULTILINE)
    assert {f"lit_prompt {name}" for name in COMMANDS} <= set(titles)
    assert {"lit_prompt targets build", "lit_prompt targets show", "lit_prompt targets validate"} <= set(titles)
    assert commands.count("usage: lit_prompt") >= len(titles) - 1
    assert classes.count("Help for --") == classes.count("```text")


def test_the_program_has_every_command_that_pages_name():
    named = {
        word
        for page in DOCS.rglob("*.md")
        if "_build" not in page.parts
        for word in re.findall(r"(?:^|`)lit_prompt (\w+)", page.read_text("utf-8"), re.MULTILINE)
    }
    assert named <= set(COMMANDS)
