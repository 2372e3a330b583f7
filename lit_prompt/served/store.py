"""Every answer of a server, kept as it comes: a SQLite file of each process in a run's folder."""

import hashlib
import json
import sqlite3
import zlib
from functools import cached_property
from pathlib import Path
from typing import Any

from lit_prompt.errors import InputError
from lit_prompt.leases import Leases

#: Folder of the files in a run's.
FOLDER = "answers"
_TABLES = """
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS answers (
    key BLOB PRIMARY KEY, read INTEGER NOT NULL, value BLOB NOT NULL
) WITHOUT ROWID;
"""


class AnswerStore:
    """Answers by what was asked, and a few facts; what one process has kept, others find when they begin.

    An answer is committed before it is used, so that a process that is killed has lost none that counts. What is kept
    is never the server's key.

    Args:
        run: the run's folder; None for a store in memory.
        adds: whether answers are kept; else they are read alone.

    Raises:
        InputError: if a file is damaged.
    """

    def __init__(self, run: Path | None, adds: bool = True) -> None:
        self._run, self._adds = run, adds
        self._folder = None if run is None else run / FOLDER
        self._leases: Leases | None = None
        _ = self._files

    @cached_property
    def _files(self) -> list[sqlite3.Connection]:
        """This process's own file, and the others'."""
        own: Path | None = None
        if self._folder is not None and self._run is not None and self._adds:
            self._folder.mkdir(exist_ok=True)
            self._leases = Leases(self._run / "leases")
            number = 0
            while not self._leases.take(f"answers.{number}"):
                number += 1
            own = self._folder / f"{number}.sqlite"
        others = [] if self._folder is None else [p for p in sorted(self._folder.glob("*.sqlite")) if p != own]
        with _named(self._folder):
            return [_opened(path) for path in (own, *others)]

    def find(self, question: Any) -> tuple[Any, int] | None:
        """The answer to a question, both values that JSON holds, and the tokens read for it; None if it is new."""
        key = question_key(question)
        for file in self._files:
            with _named(self._folder):
                row = file.execute("SELECT value, read FROM answers WHERE key = ?", (key,)).fetchone()
                if row is not None:
                    return json.loads(zlib.decompress(row[0])), int(row[1])
        return None

    def keep(self, question: Any, answer: Any, read: int = 0) -> None:
        """Keeps an answer, for which the server has read so many tokens; a former one is replaced."""
        value = zlib.compress(json.dumps(answer).encode())
        self._write("INSERT OR REPLACE INTO answers VALUES (?, ?, ?)", (question_key(question), read, value))

    @property
    def texts(self) -> int:
        """How many answers are kept for which the server has read tokens."""
        return int(self._sum("SELECT COUNT(*) FROM answers WHERE read > 0"))

    @property
    def read(self) -> int:
        """How many tokens the server has read for all that is kept."""
        return int(self._sum("SELECT COALESCE(SUM(read), 0) FROM answers"))

    @property
    def seconds(self) -> float:
        """Seconds that were spent asking."""
        return self._sum("SELECT COALESCE(SUM(CAST(value AS REAL)), 0) FROM facts WHERE name = 'seconds'")

    def spend(self, seconds: float) -> None:
        """Adds to the seconds that were spent."""
        add = "UPDATE SET value = CAST(value AS REAL) + excluded.value"
        self._write(f"INSERT INTO facts VALUES ('seconds', ?) ON CONFLICT(name) DO {add}", (seconds,))

    def fact(self, name: str) -> Any | None:
        """A fact that a process has kept; None where none has."""
        for file in self._files:
            with _named(self._folder):
                row = file.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
                if row is not None:
                    return json.loads(row[0])
        return None

    def keep_fact(self, name: str, value: Any) -> None:
        """Keeps a fact."""
        self._write("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, json.dumps(value)))

    def close(self) -> None:
        """Lets another process add to the file; who asks for an answer later opens it again."""
        for file in self.__dict__.pop("_files", ()):
            file.close()
        if self._leases is not None:
            self._leases.close()

    def _sum(self, query: str) -> float:
        with _named(self._folder):
            return sum(float(file.execute(query).fetchone()[0]) for file in self._files)

    def _write(self, statement: str, values: tuple[Any, ...]) -> None:
        with _named(self._folder):
            self._files[0].execute(statement, values)


def question_key(question: Any) -> bytes:
    """What an answer is kept under."""
    return hashlib.sha256(json.dumps(question, sort_keys=True).encode()).digest()


def _opened(path: Path | None) -> sqlite3.Connection:
    file = sqlite3.connect(":memory:" if path is None else path, isolation_level=None, timeout=60.0)
    # a killed process loses nothing with this, a machine that loses its power the last answers at most
    file.execute("PRAGMA journal_mode = WAL")
    file.execute("PRAGMA synchronous = NORMAL")
    file.executescript(_TABLES)
    return file


class _named:
    """Turns an error of SQLite into one line."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, (sqlite3.Error, zlib.error, ValueError)):
            raise InputError(
                f"{self._folder}: the answers that are kept here cannot be used ({error}); move the folder away, and "
                "the server is asked again"
            ) from error
