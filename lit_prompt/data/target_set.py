"""A set of targets on disk, memory-mapped through ``datasets``."""

import hashlib
import json
import math
from collections.abc import Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor

from lit_prompt.data.answers import Answers
from lit_prompt.data.target import Exchangeable, Rejected, Target, Texts
from lit_prompt.data.target_folder import LIGHT, new_folder, read_info, rebuilt, refuse_changed_rows
from lit_prompt.data.target_table import (
    completed,
    dense_log_probs,
    first_changed,
    stored_targets,
    target_blocks,
    target_table,
    with_defaults,
)
from lit_prompt.errors import InputError
from lit_prompt.functional.answer_tree import AnswerTree
from lit_prompt.records.checksum import CHECKSUM, refuse_changed

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
    texts: list[Texts]
    answers: list[Answers | None]
    task: list[int]  #: number of each target's task in the set
    task_id: list[str]  #: its id
    weight: Tensor  #: share in the task, those of all targets of it that are searched sum to 1, ``[item]``, float64
    held_out: list[bool]
    exchangeable: list[Exchangeable | None]

    def __len__(self) -> int:
        return len(self.index)

    @property
    def tasks(self) -> dict[int, list[int]]:
        """The items that belong to each task, by its number."""
        found: dict[int, list[int]] = {}
        for item, task in enumerate(self.task):
            found.setdefault(task, []).append(item)
        return found

    def subset(self, items: Sequence[int]) -> "TargetBatch":
        """Some of these targets."""
        chosen = list(items)
        values: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        for name, value in values.items():
            values[name] = value[chosen] if isinstance(value, Tensor) else [value[i] for i in chosen]
        return replace(self, **values)

    @property
    def task_ids(self) -> list[str]:
        """Ids of the tasks, in the order of :attr:`tasks`."""
        return list(dict.fromkeys(self.task_id))

    @cached_property
    def trees(self) -> list[AnswerTree | None]:
        """Of targets over answers, the tree of their tokens."""
        return [None if answers is None else answers.tree for answers in self.answers]

    def first_tokens(self, item: int) -> dict[int, str]:
        """Of one of these targets, the texts of several tokens that a token stands for, by its id."""
        return {token_id: text for text, token_id in self.metadata[item].get("first_tokens", {}).items()}

    @cached_property
    def fingerprints(self) -> list[str]:
        """SHA-256 over each distribution, 16 hexadecimal digits: what a target is, whatever its id."""
        own = ("" if answers is None else answers.to_json() for answers in self.answers)
        return fingerprints(self.log_probs, own)


def fingerprints(log_probs: Tensor, also: Iterable[str] | None = None) -> list[str]:
    """SHA-256 over each row of log-probabilities, ``[item, vocab]``, and what else it is; 16 hexadecimal digits."""
    rows = log_probs.contiguous().numpy()
    return [
        hashlib.sha256(row.tobytes() + text.encode()).hexdigest()[:16]
        for row, text in zip(rows, also or [""] * len(rows), strict=True)
    ]


