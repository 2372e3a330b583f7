"""Parquet files with known columns, a version and a checksum."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lit_prompt.errors import InputError
from lit_prompt.files import write_whole
from lit_prompt.records.checksum import CHECKSUM, refuse_changed, table_digest
from lit_prompt.records.versions import KEY, refuse_newer

TEXT, NUMBER, COUNT = pa.string(), pa.float64(), pa.int64()
#: rows that are written, and can be read, at a time
_ROW_GROUP = 2**14


@dataclass(frozen=True)
class TableFormat:
    """A kind of Parquet file."""

    schema: pa.Schema
    needed: tuple[str, ...] = ()  #: columns that a file must have; others are null where it lacks them
    filled: tuple[str, ...] = ()  #: columns in which no value may be missing or, of numbers, not finite
    #: written into the metadata; raise it when a reader of the old columns would go wrong (1 had no checksum)
    version: int = 2
    advice: str = "write it again with the command that wrote it"  #: what to do about a file that is damaged

    def table(self, rows: Iterable[dict[str, Any]]) -> pa.Table:
        """A table of rows."""
        return pa.Table.from_pylist(list(rows), schema=self.schema)

    def write(self, table: pa.Table, path: Path) -> Path:
        """Writes a table, whole or not at all; returns ``path``."""
        metadata = {**(table.schema.metadata or {}), KEY: str(self.version)}
        table = table.replace_schema_metadata(metadata)
        table = table.replace_schema_metadata({**metadata, CHECKSUM: table_digest(table)})
        content = pa.BufferOutputStream()
        pq.write_table(table, content, row_group_size=_ROW_GROUP)
        write_whole(path, content.getvalue())
        return path

    def read(self, path: Path) -> pa.Table:
        """Reads a file of this or an earlier version.

        Raises:
            InputError: if it cannot be read, was written by a newer lit_prompt, or does not hold what it should or what
                was written.
        """
        try:
            with path.open("rb") as file:  # opened once: another process may replace it at any moment
                table = pq.ParquetFile(file).read()
            table.validate(full=True)
            contents = table_digest(table)
        except (OSError, ValueError, TypeError, pa.ArrowException) as error:
            raise InputError(f"{path} cannot be read ({' '.join(str(error).split())})") from error
        metadata = table.schema.metadata or {}
        version, checksum = (metadata.get(key.encode(), b"").decode(errors="replace") for key in (KEY, CHECKSUM))
        refuse_newer(path, version, self.version)
        if checksum or version == str(self.version):
            refuse_changed(path, checksum, contents, self.advice)
        if missing := [name for name in (*self.filled, *self.needed) if name not in table.column_names]:
            raise InputError(f"{path} was not written by lit_prompt (it has no column {missing[0]})")
        columns = [self._column(path, table, field) for field in self.schema]
        return pa.Table.from_arrays(columns, schema=self.schema.with_metadata(metadata))

    def _column(self, path: Path, table: pa.Table, field: pa.Field) -> Any:
        if field.name not in table.column_names:
            return pa.nulls(len(table), field.type)
        column = table[field.name]
        try:
            column = column.cast(field.type)
        except pa.ArrowException as error:
            raise InputError(f"{path}: column {field.name} is {column.type}, not {field.type}") from error
        if field.name in self.filled:
            known = pc.is_finite(column) if pa.types.is_floating(field.type) else pc.is_valid(column)
            if lacking := len(column) - (pc.sum(known).as_py() or 0):
                raise InputError(f"{path}: column {field.name} is empty or not finite in {lacking} rows")
        return column
