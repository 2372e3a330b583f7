"""Natural text: files, saved datasets and datasets of the hub, read one document at a time."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lit_prompt.embedded import embedded
from lit_prompt.errors import InputError
from lit_prompt.files import BYTE_ORDER_MARK, refuse_utf16

_BUILDERS = {".txt": "text", ".jsonl": "json", ".json": "json", ".csv": "csv", ".parquet": "parquet"}
_COMPRESSED = (".gz", ".xz", ".bz2", ".zst")


@dataclass(frozen=True)
class TextSource:
    """Where natural text comes from; it is streamed, never held whole.

    Attributes:
        path: a file (.txt, .jsonl, .csv, .parquet, also compressed with gz, xz, bz2 or zst), a folder written by
            ``datasets``' save_to_disk, or the name of a dataset on the hub.
        column: the column that holds the text.
        config: configuration of a hub dataset.
        split: split of a dataset.
        unit: what counts as one text: a ``document`` (a row; a .txt file is one) or a ``paragraph`` of it; blank
            lines separate paragraphs.
    """

    path: str
    column: str = "text"
    config: str | None = None
    split: str = "train"
    unit: Literal["document", "paragraph"] = "paragraph"

    def texts(self) -> Iterator[str]:
        """Yields the texts in their order, without empty ones and rows that have none.

        Raises:
            InputError: if there is no such source, or it lacks the column.
        """
        found = False
        for number, row in enumerate(self._rows(), start=1):
            document = row.get(self.column)
            if document is None and self.column in row:
                continue
            if not isinstance(document, str):
                raise InputError(
                    f"{self.path}: row {number} has no text in column {self.column!r}; it has {sorted(row)} "
                    "(choose one with column)"
                )
            for text in document.split("\n\n") if self.unit == "paragraph" else [document]:
                if text := text.strip().removeprefix(BYTE_ORDER_MARK).strip():
                    found = True
                    yield text
        if not found:
            raise InputError(f"{self.path}: holds no text")

    def _rows(self) -> Iterator[dict[str, Any]]:
        import datasets

        path = Path(embedded(self.path))
        *_, name, compression = ["", "", *path.suffixes]
        kind = _BUILDERS.get(name if compression in _COMPRESSED else compression)
        try:
            if path.is_dir():
                rows = datasets.load_from_disk(str(path))
                rows = rows[self.split] if isinstance(rows, datasets.DatasetDict) else rows
            elif path.exists():
                if kind is None:
                    raise InputError(f"{self.path}: the name must end in {', '.join(_BUILDERS)} (also compressed)")
                if compression in (".txt", ".jsonl", ".json", ".csv"):
                    with path.open("rb") as file:
                        start = file.read(4)
                    if not start:
                        raise InputError(f"{self.path}: is empty")
                    refuse_utf16(path, start)
                # a cell of CSV is a text, "null" too
                reading: dict[str, Any] = {"keep_default_na": False} if kind == "csv" else {}
                if kind == "text":
                    reading = {"sample_by": "document"}
                rows = datasets.load_dataset(kind, data_files=str(path), split="train", streaming=True, **reading)
            elif kind or self.path.startswith((".", "/", "~")) or self.path.count("/") > 1:
                raise InputError(f"{self.path}: no such file; the path is taken from the folder you are in")
            else:
                rows = datasets.load_dataset(self.path, self.config, split=self.split, streaming=True)
            yield from rows
        except InputError:
            raise
        except StopIteration as error:  # there is no first row in a compressed file
            raise InputError(f"{self.path}: is empty") from error
        except Exception as error:  # datasets, pyarrow and the hub raise errors of their own
            reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise InputError(f"{self.path}: cannot be read as text ({reason[:300]})") from error


#: Natural texts of several kinds that come with the project, in which searches begin.
REGISTERS = TextSource("data/texts/registers.txt")
