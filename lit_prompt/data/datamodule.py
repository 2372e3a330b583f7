"""Targets as a LightningDataModule."""

import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property, lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch.utils.data import DataLoader, Sampler

from lit_prompt.data.carried import CarriedTargets
from lit_prompt.data.evaluation_parts import EvaluationParts
from lit_prompt.data.families import TargetFamily
from lit_prompt.data.named_answers import NamedAnswers
from lit_prompt.data.run_folder import parts_folder, run_folder, shared_folder
from lit_prompt.data.shard import Shard
from lit_prompt.data.target import Rejected, Target
from lit_prompt.data.target_set import TargetBatch, TargetSet
from lit_prompt.embedded import embedded
from lit_prompt.errors import InputError
from lit_prompt.leases import Leases
from lit_prompt.lm import DEFAULT_LM, FrozenLM, LMOptions, Vocabulary
from lit_prompt.progress import phase
from lit_prompt.served.lm import ServedLM
from lit_prompt.served.served import Served, as_served
from lit_prompt.served.store import AnswerStore
from lit_prompt.under_way import temporary_folder

_log = logging.getLogger(__name__)
_MOST_REMARKS = 20
_LOOK = 0.5  # seconds until a process that waits for another looks again
# probabilities that an evaluation has at once: it holds some ten times as many numbers, in float64
_PROBABILITIES = 2**22


def check_vocabulary(targets: TargetSet, vocabulary: Vocabulary) -> None:
    """Refuses targets that are over another vocabulary.

    Raises:
        InputError: if that is so.
    """
    if targets.vocabulary != vocabulary.fingerprint:
        built = "" if targets.lm is None else f", {targets.lm}"
        raise InputError(
            f"{targets.folder}: these targets are over another vocabulary ({targets.vocab_size} tokens{built}) "
            f"than the LM's ({vocabulary.size} tokens); build them for this LM or choose theirs with --lm"
        )


class _ChunkSampler(Sampler[int]):
    """Yields, a step at a time, the number of the chunk that a module searches."""

    def __init__(self, module: Any) -> None:
        self._module = module

    def __iter__(self) -> Iterator[int]:
        for _ in range(len(self)):
            yield self._module.chunks.chunk

    def __len__(self) -> int:
        steps: int = self._module.steps
        return steps


class _PartSampler(Sampler[int]):
    """Yields the numbers of the parts that this process evaluates."""

    def __init__(self, parts: EvaluationParts, most: int) -> None:
        self._parts = parts
        self._most = most

    def __iter__(self) -> Iterator[int]:
        return self._parts.numbers()

    def __len__(self) -> int:
        return self._most


