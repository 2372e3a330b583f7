"""``cache/<LM>/<key>.safetensors``: arrays that can be made again, kept under all that they depend on."""

import contextlib
import hashlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from lit_prompt import __version__
from lit_prompt.errors import InputError
from lit_prompt.files import as_opened, replaced_whole
from lit_prompt.records.checksum import CHECKSUM, arrays_digest
from lit_prompt.records.versions import KEY
from lit_prompt.under_way import sweep

_log = logging.getLogger(__name__)

_VERSION = "2"
_SUFFIX = ".safetensors"
#: Bytes of the largest entry that is kept.
LARGEST = 2**28
#: Bytes that the entries of a folder take together; the oldest make room.
MOST = 2**30

Arrays = dict[str, NDArray[Any]]


class ArrayCache:
    """Entries of arrays in a folder, a file each (None: none are kept).

    Other processes may read and write the folder, too. What is read is what was written, to the last bit: a file that
    is damaged, of another version or of another key is as good as none. A call holds an entry, one that
    writes it a copy besides: ``LARGEST`` (256 MiB) and twice that at most. A folder takes ``MOST`` (1 GiB) on disk, and
    for a moment an entry more.

    Args:
        folder: where; made with the first entry.
        write: whether entries are added.
    """

    def __init__(self, folder: Path | None, write: bool = True) -> None:
        self._folder = folder
        self._writes = write and folder is not None
        if write and folder is not None:
            sweep(folder)

    def takes(self, size: int) -> bool:
        """Whether an entry of so many bytes is kept."""
        return self._writes and size <= LARGEST

    def get(self, about: Mapping[str, object]) -> Arrays | None:
        """The arrays of an entry; None where there are none.

        Args:
            about: all that they depend on, plain values.
        """
        if self._folder is None:
            return None
        key = _key(about)
        try:
            with safe_open(str(self._path(self._folder, key)), "np") as file:
                origin = file.metadata() or {}
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError):
            return None
        return arrays if origin == _origin(key, arrays) else None

    def put(self, about: Mapping[str, object], arrays: Arrays) -> None:
        """Keeps arrays, unless they are too large or the folder cannot be written."""
        if self._folder is None or not self.takes(sum(array.nbytes for array in arrays.values())):
            return
        key = _key(about)
        arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with replaced_whole(self._path(self._folder, key)) as staging:
                save_file(arrays, staging, metadata=_origin(key, arrays))
                as_opened(staging)
            self._make_room(self._folder)
        except (OSError, SafetensorError, InputError) as error:  # no reason to stop a search
            _log.warning("what the LM gives is not kept: %s cannot be written (%s)", self._folder, error)
            self._writes = False

    @staticmethod
    def _path(folder: Path, key: str) -> Path:
        return folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}{_SUFFIX}"

    @staticmethod
    def _make_room(folder: Path) -> None:
        entries = []
        for path in folder.glob(f"*{_SUFFIX}"):
            with contextlib.suppress(FileNotFoundError):  # another process makes room, too
                found = path.stat()
                entries.append((found.st_mtime_ns, found.st_size, path))
        total = 0
        for _, size, path in sorted(entries, reverse=True):
            total += size
            if total > MOST:
                path.unlink(missing_ok=True)


def _key(about: Mapping[str, object]) -> str:
    return json.dumps({**about, "lit_prompt": __version__}, sort_keys=True)  # another version may compute otherwise


def _origin(key: str, arrays: Arrays) -> dict[str, str]:
    """What a file's metadata say: of arrays that were changed they say something else."""
    origin = {KEY: _VERSION, "key": key}
    return origin | {CHECKSUM: arrays_digest(arrays, origin)}
