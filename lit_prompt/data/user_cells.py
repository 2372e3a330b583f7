"""Cells of a user's distribution: sets of answers that have a probability together."""

import reprlib
from typing import Any, NamedTuple

from lit_prompt.errors import InputError


class UserCells(NamedTuple):
    """Cells as a file gives them."""

    names: list[str]
    answers: list[list[str]]  #: of each cell
    given: list[Any]  #: the value of each cell

    @classmethod
    def read(cls, cells: Any, values: Any, key: str, where: str) -> "UserCells":
        """Cells from objects of a cell's name to its answers and to its value, or from two lists.

        Args:
            cells: lists of answers by name, or a list of them; a cell's name is then its first answer.
            values: values by name, or a list of them.
            key: of the values in the file, such as ``probs``.
            where: file and line, for errors.

        Raises:
            InputError: if they are neither, do not belong together, or an answer stands twice.
        """
        if isinstance(cells, dict) and isinstance(values, dict):
            for name in cells:
                if name not in values:
                    raise InputError(f'{where}: the cell {name!r} has no value in "{key}"')
            for name in values:
                if name not in cells:
                    raise InputError(f'{where}: "{key}" names {name!r}, which is not among the "cells"')
            found = cls(list(cells), list(cells.values()), [values[name] for name in cells])
        elif isinstance(cells, list) and isinstance(values, list):
            if len(cells) != len(values):
                raise InputError(f'{where}: {len(cells)} cells but {len(values)} values in "{key}"')
            found = cls([str(cell[0]) if isinstance(cell, list) and cell else "" for cell in cells], cells, values)
        else:
            raise InputError(
                f'{where}: "cells" need "{key}" beside them: {{"cells": {{"yes": [" yes", " Yes"], "no": [" no"]}}, '
                f'"{key}": {{"yes": ..., "no": ...}}}}, or a list beside a list'
            )
        found._check(where)
        return found

    def _check(self, where: str) -> None:
        cell_of: dict[str, str] = {}
        for name, answers in zip(self.names, self.answers, strict=True):
            if not isinstance(answers, list) or not all(isinstance(answer, str) for answer in answers):
                raise InputError(f"{where}: the cell {name!r} is {reprlib.repr(answers)}, not a list of answers")
            if not answers:
                raise InputError(f"{where}: a cell{f' ({name!r})' if name else ''} is empty; list its answers")
            for answer in answers:
                if answer in cell_of and cell_of[answer] == name:
                    raise InputError(f"{where}: answer {answer!r} is listed twice in the cell {name!r}")
                if answer in cell_of:
                    raise InputError(
                        f"{where}: answer {answer!r} is in two cells, {cell_of[answer]!r} and {name!r}; keep it in one"
                    )
                cell_of[answer] = name