class TargetDataModule(L.LightningDataModule):
    """Target distributions, each an item, searched in chunks.

    Args:
        families: families of targets; their targets follow one another.
        chunk_size: targets that are searched at the same time; a task is never divided. It bounds the memory. Searches
            that share what they try, such as the default one for hard prompts, find more the more there are; others
            find the same on a CPU, on a GPU but for the rounding.
        shard: this process among those of one run, such as 3/16: where it begins, before it takes what is left.
        load: folder of a saved set of targets, used instead of ``families``.
        lm: the LM that is searched, over whose vocabulary the targets are; set by ``--lm``.
        lm_options: how that LM is loaded; set by ``--lm_options``.
    """

    targets: TargetSet
    #: What is to be known of targets that were built or carried over here, a line each.
    notes: list[str]
    #: LM whose targets are loaded, and how it is loaded, where they are to be carried over to this one's vocabulary.
    made_for: tuple[str, LMOptions] | None = None
    #: The parts of an evaluation that several processes make side by side.
    parts: EvaluationParts | None = None
    #: Fingerprint that the targets must have which are loaded; None for any.
    searched: str | None = None

    def __init__(
        self,
        families: list[TargetFamily] | None = None,
        chunk_size: int = 64,
        load: Path | None = None,
        shard: str = "1/1",
        lm: str | Served = DEFAULT_LM,
        lm_options: LMOptions | None = None,
    ) -> None:
        super().__init__()
        if chunk_size < 1:
            raise InputError(f"data.chunk_size is {chunk_size}; it must be at least 1")
        if not families and load is None:
            raise InputError("no targets: give data.families (see configs/demo.yaml) or data.load")
        self.families = families or []
        self._shard = Shard.parse(shard)
        self.chunk_size = chunk_size
        self.load = None if load is None else Path(os.path.expanduser(load))
        self.served = as_served(lm)
        self.lm = str(self.served) if self.served is not None else embedded(str(lm))
        self.lm_options = lm_options or LMOptions()
        self.notes = []
        self.vocabulary = self.load_vocabulary()

    def load_vocabulary(self) -> Any:
        """The vocabulary of the LM; where that is only served, what stands for one.

        Raises:
            InputError: if there is no such LM.
        """
        return Vocabulary.load(self.lm, self.lm_options) if self.served is None else NamedAnswers(self.lm)

    def load_lm(self, device: torch.device | None) -> Any:
        """The LM, on a device; or what asks for it where it is only served.

        Raises:
            InputError: if it cannot be loaded.
        """
        if self.served is None:
            return FrozenLM.load(self.lm, self.lm_options, device)
        adds = self.trainer is None or not self.trainer.validating
        store = AnswerStore(None if self.trainer is None else run_folder(self.trainer), adds)
        return ServedLM(self.served, store, any(texts.chat is not None for texts in self.targets.texts))

    def setup(self, stage: str) -> None:
        """Builds the targets, or opens the set that was built before.

        A fit keeps its set in the run's folder, so that a resume and a test read what was searched for.
        """
        if hasattr(self, "targets"):
            return
        shared = shared_folder(self.trainer)
        if self.load is None and shared is not None and stage == "fit":
            self._build_once(shared)
            return
        if self.load is None:
            self.targets = self.build(self._folder(stage))
            self._tell_remarks()
            return
        self.targets = TargetSet(self.load)
        if self.searched not in (None, self.targets.fingerprint):
            raise InputError(
                f"{self.load}: these are not the targets that the prompts were searched for "
                f"({self.targets.fingerprint}, not {self.searched}); bring the run's own back"
            )
        if self.made_for is None:
            check_vocabulary(self.targets, self.vocabulary)
        elif self.targets.vocabulary != self.vocabulary.fingerprint:
            lm, options = self.made_for
            source = Vocabulary.load(lm, options) if as_served(lm) is None else NamedAnswers(lm)
            carried = CarriedTargets(source, self.vocabulary)(self.targets.stored())
            self.targets = self._write(carried, temporary_folder(self) / "targets")
            self._tell_remarks()

    def _build_once(self, run: Path) -> None:
        """Builds the targets of a run that several processes search: one of them does, and the others wait for it."""
        leases, folder = Leases(run / "leases"), run / "targets"
        with phase("waiting for the targets that another process builds"):
            while not folder.is_dir() and not leases.take("targets"):
                time.sleep(_LOOK)
        try:
            if folder.is_dir():
                self.targets = TargetSet(folder)
            else:
                self.targets = self.build(folder)
                self._tell_remarks()
        finally:
            leases.close()

    def _tell_remarks(self) -> None:
        remarks = [f"rejected {r.target_id}: {r.reason}" for r in self.targets.rejected]
        remarks += [f"note on {note}" for note in self.notes]
        for remark in remarks[:_MOST_REMARKS]:
            _log.warning("%s", remark)
        if len(remarks) > _MOST_REMARKS:
            _log.warning("... and %d more such remarks on targets", len(remarks) - _MOST_REMARKS)

    def _folder(self, stage: str) -> Path:
        run = run_folder(self.trainer) if self.trainer is not None and stage == "fit" else None
        if run is not None and not (run / "targets").exists():
            return run / "targets"
        return temporary_folder(self) / "targets"

    def build(self, folder: Path) -> TargetSet:
        """Builds the targets of the families in a folder that must not exist yet, and fills :attr:`notes`.

        Raises:
            InputError: if a family's settings are wrong, or none of them makes a target.
        """
        for family in self.families if self.served is not None else ():
            if not family.takes_names:
                raise InputError(
                    f"{type(family).__name__} needs the LM's vocabulary, which {self.lm} does not tell; FromFile and "
                    "Given name the answers of their targets"
                )
        made = chain.from_iterable(family.targets(self.vocabulary) for family in self.families)
        return self._write(made, folder)

    def _write(self, targets: Iterable[Target | Rejected], folder: Path) -> TargetSet:
        def noted(tick: Callable[[int], None]) -> Iterator[Target | Rejected]:
            for item in targets:
                if isinstance(item, Target) and (note := item.metadata.get("note")) is not None:
                    self.notes.append(f"{item.target_id}: {note}")
                tick(1)
                yield item

        vocabulary = self.vocabulary
        with phase("building", "target") as tick:
            return TargetSet.write(folder, noted(tick), vocabulary.size, vocabulary.fingerprint, vocabulary.lm)

    @property
    def part(self) -> Shard:
        """The part of the work that this process begins with."""
        trainer = self.trainer
        return self._shard if trainer is None else self._shard.divided(trainer.global_rank, trainer.world_size)

    @property
    def num_chunks(self) -> int:
        """Number of chunks, and so of a fit's epochs."""
        return len(self.chunks)

    @cached_property
    def chunks(self) -> list[list[int]]:
        """Numbers of the tasks of each chunk."""
        found: list[list[int]] = []
        room = 0
        for task in range(len(self.targets.task_ids)):
            size = len(self.targets.members(task))
            if size > room:
                found.append([])
                room = self.chunk_size
            found[-1].append(task)
            room -= size
        return found

    def _loader(self, chunks: Any, sampler: Sampler[int] | None = None) -> DataLoader[TargetBatch]:
        # a fit asks for the same chunk at every step
        read: Any = lru_cache(maxsize=1)(self.targets.batch)
        return DataLoader(chunks, sampler=sampler, batch_size=None, collate_fn=read)

    def train_dataloader(self) -> DataLoader[TargetBatch]:
        """One chunk an epoch, repeated at each of the module's steps."""
        assert self.trainer is not None
        searched = [tuple(i for task in chunk for i in self.targets.members(task)) for chunk in self.chunks]
        return self._loader(searched, _ChunkSampler(self.trainer.lightning_module))

    def evaluation_dataloader(self, stride: int = 1) -> DataLoader[TargetBatch]:
        """Every target once, held-out ones too, or every so many-th; in parts whose distributions fit the memory."""
        module: Any = None if self.trainer is None else self.trainer.lightning_module
        each = self.vocabulary.size * (1 if module is None else module.restarts * module.components)
        size, shown = max(1, min(self.chunk_size, _PROBABILITIES // each)), range(0, len(self.targets), stride)
        parts = [shown[start : start + size] for start in range(0, len(shown), size)]
        return self._loader(parts, None if self.parts is None else _PartSampler(self.parts, len(parts)))

    def test_dataloader(self) -> DataLoader[TargetBatch]:
        """Every target once, by one of the processes that evaluate side by side."""
        assert self.trainer is not None
        loader = self.evaluation_dataloader()
        if self.trainer.world_size == 1:
            return loader
        if (folder := parts_folder(self.trainer)) is None:
            raise InputError("several processes evaluate a run that has a folder (--run); set trainer.devices to 1")
        self.parts = EvaluationParts(folder, self.part, len(loader))
        return self.evaluation_dataloader()

    predict_dataloader = test_dataloader

    def val_dataloader(self) -> DataLoader[TargetBatch] | list[Any]:
        """Every target once for ``validate``; nothing during a fit, which evaluates at its end."""
        fitting = self.trainer is not None and self.trainer.state.fn == "fit"
        return [] if fitting else self.test_dataloader()

    def transfer_batch_to_device(self, batch: TargetBatch, device: Any, dataloader_idx: int) -> TargetBatch:
        """Leaves a batch where it is: the module moves it once a chunk, not once a step."""
        return batch
