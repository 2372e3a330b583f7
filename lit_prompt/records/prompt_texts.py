"""``prompts.jsonl``: the texts of hard prompts, a line of JSON each."""

import json
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

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


def read_texts(path: Path, target_ids: Collection[str], checksum: str | None) -> dict[str, str]:
    """The texts of prompts by target id, as :func:`write_texts` has written them.

    Args:
        path: the file.
        target_ids: whose prompts it must hold.
        checksum: of the prompts; None where a former version wrote them.

    Raises:
        InputError: if the file cannot be read, or is not as it was written.
    """
    texts: dict[str, str] = {}
    try:
        with path.open(encoding="utf-8") as file:
            rows = [json.loads(line) for line in file]
        for number, row in enumerate(rows, 1):
            if checksum is not None:
                written = row.pop(CHECKSUM, None)
                checksum = plain_digest([checksum, row])
                refuse_changed(Path(f"{path}:{number}"), written, checksum, _ADVICE)
            texts[row["target_id"]] = row["text"]
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{path}: these are no prompts that a fit or a test has written ({error})") from error
    if texts.keys() != set(target_ids):
        raise InputError(f"{path}: does not hold the texts of the run's prompts; {_ADVICE}")
    return texts
