"""Control characters and formulas in every text that is shown: none reaches a terminal or a page, none ends a command.

``python -m tests.faults.texts --texts 40`` prints a table; the suite tries some.
"""

import json
import random
import re
import tempfile
from pathlib import Path

import yaml

from tests.faults.commands import Try, inside, run, show
from tests.faults.payloads import HARD, LM

#: What a name, a text or a path may hold, and a terminal, a page or a figure would take for more than characters.
PIECES = (
    "\x1b[31mred", "\x1b]0;title\x07", "\x9b31m", "\x00", "\x07", "\x08\x08", "\r", "\n", "\t", "\x7f", "\x85",
    "\u202eback", "\u2066", "\u2069", "\ufeff", "\u200b", "<b>", "&amp;", "</script>", "$\\frac{bad$", "$x^2$", "_i",
    "%s", "[red]", "[/]", "{x}", "`", "|", "\\x1b",
)  # fmt: skip
#: A file's name may not hold these.
_NOT_IN_PATHS = re.compile(r"[\x00/]")
# beside a line's end and the return to its beginning, which bars use
_RAW = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x80-\x9f\u202a-\u202e\u2066-\u2069]")
_COMMANDS = (
    ("targets", "validate", "FILE"),
    ("fit", "--config", "CONFIG"),
    ("test", "--run", "RUN"),
    ("predict", "--run", "RUN"),
    ("validate", "--run", "RUN"),
    ("floor", "--config", "CONFIG"),
    ("targets", "show", "RUN"),
    ("report", "RUN", "--out", "page"),
)


def _shown(place: str, said: str) -> str:
    found = sorted(set(_RAW.findall(said)))
    return f"{place}: {', '.join(map(ascii, found))}" if found else ""


def _try(draw: random.Random, lm: Path) -> list[Try]:
    """Runs every command on targets whose names, family, texts and file's name are made of such pieces."""

    def text() -> str:
        return "a" + "".join(draw.choices(PIECES, k=draw.randint(1, 3)))

    names, family = [text() for _ in range(3)], text()
    file, config = (f"{_NOT_IN_PATHS.sub('', text())}{suffix}" for suffix in (".jsonl", ".yaml"))
    around = {"before": text(), "after": text()}
    probs = [{"a": 0.5, "b": 0.5}, {"c": 0.25, "d": 0.75}, {"e": 0.9, "f": 0.1}]  # tokens of any LM
    lines = [
        {"name": f"{name}{k}", "probs": probs[k], **({"context": around} if k else {})} for k, name in enumerate(names)
    ]
    Path(file).write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    model = HARD if draw.random() < 0.5 else {"class_path": "SoftPrompt", "init_args": {"length": 2, "steps": 2}}
    target = {"class_path": "FromFile", "init_args": {"path": file, "name": family}}
    settings = {"lm": str(lm), "model": model, "data": {"families": [target]}}
    Path(config).write_text(yaml.safe_dump(settings), encoding="utf-8")
    tries = []
    for words in _COMMANDS:
        runs = sorted(Path("logs").glob("*/version_0"))
        place = {"FILE": file, "CONFIG": config, "RUN": runs[0] if runs else "none"}
        if words[:2] == ("targets", "validate"):
            words = (*words, "--lm", str(lm))
        outcome = run(*(place.get(word, word) for word in words))
        wrong = [_shown("said", outcome.said), "" if outcome.clean else outcome.said[-500:]]
        wrong += [_shown(path.name, path.read_text(encoding="utf-8")) for path in Path().glob("page/*.html")]
        what = ascii([names, family, file, config, around])
        result = "refused" if outcome.code else "shown"
        tries.append(Try(" ".join(words[: 1 + (words[0] == "targets")]), what, result, "; ".join(filter(None, wrong))))
    return tries


def campaign(count: int, seed: int = 0, lm: Path = LM) -> list[Try]:
    """Runs every command on ``count`` sets of targets, in this process.

    Args:
        count: of sets.
        seed: of the draw.
        lm: a small LM.
    """
    draw = random.Random(seed)
    tries = []
    for _ in range(count):
        with tempfile.TemporaryDirectory() as folder, inside(Path(folder)):
            tries += _try(draw, lm)
    return tries


if __name__ == "__main__":
    show(campaign, __doc__, "texts", 40)
