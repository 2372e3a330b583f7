"""A set of targets on disk, memory-mapped through ``datasets``."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor

from lit_prompt.data.target import Rejected, Target
from lit_prompt.data.target_folder import LIGHT, new_folder, read_info, rebuilt, refuse_changed_rows
from lit_prompt.data.target_table import (
    dense_log_probs,
    first_changed,
    stored_targets,
    target_blocks,
    target_table,
    with_checksums,
)
from lit_prompt.errors import InputError
from lit_prompt.records.checksum import refuse_changed

_ROWS_PER_READ = 64


@dataclass
class TargetBatch:
    """Some targets of a set, dense; each field but ``index`` stacks the attribute of a :class:`Target` of its name."""

    index: list[int]  #: positions in the set
    target_id: list[str]
    family: list[str]
    log_probs: Tensor  #: ``[item, vocab]``, float32
    entropy: Tensor  #: nats, ``[item]``, float64
    metadata: list[dict[str, Any]]
    partner_of: list[str | None]
    before: list[str | None]
    after: list[str | None]

    def __len__(self) -> int:
        return len(self.index)

    def answers(self, item: int) -> dict[int, str]:
        """Of one of these targets, the texts of several tokens that a token stands for, by its id."""
        return {token_id: text for text, token_id in self.metadata[item].get("first_tokens", {}).items()}

    @cached_property
    def fingerprints(self) -> list[str]:
        """SHA-256 over each distribution, 16 hexadecimal digits: what a target is, whatever its id."""
        rows = self.log_probs.contiguous().numpy()
        return [hashlib.sha256(row.tobytes()).hexdigest()[:16] for row in rows]


class TargetSet:
    """An ordered set of targets in a folder that ``datasets.load_from_disk`` reads.

    The distributions stay on disk and are memory-mapped: reading a batch costs that batch. What else a
    :class:`Target` has, but for its seed and metadata, is at hand as a list (entropies in nats, ``[target]``, float64).

    Raises:
        InputError: if the folder holds no set of targets that can be read, as :meth:`write` writes it; so do the
            methods that read targets which are not what was written.
    """

    def __init__(self, folder: Path) -> None:
        import datasets

        self.folder = Path(folder)
        info = self._info = read_info(self.folder)
        self.vocabulary: str = info["vocabulary"]  #: fingerprint of the vocabulary that the targets are over
        self.vocab_size: int = info["vocab_size"]
        self.lm: str | None = info["lm"]  #: hub id or folder of the LM whose vocabulary it is; None where not named
        self.fingerprint: str = info["fingerprint"]  #: changes with everything that a search depends on
        self.rejected = [Rejected(**rejected) for rejected in info["rejected"]]
        with self._reading():
            self._rows = datasets.load_from_disk(str(self.folder)).with_format("arrow")
            # without the distributions: reading them here would pull the whole set into memory
            columns = self._rows.select_columns([name for name in LIGHT if name in self._rows.column_names])[:]
            columns.validate(full=True)
            found = columns.to_pydict()
        refuse_changed_rows(self.folder, info, columns)
        self.target_id: list[str] = found["target_id"]
        self.family: list[str] = found["family"]
        self.entropy = torch.tensor(found["entropy"], dtype=torch.float64)
        self.partner_of: list[str | None] = found["partner_of"]
        self.before: list[str | None] = found["before"]
        self.after: list[str | None] = found["after"]

    def __len__(self) -> int:
        return len(self.target_id)

    def batch(self, index: Sequence[int]) -> TargetBatch:
        """Reads the targets at some positions, in this order; dense, whatever they are on disk."""
        index = list(index)
        rows = self._read(index)
        return TargetBatch(
            index=index,
            target_id=[self.target_id[i] for i in index],
            family=[self.family[i] for i in index],
            log_probs=dense_log_probs(rows, self.vocab_size),
            entropy=self.entropy[index],
            metadata=[json.loads(text) for text in rows["metadata"].to_pylist()],
            partner_of=[self.partner_of[i] for i in index],
            before=rows["before"].to_pylist(),
            after=rows["after"].to_pylist(),
        )

    def stored(self) -> Iterator[Target]:
        """All targets in their order, each sparse where it is sparse on disk; some are in memory at a time."""
        for start in range(0, len(self), _ROWS_PER_READ):
            yield from stored_targets(self._read(list(range(start, min(start + _ROWS_PER_READ, len(self))))))

    def _read(self, index: list[int]) -> pa.Table:
        """The rows at some positions, as they were written."""
        with self._reading():
            rows: pa.Table = self._rows[index]
            rows.validate(full=True)
            changed = first_changed(rows)
        if changed is not None:
            where = Path(f"{self.folder}: target {self.target_id[index[changed]]}")
            refuse_changed(where, None, "", rebuilt(self.folder))
        return rows

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except MemoryError:
            raise
        except Exception as error:  # of a damaged file datasets and Arrow raise whatever they come across
            said = " ".join(str(error).split())
            raise InputError(f"{self.folder}: these targets cannot be read ({said}); {rebuilt(self.folder)}") from error

    def select(self, index: Sequence[int], folder: Path) -> "TargetSet":
        """Saves the targets at some positions as a set of their own, in a folder that must not exist yet."""
        index = list(index)
        digest = hashlib.sha256(json.dumps([self.fingerprint, index]).encode()).hexdigest()[:16]
        with new_folder(folder, self._info | {"fingerprint": digest, "rejected": []}) as write:
            for start in range(0, len(index), _ROWS_PER_READ):
                write(with_checksums(self._read(index[start : start + _ROWS_PER_READ])))
        return TargetSet(folder)

    @staticmethod
    def write(
        folder: Path, targets: Iterable[Target | Rejected], vocab_size: int, vocabulary: str, lm: str | None = None
    ) -> "TargetSet":
        """Streams targets to a folder that must not exist yet, whole or not at all, and opens it.

        Rejected targets are listed, not stored. ``vocabulary`` is the vocabulary's fingerprint, ``lm`` the hub id or
        folder of its LM.

        Raises:
            InputError: if two targets have the same id, or there is none.
        """
        seen: set[str] = set()
        rejected: list[Rejected] = []
        digest = hashlib.sha256(vocabulary.encode())

        def accepted() -> Iterator[Target]:
            for item in targets:
                if item.target_id in seen:
                    raise InputError(
                        f"two targets are called {item.target_id!r}; give each its own name "
                        "(two families of one kind: set init_args.name)"
                    )
                seen.add(item.target_id)
                if isinstance(item, Rejected):
                    rejected.append(item)
                else:
                    digest.update(_contents(item, vocab_size))
                    yield item

        info: dict[str, Any] = {"vocab_size": vocab_size, "vocabulary": vocabulary, "lm": lm}
        with new_folder(Path(folder), info) as write:
            for block in target_blocks(accepted()):
                write(target_table(block))
            if not seen:
                raise InputError("data.families makes no target; name at least one family of targets")
            if len(seen) == len(rejected):
                raise InputError(
                    f"none of the {len(seen)} targets could be made; the first, {rejected[0].target_id}: "
                    f"{rejected[0].reason}"
                )
            info |= {"fingerprint": digest.hexdigest()[:16], "rejected": [asdict(item) for item in rejected]}
        return TargetSet(folder)


def _contents(target: Target, vocab_size: int) -> bytes:
    """All that a search depends on."""
    listed = vocab_size if target.token_ids is None else len(target.token_ids)
    if len(target.log_probs) != listed:
        raise ValueError(f"{target.target_id}: {len(target.log_probs)} log-probabilities for {listed} tokens")
    sparse = None if target.token_ids is None else [listed, target.rest_log_prob]
    facts = [target.target_id, target.family, target.seed, target.metadata, sparse]
    facts += [target.partner_of, target.before, target.after]
    ids = b"" if target.token_ids is None else target.token_ids.numpy().tobytes()
    return json.dumps(facts).encode() + target.log_probs.numpy().tobytes() + ids
