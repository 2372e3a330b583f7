"""Scores and gradients of prompts from an LM whose weights are at hand."""

from collections.abc import Callable
from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lit_prompt.lm import FrozenLM, LMCache
from lit_prompt.objectives import Objective
from lit_prompt.scoring.context_states import ContextStates
from lit_prompt.scoring.likely_tokens import LikelyTokens
from lit_prompt.scoring.micro_batch import MicroBatch
from lit_prompt.scoring.part import Part
from lit_prompt.scoring.part_reader import PartReader
from lit_prompt.scoring.prompted_lm import Bases, PromptedLM
from lit_prompt.scoring.readings import Readings, SharedReadings
from lit_prompt.scoring.scorer import Scorer
from lit_prompt.scoring.slots import Slots


class LMScorer(Scorer):
    """Scores soft and token prompts with an LM.

    The score of a prompt is the objective in nats, weighted over the targets of a task, plus, for token prompts,
    ``fluency`` times the prompt's mean negative log-likelihood per token in nats. A prompt goes through the LM once in
    each context of its task.

    Args:
        lm: the LM.
        slots: what is searched.
        log_probs: the targets, ``[target, vocab]``, on the CPU.
        length: positions of a prompt.
        objective: what is minimised; of targets over answers it is KL(target || LM).
        micro_batch: how many prompts go through the LM at once.
        fluency: weight of the prompt's own log-likelihood.
        temperature: what the LM's logits are divided by in what is minimised.
    """

    def __init__(
        self,
        lm: FrozenLM,
        slots: Slots,
        log_probs: Tensor,
        length: int,
        objective: Objective,
        micro_batch: MicroBatch,
        fluency: float = 0.0,
        temperature: float = 1.0,
    ) -> None:
        self.lm = lm
        self.slots = slots
        self.length = length
        self.micro_batch = micro_batch
        self._objective = objective
        self._reader = PartReader(lm, log_probs, objective, length, temperature)
        self._prompted = PromptedLM(lm, slots.contexts, length, micro_batch, whole=fluency > 0)
        self._soft, self._hard = (Readings(slots, weight) for weight in (0.0, fluency))
        self._likely = LikelyTokens(lm, slots, length, micro_batch)
        self._shared: dict[tuple[bool, tuple[int, ...]], SharedReadings] = {}
        self._passes = torch.zeros(len(slots), dtype=torch.long)

    def take_passes(self) -> Int[Tensor, " slot"]:
        """Forward passes made for each slot since they were last taken."""
        passes, self._passes = self._passes, torch.zeros_like(self._passes)
        return passes

    def _count(self, slots: Tensor) -> None:
        """Counts a prompt, in all contexts of its task, for each of some slots."""
        self._passes += torch.bincount(slots, minlength=len(self.slots)) * self._soft.rows[self.slots.tasks]

    def _readings(self, prompts: Tensor) -> Readings:
        return self._soft if prompts.is_floating_point() else self._hard

    # ---- scores ----

    def bases(self, ids: Int[Tensor, "base length"], slots: Int[Tensor, " base"]) -> Bases:
        """Prepares token prompts ``[base, length]`` for the scoring of their variations: only what changes is computed.

        Args:
            ids: ``[base, length]``.
            slots: of each, ``[base]``.
        """
        which, rows = self._hard.expanded(self.slots.tasks[slots])
        size = self._hard.rows[self.slots.tasks[slots]]
        contexts = self._hard.contexts(rows)
        found = self._prompted.bases(ids, which, contexts, size.cumsum(0) - size)
        self._count(slots)
        if "fluency" not in self._hard.kinds:
            return found
        log_probs = torch.empty(found.ids.shape, device=self.lm.head_device)

        def fill(part: Part) -> None:
            log_probs[part.rows.to(log_probs.device)] = self._reader.token_log_probs(part, None).to(log_probs)

        held = self._held(self._hard)
        with torch.no_grad():
            self._prompted.each(ids, which, contexts, fill, held, self._prompted.most_rows(held))
        return replace(found, log_probs=log_probs)

    @torch.no_grad()
    def scores(
        self,
        prompts: Tensor,
        slots: Int[Tensor, " prompt"],
        bases: Bases | None = None,
        base: Int[Tensor, " prompt"] | None = None,
    ) -> Float[Tensor, " prompt"]:
        """Scores of prompts, each for its slot; see :class:`Scorer`.

        Args:
            prompts: token ids ``[prompt, length]``, or embeddings ``[prompt, length, embedding]``.
            slots: ``[prompt]``.
            bases: token prompts that these are variations of.
            base: which of them each varies, ``[prompt]``; needed with ``bases``.
        """
        readings, tasks = self._readings(prompts), self.slots.tasks[slots]
        which, rows = readings.expanded(tasks)
        values = self._no_values(len(prompts), readings.width)

        def fill(part: Part, known: Tensor | None) -> None:
            for row, column, read in self._reader.read(part, readings, rows, known):
                values[which[part.rows[row]].to(values.device), column.to(values.device)] = read.to(values)

        self._each(readings, prompts, which, readings.contexts(rows), fill, bases, base)
        self._count(slots)
        return readings.scores(values, tasks).cpu()

    @torch.no_grad()
    def table(
        self,
        prompts: Tensor,
        slots: Int[Tensor, " prompt"],
        bases: Bases | None = None,
        base: Int[Tensor, " prompt"] | None = None,
    ) -> Float[Tensor, "prompt slot"]:
        """Scores of prompts for every slot of the same group; arguments as of :meth:`scores`."""
        return self._table(self._readings(prompts), prompts, slots, bases, base)

    def _table(
        self,
        readings: Readings,
        prompts: Tensor,
        slots: Tensor,
        bases: Bases | None = None,
        base: Tensor | None = None,
    ) -> Tensor:
        which, rows = readings.expanded(self.slots.tasks[slots])
        contexts = readings.contexts(rows)
        kinds = self.slots.kind[slots]
        # the number of each row's kind of group, and of its context in it
        keys = torch.stack([kinds[which], _order(which)], 1)
        values: dict[int, Tensor] = {}
        of_kind: dict[int, SharedReadings] = {}
        place = torch.empty_like(kinds)  # of each prompt among those of its kind
        for number in kinds.unique().tolist():
            shared = of_kind[number] = self._shared_readings(readings, self.slots.groups[number])
            mine = kinds == number
            count = int(mine.sum())
            values[number] = self._no_values(count, len(shared.contexts), shared.width)
            place[mine] = torch.arange(count)

        def fill(part: Part, known: Tensor | None) -> None:
            own = keys[part.rows]
            for number, context in own.unique(dim=0).tolist():
                rows = (own == torch.tensor([number, context])).all(1).nonzero().flatten()
                at = place[which[part.rows[rows]]].to(values[number].device)
                read = self._reader.read_all(part, rows, of_kind[number], context, known)
                values[number][at, context] = read.to(values[number])

        self._each(readings, prompts, which, contexts, fill, bases, base)
        self._count(slots)
        found = torch.full((len(prompts), len(self.slots)), torch.inf, dtype=self.lm.score_dtype)
        scores = [shared.scores(values[number]) for number, shared in of_kind.items()]
        if not scores:
            return found
        # one copy for all kinds, as a device is waited for in each
        copied = torch.cat([of_one.flatten() for of_one in scores]).cpu().split([of_one.numel() for of_one in scores])
        for number, own in zip(of_kind, copied, strict=True):
            rows = (kinds == number).nonzero().flatten()
            members = torch.stack([self.slots.groups[group] for group in self.slots.group[slots[rows]].tolist()])
            found[rows.unsqueeze(1), members] = own.view(members.shape)
        return found

    def _no_values(self, *shape: int) -> Tensor:
        return torch.zeros(shape, device=self.lm.head_device, dtype=self.lm.score_dtype)

    def _shared_readings(self, readings: Readings, members: Tensor) -> SharedReadings:
        key = readings is self._hard, tuple(members.tolist())
        if key not in self._shared:
            self._shared[key] = readings.shared(members)
        return self._shared[key]

    def _each(
        self,
        readings: Readings,
        prompts: Tensor,
        which: Tensor,
        contexts: Tensor,
        fill: Callable[[Part, Tensor | None], None],
        bases: Bases | None,
        base: Tensor | None,
    ) -> None:
        """Puts prompts in contexts through the LM; ``fill`` takes parts, and what is known of their tokens' fluency."""
        held = self._held(readings)
        if bases is None or base is None:
            most_rows = self._prompted.most_rows(held)
            self._prompted.each(prompts, which, contexts, lambda part: fill(part, None), held, most_rows)
            return
        rows = bases.first[base][which] + _order(which)
        log_probs = bases.log_probs

        def function(part: Part) -> None:
            known = None if log_probs is None else log_probs[rows[part.rows].to(log_probs.device)]
            fill(part, known)

        self._prompted.each_variation(prompts, which, contexts, bases, rows, function, held)

    def _held(self, readings: Readings) -> int:
        """Positions of a row whose logits are held at once."""
        return readings.places + (self.length if "fluency" in readings.kinds else 0)

    @torch.no_grad()
    def scan(
        self,
        sequences: Int[Tensor, "sequence position"],
        slots: Int[Tensor, " slot"],
        shared: bool,
        cache: LMCache | None = None,
    ) -> Float[Tensor, "sequence end slot"]:
        """Scores of the prompts that end at each position of long sequences, as if all before it belonged to them.

        Args:
            sequences: token ids ``[sequence, position]``; where a text follows the prompt, exactly as long as a prompt.
            slots: for which they are scored, of one group, ``[slot]``.
            shared: whether the slots share the passes, or each is to count them all.
            cache: has the LM's states from before, or gets them; scores and counted passes are the same without.

        Returns:
            ``[sequence, end, slot]``, nats; the first end is that of the first ``length`` tokens. Fluency has no part
            in it.
        """
        ends = sequences.shape[1] - self.length + 1
        read = self._shared_readings(self._soft, slots)
        passes = -(-sequences.numel() // self.length // (len(slots) if shared else 1)) * len(read.contexts)
        if any(back for backs in read.read for back in backs):  # what is read on the way to an end is not kept
            counted = self._passes.clone()
            found = self._table(self._soft, sequences, slots[:1].expand(len(sequences)))[:, slots].unsqueeze(1)
            self._passes = counted.index_add(0, slots, torch.full_like(slots, passes))
            return found
        values = self._no_values(len(sequences), ends, len(read.contexts), read.width)
        for place, number in enumerate(read.contexts):
            states = ContextStates(self._reader.lm, self.slots.contexts[number], self.micro_batch, cache)

            def fill(rows: Tensor, logits: Tensor, features: Tensor, place: int = place) -> None:
                at = rows.to(values.device)
                for kind, (what, column) in read.read[place][0].items():
                    found = self._reader.read_columns(kind, what, logits, features)
                    values[at.view(-1, 1, 1), self._ends(ends, values), place, column.to(values.device)] = (
                        found.unflatten(0, (len(rows), ends)).to(values)
                    )

            states.each(sequences, ends, fill, self._objective.needs_logits or "token" in read.read[place][0])
        found = read.scores(values.flatten(0, 1)).unflatten(0, (len(sequences), ends))
        self._passes[slots] += passes
        return found.cpu()

    @staticmethod
    def _ends(ends: int, values: Tensor) -> Tensor:
        return torch.arange(ends, device=values.device).view(1, -1, 1)

    def likely_tokens(
        self, prompts: Int[Tensor, "prompt length"], slots: Int[Tensor, " prompt"], allowed: Tensor, k: int
    ) -> tuple[Int[Tensor, "prompt length k"], Float[Tensor, "prompt length k"]]:
        """The tokens that the LM itself holds most likely at each position; see :meth:`LikelyTokens.of`."""
        self._passes += torch.bincount(slots, minlength=len(self.slots))
        return self._likely.of(prompts, slots, allowed, k)

    # ---- gradients ----

    def gradient(
        self, embeddings: Float[Tensor, "prompt length embedding"], slots: Int[Tensor, " prompt"]
    ) -> tuple[Float[Tensor, " prompt"], Float[Tensor, "prompt length embedding"]]:
        """Scores of soft prompts, each for its slot, and their gradients.

        Args:
            embeddings: ``[prompt, length, embedding]``, on the LM's device.
            slots: ``[prompt]``.

        Returns:
            Nats, ``[prompt]``, and ``[prompt, length, embedding]``, float32; on the LM's device, so that nothing waits
            for it.
        """
        readings, tasks = self._soft, self.slots.tasks[slots]
        which, rows = readings.expanded(tasks)
        values = self._no_values(len(slots), readings.width)
        by_row = torch.zeros(len(which), *embeddings.shape[1:], device=embeddings.device, dtype=embeddings.dtype)

        def read(part: Part) -> list[tuple[tuple[Tensor, Tensor], Tensor]]:
            """Stores what is read in a part, and gives it with the places where it was stored."""
            found = []
            for row, column, value in self._reader.read(part, readings, rows):
                at = which[part.rows[row]].to(values.device), column.to(values.device)
                values[at] = value.detach().to(values)
                found.append((at, value))
            return found

        contexts = readings.contexts(rows)
        weights = readings.weights(tasks).to(values)
        if not readings.are_plain:  # what a reading counts for follows from all readings of its cells
            with torch.no_grad():
                self._prompted.each(embeddings, which, contexts, read, readings.places)
            self._count(slots)
            with torch.enable_grad():
                leaf = values.clone().requires_grad_()
                (weights,) = torch.autograd.grad(readings.scores(leaf, tasks).sum(), leaf)

        def fill(part: Part) -> None:
            total = [(value * weights[at].to(value)).sum() for at, value in read(part)]
            (found,) = torch.autograd.grad(torch.stack(total).sum(), part.prompts)
            # the gradient of a prompt stands in the first row that it has in the part
            places = torch.arange(len(part.line))
            first = torch.full((len(found),), len(places)).scatter_reduce(0, part.line, places, "amin")
            by_row[part.rows[first].to(by_row.device)] = found

        with torch.enable_grad():
            self._prompted.each(embeddings.detach(), which, contexts, fill, readings.places)
        self._count(slots)
        return readings.scores(values, tasks).to(embeddings.device), _sums(by_row, which, len(slots))


def _order(which: Tensor) -> Tensor:
    """The place of each row among those of its prompt, ``which`` ``[row]``, rising."""
    return torch.arange(len(which)) - torch.searchsorted(which, which)


def _sums(rows: Tensor, which: Tensor, count: int) -> Tensor:
    """Sums of the rows of each prompt, ``which`` ``[row]``, rising; in their order, whatever the device."""
    if len(rows) == count:
        return rows
    order = _order(which)
    total = rows.new_zeros(count, *rows.shape[1:])
    for place in range(int(order.max()) + 1):
        mine = (order == place).nonzero().flatten()
        own = which[mine].to(rows.device)
        total[own] += rows[mine.to(rows.device)]
    return total
