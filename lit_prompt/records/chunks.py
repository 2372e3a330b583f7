"""The files of a run's chunks: what was found for their targets, and where their searches stand."""

import contextlib
import io
import json
import os
import re
import weakref
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lit_prompt.errors import InputError
from lit_prompt.files import full_disk_named, write_first
from lit_prompt.records.tensors import tensor_bytes, tensors_in
from lit_prompt.records.versions import KEY, refuse_newer
from lit_prompt.under_way import under_way

#: 4, as up to 3 all of it was in ``checkpoints/last.ckpt``
VERSION = 4
_NAME = re.compile(r"chunk_(\d+)\.(?:steps_(\d+)|(under_way))\.zip")
_UNDER_WAY, _ENDED = float(2**62), float("inf")
_ADVICE = "remove it, and its chunk is searched anew by fit --run"


class ChunkFiles:
    """A file for each chunk: ``chunk_K.steps_N.zip`` once its search has ended, ``chunk_K.under_way.zip`` before.

    A file holds two parts, each with its checksum: what was ``found``, and the ``state`` that more steps begin with.
    It is written once and whole, whoever writes it; more steps make a new one, and the former is then removed.

    Files are begun in a folder of this process, one for all of them, as they may be small and very many.

    Args:
        folder: of the files.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._staging: Path | None = None
        self._open = contextlib.ExitStack()
        weakref.finalize(self, self._open.close)

    def is_finished(self, chunk: int, steps: int) -> bool:
        """Whether the search of a chunk has ended after so many steps, or before as it was done."""
        return self._finished(chunk, steps).exists()

    def finish(self, chunk: int, steps: int, found: dict[str, Any], state: Any) -> None:
        """Keeps a chunk whose search has ended."""
        self._write(self._finished(chunk, steps), found, state)
        self._under_way(chunk).unlink(missing_ok=True)

    def keep(self, chunk: int, found: dict[str, Any], state: Any) -> None:
        """Keeps a chunk whose search is under way."""
        self._write(self._under_way(chunk), found, state)

    def begun(self, chunk: int) -> Path | None:
        """The file of a chunk whose search is under way; None where there is none."""
        path = self._under_way(chunk)
        return path if path.exists() else None

    def agreed(self, name: str, value: int | None) -> int | None:
        """What holds for all chunks, true, false or a number: the first value that is given; None while none is."""
        path = self.folder / f"{name}.json"
        if value is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_first(path, json.dumps(value).encode())
        try:
            found = json.loads(path.read_text())
        except FileNotFoundError:
            return value
        except ValueError:
            found = None
        if not isinstance(found, int):
            raise InputError(f"{path}: must hold true, false or a number; {_ADVICE}")
        return found

    def finished(self, steps: int) -> set[int]:
        """All chunks that :meth:`is_finished` is true of."""
        return {chunk for chunk, made, _ in self._every() if made == steps}

    def newest(self, steps: int) -> dict[int, str]:
        """The file's name of each chunk whose search has gone furthest, where all are to make so many steps."""
        best: dict[int, tuple[float, str]] = {}
        for chunk, made, name in self._every():
            # what is under way takes further what has ended before it, up to the end
            rank = _ENDED if made is not None and made >= steps else _UNDER_WAY if made is None else made
            if chunk not in best or rank > best[chunk][0]:
                best[chunk] = rank, name
        return {chunk: name for chunk, (_, name) in sorted(best.items())}

    def close(self) -> None:
        """Removes what this process has for files that it writes, once it writes no more."""
        self._open.close()

    def _write(self, path: Path, found: dict[str, Any], state: Any) -> None:
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w") as archive:
            archive.writestr("found", tensor_bytes({KEY: VERSION, **found}))
            archive.writestr("state", tensor_bytes(state))
        if self._staging is None or not self._staging.is_dir():  # none yet, or it has gone with a full disk
            self.folder.mkdir(parents=True, exist_ok=True)
            self._staging = self._open.enter_context(under_way(self.folder))
        with full_disk_named(path, self._staging, content.tell()):
            (self._staging / path.name).write_bytes(content.getbuffer())
            os.replace(self._staging / path.name, path)

    def _every(self) -> Iterator[tuple[int, int | None, str]]:
        with contextlib.suppress(FileNotFoundError), os.scandir(self.folder) as entries:
            for entry in entries:
                if match := _NAME.fullmatch(entry.name):
                    yield int(match[1]), None if match[2] is None else int(match[2]), entry.name

    def _finished(self, chunk: int, steps: int) -> Path:
        return self.folder / f"chunk_{chunk}.steps_{steps}.zip"

    def _under_way(self, chunk: int) -> Path:
        return self.folder / f"chunk_{chunk}.under_way.zip"


def read_found(path: Path) -> dict[str, Any]:
    """What was found for the targets of a chunk.

    Raises:
        InputError: if the file is damaged, or a newer lit_prompt wrote it.
    """
    found: dict[str, Any] = _read(path, "found")
    refuse_newer(path, str(found[KEY]), VERSION)
    return found


def read_state(path: Path) -> dict[str, Any]:
    """Where the search of a chunk stands; as of :func:`read_found`."""
    state: dict[str, Any] = _read(path, "state")
    return state


def _read(path: Path, part: str) -> Any:
    try:
        with zipfile.ZipFile(path) as archive:
            content = archive.read(part)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except Exception as error:  # a damaged archive raises whatever its bytes ask for
        raise InputError(f"{path} is damaged ({' '.join(str(error).split())}); {_ADVICE}") from error
    return tensors_in(content, path, _ADVICE)
