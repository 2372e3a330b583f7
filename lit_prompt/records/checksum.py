"""Checksums: what is read from a file is what was written to it.

Each format carries the checksum of its contents in its own metadata, so that both appear together. It is of what the
file says, not of its bytes: the same whoever reads it, and however the data are cut into blocks.
"""

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lit_prompt.errors import InputError

#: key in a file's metadata
CHECKSUM = "sha256"


def refuse_changed(path: Path, written: object, found: str, advice: str) -> None:
    """Compares the checksum that a file names with that of its contents.

    Args:
        path: the file, or its line.
        written: what it names; None where it names none, though it should.
        found: of its contents.
        advice: what the user can do.

    Raises:
        InputError: if they differ.
    """
    if written != found:
        raise InputError(f"{path}: its contents are not what was written (checksum); {advice}")


def plain_digest(values: Any) -> str:
    """Checksum of plain values, as JSON has them."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def arrays_digest(arrays: Mapping[str, NDArray[Any]], about: Mapping[str, str]) -> str:
    """Checksum of arrays by name, and of the metadata beside them (but for the checksum itself)."""
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {_name(array.dtype)} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    digest.update(plain_digest({k: v for k, v in about.items() if k != CHECKSUM}).encode())
    return digest.hexdigest()


_name = cache(str)  # asking a data type for its name takes longer than a prompt's checksum


def table_digest(table: pa.Table) -> str:
    """Checksum of a table, and of its metadata (but for the checksum itself)."""
    digest = TableDigest()
    digest.update(table)
    metadata = {k.hex(): v.hex() for k, v in (table.schema.metadata or {}).items() if k != CHECKSUM.encode()}
    return plain_digest([digest.hexdigest(), metadata])


class TableDigest:
    """Checksum of a table that comes in parts, however it is cut: of texts, numbers and lists of those."""

    def __init__(self) -> None:
        self._streams: dict[str, Any] = {}

    def update(self, table: pa.Table) -> None:
        """Adds rows; all parts have the same columns."""
        for name, column in zip(table.column_names, table.columns, strict=True):
            kind = column.type
            self._add(f"{name} {f'list {kind.value_type}' if pa.types.is_list(kind) else kind}", b"")
            for chunk in column.chunks:
                self._add_array(name, chunk)

    def hexdigest(self) -> str:
        """The checksum of all rows so far."""
        return plain_digest({name: stream.hexdigest() for name, stream in self._streams.items()})

    def _add_array(self, name: str, array: pa.Array) -> None:
        self._add(f"{name} known", _numbers(pc.is_valid(array)))
        if pa.types.is_boolean(array.type):
            array = array.cast(pa.int8())
        if pa.types.is_list(array.type):
            self._add(f"{name} lengths", _numbers(pc.list_value_length(array)))
            self._add_array(f"{name} items", array.flatten())
        elif pa.types.is_string(array.type):
            texts = array.cast(pa.binary())
            self._add(f"{name} lengths", _numbers(pc.binary_length(texts)))
            self._add(f"{name} texts", b"".join(text for text in texts.to_pylist() if text))
        elif pa.types.is_integer(array.type) or pa.types.is_floating(array.type):
            self._add(f"{name} values", _numbers(array))
        elif not pa.types.is_null(array.type):
            raise TypeError(f"column {name} is {array.type}")

    def _add(self, name: str, content: Any) -> None:
        self._streams.setdefault(name, hashlib.sha256()).update(content)


def _numbers(array: pa.Array) -> NDArray[Any]:
    """The bytes of numbers, 0 where one is null, whatever lies in the memory of those."""
    known = array if array.null_count == 0 else array.fill_null(0)
    return np.ascontiguousarray(known.to_numpy(zero_copy_only=False)).view(np.uint8)
