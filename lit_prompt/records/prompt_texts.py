"""``prompts.jsonl``: the texts of hard prompts, a line of JSON each."""

import json
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lit_prompt.errors import InputError
from lit_prompt.files import write_whole
from lit_prompt.records.checksum import CHECKSUM, plain_digest, refuse_changed

_ADVICE = "bring the file back, or move it and prompts.safetensors away: lit_prompt test --run RUN writes both again"


def write_texts(prompts: Iterable[tuple[str, str, Sequence[int], float | None]], checksum: str, path: Path) -> Path:
    """Writes target id, text and token ids of prompts, whole or not at all; returns path.

    Those of a mixture, which have a weight, are lines of one target id.

    Each line has a checksum that depends on the line before, the first one's on the ``checksum`` of the prompts.
    """
    lines = []
    for target_id, text, ids, weight in prompts:
        row: dict[str, Any] = {"target_id": target_id, "text": text, "ids": list(ids)}
        if weight is not None:
            row["weight"] = weight
        checksum = plain_digest([checksum, row])
        lines.append(json.dumps({**row, CHECKSUM: checksum}, ensure_ascii=False) + "\n")
    write_whole(path, "".join(lines).encode())
    return path


class WeightedText(NamedTuple):
    """A prompt's text, and how often a mixture draws it; 1 for a single prompt."""

    text: str
    weight: float


def read_texts(path: Path, target_ids: Collection[str], checksum: str | None) -> dict[str, list[WeightedText]]:
    """The texts of prompts by target id, as :func:`write_texts` has written them; of mixtures, several.

    Those of a mixture that have no weight are left out, and the largest weight comes first.

    Args:
        path: the file.
        target_ids: whose prompts it must hold.
        checksum: of the prompts; None where a former version wrote them.

    Raises:
        InputError: if the file cannot be read, or is not as it was written.
    """
    texts: dict[str, list[WeightedText]] = {}
    try:
        with path.open(encoding="utf-8") as file:
            rows = [json.loads(line) for line in file]
        for number, row in enumerate(rows, 1):
            if checksum is not None:
                written = row.pop(CHECKSUM, None)
                checksum = plain_digest([checksum, row])
                refuse_changed(Path(f"{path}:{number}"), written, checksum, _ADVICE)
            texts.setdefault(row["target_id"], []).append(WeightedText(row["text"], float(row.get("weight", 1.0))))
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{path}: these are no prompts that a fit or a test has written ({error})") from error
    if texts.keys() != set(target_ids):
        raise InputError(f"{path}: does not hold the texts of the run's prompts; {_ADVICE}")
    return {
        name: sorted((each for each in own if each.weight > 0), key=lambda each: -each.weight)
        for name, own in texts.items()
    }
