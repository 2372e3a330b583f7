"""Where the searches of finished chunks stand, kept so that they can be taken further."""

import shutil
from pathlib import Path
from typing import Any

from lit_prompt.errors import InputError
from lit_prompt.records.tensors import load_tensors, write_tensors


class EndedChunks:
    """A file for each chunk of a run, by the steps that its search has made.

    Args:
        run: the run's folder; None to keep nothing.
    """

    def __init__(self, run: Path | None) -> None:
        self._folder = None if run is None else run / "checkpoints" / "ended"

    def keep(self, steps: int, chunk: int, state: dict[str, Any]) -> None:
        """Keeps the state of a chunk's search."""
        if self._folder is not None:
            path = self._path(self._folder, steps, chunk)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_tensors(state, path)

    def require(self, steps: int, chunks: int) -> None:
        """Raises InputError if the state of one of the chunks is gone."""
        for chunk in range(chunks):
            if self._folder is None or not (path := self._path(self._folder, steps, chunk)).is_file():
                where = "no folder" if self._folder is None else f"no {path}"
                raise InputError(
                    f"this search cannot go on after its {steps} steps: its state then is gone ({where}); start anew, "
                    "with fit --config"
                )

    def read(self, steps: int, chunk: int) -> dict[str, Any]:
        """The state of a chunk's search, on the CPU.

        Raises:
            InputError: if its file is damaged.
        """
        assert self._folder is not None
        path = self._path(self._folder, steps, chunk)
        state: dict[str, Any] = load_tensors(path, "start anew, with fit --config")
        return state

    def forget(self, steps: int) -> None:
        """Removes the states after so many steps: the searches have gone further."""
        if self._folder is not None:
            shutil.rmtree(self._folder / str(steps), ignore_errors=True)

    @staticmethod
    def _path(folder: Path, steps: int, chunk: int) -> Path:
        return folder / str(steps) / f"chunk_{chunk}.pt"
