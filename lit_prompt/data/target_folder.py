"""The folder of a set of targets: its rows, and ``lit_prompt.json``, which says what they are.

``lit_prompt.json`` has a checksum of its own fields, one of them that of what is read of all rows when the set is
opened; each row's own checksum is a part of that. So the whole set is certain, though only what is read is checked.
"""

import json
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from lit_prompt.data.target_table import target_features
from lit_prompt.errors import InputError
from lit_prompt.files import full_disk_named
from lit_prompt.records.checksum import CHECKSUM, TableDigest, plain_digest, refuse_changed
from lit_prompt.under_way import under_way

_INFO_FILE = "lit_prompt.json"
_FORMAT = 4  # 1 had dense targets only, 2 no checksums, 3 no tasks
_READ = (2, 3, _FORMAT)
_ROWS = "rows"
#: columns that are read when a set is opened
LIGHT = (
    "target_id", "family", "entropy", "partner_of", "before", "after", "chat", "task", "weight", "held_out", CHECKSUM
)  # fmt: skip


def rebuilt(folder: Path) -> str:
    """How a set of targets is made again."""
    if folder.name == "targets" and (folder.parent / "config.yaml").is_file():  # a run's own
        run = shlex.quote(str(folder.parent))
        return f"move this folder away, and any command with --run {run} builds the run's targets again"
    return "build them again with lit_prompt targets build"


def read_info(folder: Path) -> dict[str, Any]:
    """What ``lit_prompt.json`` says of a set.

    Raises:
        InputError: if it cannot be read, is not as it was written, or of another version.
    """
    try:
        info: dict[str, Any] = json.loads((folder / _INFO_FILE).read_text(encoding="utf-8"))
        written, rest = info.get(CHECKSUM), {k: v for k, v in info.items() if k != CHECKSUM}
        version = info.get("format")
        for name in ("vocabulary", "vocab_size", "lm", "fingerprint", "rejected"):
            info[name]
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{folder}: no saved set of targets (a folder that a fit or a build wrote)") from error
    if written is not None or version in (3, _FORMAT):
        refuse_changed(folder / _INFO_FILE, written, plain_digest(rest), rebuilt(folder))
    if version not in _READ:
        raise InputError(f"{folder}: these targets were saved by another version of lit_prompt; build them again")
    return info


def refuse_changed_rows(folder: Path, info: dict[str, Any], light: pa.Table) -> None:
    """Compares the columns :data:`LIGHT` of all rows of a set with what ``lit_prompt.json`` says of them.

    Raises:
        InputError: if they differ.
    """
    if _ROWS in info or CHECKSUM in light.column_names:
        digest = TableDigest()
        digest.update(light)
        refuse_changed(folder, info.get(_ROWS), digest.hexdigest(), rebuilt(folder))


@contextmanager
def new_folder(folder: Path, info: dict[str, Any]) -> Iterator[Callable[[pa.Table], None]]:
    """What writes rows to a folder of ``datasets``, which takes its place whole or not at all.

    An empty dataset is saved, and the rows are written in place of its data: ``datasets`` would copy them. ``info``
    may grow until the end of the block.

    Raises:
        InputError: if the disk is full.
    """
    import datasets

    features = target_features()
    digest = TableDigest()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (
        under_way(folder.parent) as temporary,
        full_disk_named(folder, temporary),
    ):
        staging = temporary / "set"
        had_bars = datasets.is_progress_bar_enabled()
        datasets.disable_progress_bars()
        try:
            empty = datasets.Dataset.from_dict({name: [] for name in features}, features=features)
            empty.save_to_disk(str(staging), num_shards=1)
        finally:
            if had_bars:
                datasets.enable_progress_bars()
        (data,) = staging.glob("*.arrow")
        with pa.OSFile(str(data), "wb") as sink, pa.ipc.new_stream(sink, features.arrow_schema) as writer:

            def write(rows: pa.Table) -> None:
                digest.update(rows.select(LIGHT))
                writer.write_table(rows)

            yield write
        whole = {**info, "format": _FORMAT, _ROWS: digest.hexdigest()}
        whole.pop(CHECKSUM, None)
        whole[CHECKSUM] = plain_digest(whole)
        (staging / _INFO_FILE).write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
        staging.rename(folder)
