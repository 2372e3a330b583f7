"""Reading a user's distributions from JSONL, CSV or Parquet."""

from collections.abc import Iterator
from pathlib import Path

from lit_prompt.data.user_distribution import Report, UserDistribution, raise_error
from lit_prompt.data.user_json import read_jsonl
from lit_prompt.data.user_rows import read_csv, read_parquet
from lit_prompt.errors import InputError

_READERS = {".jsonl": read_jsonl, ".csv": read_csv, ".parquet": read_parquet}


def read_distributions(path: Path, report: Report = raise_error) -> Iterator[UserDistribution]:
    """Reads the distributions of a file, those of JSONL one at a time.

    Args:
        path: ``.jsonl``: one object a line, ``{"name": "coin", "probs": {" heads": 0.5, " tails": 0.5}}`` or with
            lists, ``{"tokens": [...], "probs": [...]}`` or ``{"ids": [...], "probs": [...]}``; ``"strings"`` in place
            of ``"probs"`` or ``"tokens"`` for texts of several tokens; ``"context"``: the text before the prompt, or
            ``{"before": ..., "after": ...}``. ``.csv`` and ``.parquet``: a row an answer, columns ``token``, ``id`` or
            ``string``, ``prob`` and, where there are several distributions, ``name``; ``before`` and ``after``.
        report: given each mistake. By default it raises; where it returns, the reading goes on with what follows.

    Raises:
        InputError: if the file is missing or malformed; the message names the line.
    """
    if not path.is_file():
        return report(InputError(f"{path}: no such file; data.families' path is taken from the folder you are in"))
    if path.suffix not in _READERS:
        return report(InputError(f"{path}: the name must end in .jsonl, .csv or .parquet"))
    yield from _READERS[path.suffix](path, report)