class TargetSet:
    """An ordered set of targets in a folder that ``datasets.load_from_disk`` reads.

    The distributions stay on disk and are memory-mapped: reading a batch costs that batch. What else a
    :class:`Target` has, but for its seed, answers and metadata, is at hand as a list (entropies in nats, ``[target]``,
    float64).

    Every target belongs to a task, for which one prompt is searched; one that names none is a task by itself.

    Attributes:
        task_ids: of the tasks, in the order of their first targets.
        task: number of each target's task.
        weight: of each target in its task, ``[target]``, float64: those that are searched sum to 1, and so do those
            that are held out.

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
            found = with_defaults(columns, [name for name in LIGHT if name != CHECKSUM]).to_pydict()
        refuse_changed_rows(self.folder, info, columns)
        self.target_id: list[str] = found["target_id"]
        self.family: list[str] = found["family"]
        self.entropy = torch.tensor(found["entropy"], dtype=torch.float64)
        self.partner_of: list[str | None] = found["partner_of"]
        self.texts = [Texts(*texts) for texts in zip(found["before"], found["after"], found["chat"], strict=True)]
        self.held_out: list[bool] = found["held_out"]
        names = [name or own for name, own in zip(found["task"], self.target_id, strict=True)]
        self.task_ids = list(dict.fromkeys(names))
        numbers = {name: number for number, name in enumerate(self.task_ids)}
        self.task = [numbers[name] for name in names]
        self.weight = _shares(found["weight"], list(zip(self.task, self.held_out, strict=True)))

    def __len__(self) -> int:
        return len(self.target_id)

    @property
    def drawn(self) -> int:
        """Number of targets that were drawn, of which these may have been selected after their results were seen."""
        drawn: int = self._info.get("drawn", len(self))
        return drawn

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
            texts=[self.texts[i] for i in index],
            answers=[None if text is None else Answers.from_json(text) for text in rows["answers"].to_pylist()],
            task=[self.task[i] for i in index],
            task_id=[self.task_ids[self.task[i]] for i in index],
            weight=self.weight[index],
            held_out=[self.held_out[i] for i in index],
            exchangeable=rows["exchangeable"].to_pylist(),
        )

    def members(self, task: int, held_out: bool = False) -> list[int]:
        """Positions of a task's targets: of those that are searched, or of those that are held out."""
        return self._members.get((task, held_out), [])

    @cached_property
    def over_answers(self) -> list[bool]:
        """Which targets are over answers of several tokens, or cells of them."""
        if "answers" not in self._rows.column_names:
            return [False] * len(self)
        found: list[bool] = self._rows.data.column("answers").is_valid().to_pylist()
        return found

    @cached_property
    def task_family(self) -> list[str]:
        """Family of each task."""
        first = dict(zip(reversed(self.task), reversed(self.family), strict=True))
        return [first[task] for task in range(len(self.task_ids))]

    @cached_property
    def _members(self) -> dict[tuple[int, bool], list[int]]:
        found: dict[tuple[int, bool], list[int]] = {}
        for position, key in enumerate(zip(self.task, self.held_out, strict=True)):
            found.setdefault(key, []).append(position)
        return found

    @property
    def has_tasks(self) -> bool:
        """Whether any task is of more than a target."""
        return len(self.task_ids) < len(self)

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
            rows = completed(rows)
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
        info = self._info | {"fingerprint": digest, "rejected": [], "drawn": self.drawn}
        with new_folder(folder, info) as write:
            for start in range(0, len(index), _ROWS_PER_READ):
                write(self._read(index[start : start + _ROWS_PER_READ]))
        return TargetSet(folder)

    @staticmethod
    def write(
        folder: Path, targets: Iterable[Target | Rejected], vocab_size: int, vocabulary: str, lm: str | None = None
    ) -> "TargetSet":
        """Streams targets to a folder that must not exist yet, whole or not at all, and opens it.

        Rejected targets are listed, not stored. ``vocabulary`` is the vocabulary's fingerprint, ``lm`` the hub id or
        folder of its LM.

        Raises:
            InputError: if two targets have the same id, there is none, or all of a task are held out.
        """
        seen: set[str] = set()
        tasks = TaskNames()
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
                    tasks.add(item)
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
            tasks.check()
            info |= {"fingerprint": digest.hexdigest()[:16], "rejected": [asdict(item) for item in rejected]}
        return TargetSet(folder)


def _contents(target: Target, vocab_size: int) -> bytes:
    """All that a search depends on."""
    listed = vocab_size if target.token_ids is None else len(target.token_ids)
    if len(target.log_probs) != listed:
        raise ValueError(f"{target.target_id}: {len(target.log_probs)} log-probabilities for {listed} tokens")
    sparse = None if target.token_ids is None else [listed, target.rest_log_prob]
    facts: list[Any] = [target.target_id, target.family, target.seed, target.metadata, sparse]
    facts += [target.partner_of, target.before, target.after]
    own_task = target.task is None and not target.held_out and target.chat is None and target.answers is None
    if not own_task:  # else as before there were tasks: a search of then is resumed
        answers = None if target.answers is None else target.answers.to_json()
        facts += [target.task, target.weight, target.held_out, target.chat, answers]
    ids = b"" if target.token_ids is None else target.token_ids.numpy().tobytes()
    return json.dumps(facts).encode() + target.log_probs.numpy().tobytes() + ids


def _shares(weights: Sequence[float], groups: Sequence[Hashable]) -> Tensor:
    """Weights, each divided by the sum of its group, ``[weight]``, float64."""
    totals: dict[Hashable, float] = {}
    for weight, group in zip(weights, groups, strict=True):
        totals[group] = totals.get(group, 0.0) + weight
    shares = [weight / totals[group] for weight, group in zip(weights, groups, strict=True)]
    return torch.tensor(shares, dtype=torch.float64)


class TaskNames:
    """Which tasks targets belong to, as they are written."""

    def __init__(self) -> None:
        self._searched: dict[str, bool] = {}  # whether any target of a task is searched for
        self._named: set[str] = set()  # tasks that targets name
        self._alone: set[str] = set()  # those of targets that name none

    def add(self, target: Target) -> None:
        """Takes in a target.

        Raises:
            InputError: if its weight is not positive.
        """
        if not 0.0 < target.weight < math.inf:
            raise InputError(f"{target.target_id}: weight is {target.weight:g}; it must be a positive number")
        name = target.task or target.target_id
        (self._alone if target.task is None else self._named).add(name)
        self._searched[name] = self._searched.get(name, False) or not target.held_out

    def check(self) -> None:
        """Raises InputError if all targets of a task are held out, or a task is called as a target outside of it."""
        for name in self._named & self._alone:
            raise InputError(f"{name!r} is the name of a task and of a target that is in none; rename one of them")
        for name, searched in self._searched.items():
            if not searched:
                raise InputError(f"{name}: all of it is held out (split: test), so that nothing can be searched for")
