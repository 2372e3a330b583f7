"""Hard prompts: tokens, found by a searcher that a callback drives."""

from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import Any, Literal

import lightning as L
import torch
from torch import Tensor

from lit_prompt.data import TargetBatch
from lit_prompt.errors import InputError
from lit_prompt.lm import AllowedTokens, FrozenLM, RoundTrip
from lit_prompt.models.checks import warn_of_second_front
from lit_prompt.models.chunk import chunk_scorer
from lit_prompt.models.driven import DrivenPrompt
from lit_prompt.models.mixture_search import MixtureSearch
from lit_prompt.models.prompt_texts import prompt_texts
from lit_prompt.models.run_prompts import prompts_file
from lit_prompt.models.shorter_run import ShorterRun
from lit_prompt.models.soft_run import SoftRun
from lit_prompt.objectives import ForwardKL, Objective
from lit_prompt.scoring import LMScorer, Slots
from lit_prompt.search import (
    BestSoFar,
    ChunkSearch,
    PromptBank,
    Screening,
    Searcher,
    SharedSearch,
    TokenProblem,
    TokenStart,
    random_starts,
    text_starts,
)
from lit_prompt.search.best_mixtures import BestMixtures
from lit_prompt.search.word_source import WordSource


class HardPrompt(DrivenPrompt):
    """Searches, for every target, the tokens whose next-token distribution is closest to it in KL(target || LM).

    The module has no parameters: a callback, :class:`lit_prompt.callbacks.TokenSearch`, drives the searcher, a step a
    batch. A chunk of targets is searched at a time, in few passes through the LM.

    Args:
        length: tokens of a prompt.
        steps: most steps for a target.
        searcher: the algorithm, :class:`lit_prompt.search.SharedSearch` by default.
        start: where prompts start.
        tokens: which tokens a prompt may hold.
        readable: only prompts whose text gives their tokens again, between the texts around them, count as found.
        fluency: weight of the prompt's mean negative log-likelihood per token, in nats, that is added to the objective.
        restarts: searches for each target from different seeds; the best is kept, their spread is reported.
        kl_tolerance: a target is done when its KL is at most this many nats.
        patience: a target is done after this many steps without a better KL; null for never.
        max_forward_passes: a target is done when its search has put so many prompts through the LM; null for no limit.
        max_seconds: a target is done when its share of the time is as long; null for no limit. What is found then
            depends on the machine.
        before: fixed text before the prompt; special tokens may be spelled (``<|endoftext|>``). A target's own text
            takes its place.
        after: fixed text between the prompt and the predicted token. A target's own text takes its place.
        seed: base of the searches' seeds.
        objective: what is minimised, :class:`lit_prompt.objectives.ForwardKL` by default.
        temperature: of the sampling for which prompts are searched: what is minimised is that of the LM's logits
            divided by it.
        screening: whether the candidates of a step are ranked by a copy of the LM in bfloat16, so that the best few
            alone are scored in the LM's own precision: ``always``, ``never``, or ``auto``, where that is faster
            (measured once a run, on processors that compute in bfloat16). Every KL that counts is of the LM itself.
        components: prompts that a target's mixture has at most: one of them is drawn by its weight, then a token after
            it. Steps, forward passes and seconds are for all of them.
    """

    allowed: Tensor  # which ids a prompt may hold

    def __init__(
        self,
        length: int = 20,
        steps: int = 100,
        searcher: Searcher | None = None,
        start: TokenStart = TokenStart(),
        tokens: AllowedTokens = AllowedTokens(),
        readable: bool = True,
        fluency: float = 0.0,
        restarts: int = 1,
        kl_tolerance: float = 1e-4,
        patience: int | None = None,
        max_forward_passes: int | None = None,
        max_seconds: float | None = None,
        before: str = "",
        after: str = "",
        seed: int = 0,
        objective: Objective | None = None,
        temperature: float = 1.0,
        screening: Literal["auto", "always", "never"] = "auto",
        components: int = 1,
    ) -> None:
        super().__init__(before, after, seed, objective or ForwardKL(), temperature, components)
        self.length = length
        self.steps = steps
        self.searcher = searcher or SharedSearch()
        self.start = start
        self.tokens = tokens
        self.readable = readable
        self.fluency = fluency
        self.restarts = restarts
        self.kl_tolerance = kl_tolerance
        self.patience = patience
        self.max_forward_passes = max_forward_passes
        self.max_seconds = max_seconds
        self.screening = screening
        self._screening = Screening(screening, fixed_shapes=not self.searcher.shares)
        self._shorter: ShorterRun | None = None

    def settings(self) -> dict[str, Any]:
        """What defines the search: plain values, shown in TensorBoard and compared on resume."""
        names = ["length", "steps", "readable", "fluency", "restarts", "kl_tolerance", "patience"]
        names += ["max_forward_passes", "max_seconds", "before", "after", "seed", "screening", "temperature"]
        names += ["components"]
        settings = {name: getattr(self, name) for name in names} | self.objective.settings
        settings["searcher"] = self.searcher.method
        groups = {"searcher": self.searcher.settings(), "start": vars(self.start), "tokens": vars(self.tokens)}
        for group, values in groups.items():
            settings |= {f"{group}.{name}": v if _is_plain(v) else str(v) for name, v in values.items()}
        return settings

    # ---- set-up ----

    def check(self, trainer: L.Trainer, stage: str) -> None:
        """As of :meth:`PromptModule.check`."""
        super().check(trainer, stage)
        if self.max_seconds is not None and not self.max_seconds > 0:
            raise InputError(f"model.max_seconds is {self.max_seconds}; it must be positive, or null for no limit")
        if not 0 <= self.fluency < float("inf"):
            raise InputError(f"model.fluency is {self.fluency}; it must be 0 or more")
        if self.fluency and self.components > 1:
            raise InputError("model.fluency is for single prompts: set it to 0, or model.components to 1")
        if self.start.kind == "text" and not self.start.text:
            raise InputError("model.start.kind is text, so model.start.text must hold at least one token")
        if self.start.kind == "soft":
            if self.start.soft_run is None:
                raise InputError("model.start.kind is soft, so model.start.soft_run must name the folder of a soft run")
            prompts_file(self.start.soft_run, "model.start.soft_run")
        if self.start.shorter_run is not None:
            prompts_file(self.start.shorter_run, "model.start.shorter_run")

    def prepare(self) -> None:
        """Finds out which tokens are allowed; reads the prompts of other runs that starts are made from."""
        self.allowed = torch.tensor(self.tokens.ids(self.data.vocabulary))
        if self.start.kind == "text":
            warn_of_second_front(self, self.start.text, "model.start.text")
        if self.start.kind == "soft":
            assert self.start.soft_run is not None
            self.soft_run = SoftRun(self.start.soft_run, self.length, self.lm, self.data.targets.task_ids)
        if (shorter := self.start.shorter_run) is not None:
            self._shorter = ShorterRun(shorter, self.length, self.lm, self.data.targets.task_ids, self.allowed)

    # ---- search ----

    def new_search(self, batch: TargetBatch) -> tuple[ChunkSearch | MixtureSearch, Callable[[], tuple[Tensor, Tensor]]]:
        """The search of a chunk, not yet begun, and what finds its starts."""
        if self.components > 1:
            mixtures = MixtureSearch(self, batch)
            return mixtures, mixtures.starts
        problem = self.token_problem(partial(chunk_scorer, self, batch), batch.log_probs)
        nothing = torch.zeros(len(problem), self.length, dtype=torch.long)
        best = BestSoFar(nothing, self.kl_tolerance, self.patience, self.max_forward_passes, self.max_seconds)
        return ChunkSearch(self.searcher, problem, best), lambda: self.starts(problem)

    def token_problem(
        self, scorer_on: Callable[[FrozenLM], LMScorer], log_probs: Tensor, number: int = 0
    ) -> TokenProblem:
        """What a searcher may ask of a chunk.

        Args:
            scorer_on: scores the chunk's prompts with the LM, or another form of it.
            log_probs: of the scorer's targets, ``[target, vocab]``.
            number: that of the search, of several for the chunk.
        """
        scorer = scorer_on(self.lm)
        slots = scorer.slots
        trips = [self._round_trip(slots, slot) for slot in range(len(slots))] if self.readable else None
        self._screening.agreed = partial(self.chunks.agreed, "screening")
        half = self._screening.half(self.lm, self.length)
        rough = None if half is None else scorer_on(half)
        return TokenProblem(scorer, log_probs, self.allowed, self.seed, trips, rough, number, self._words)

    @cached_property
    def _words(self) -> Sequence[str]:
        """Those of the natural texts that the bank has, if any."""
        texts = self.start.texts if self.start.kind == "bank" and self.start.natural_texts else None
        return () if texts is None else WordSource(texts, None, self.length, ascii_only=False).words

    def _round_trip(self, slots: Slots, slot: int) -> RoundTrip:
        return self.contexts.round_trip([member.context for member in slots.targets(slot)])

    def starts(self, problem: TokenProblem, number: int = 0) -> tuple[Tensor, Tensor]:
        """Where the searches of a round, numbered from 0, start, with their scores in nats.

        ``[slot, length]`` and ``[slot]``, or several for each slot, ``[slot, start, length]`` and ``[slot, start]``.
        """
        with self.micro_batch.shown(f"starts ({self.start.kind})"):
            ids, scores = self._starts_of_kind(problem, self.start.small() if number else self.start)
            if self._shorter is None:
                return ids, scores
            longer, longer_scores = self._shorter.starts(problem)
        if ids.dim() == 2:
            ids, scores = ids.unsqueeze(1), scores.unsqueeze(1)
        return torch.cat([longer.unsqueeze(1), ids], 1), torch.cat([longer_scores.unsqueeze(1), scores], 1)

    def _starts_of_kind(self, problem: TokenProblem, start: TokenStart) -> tuple[Tensor, Tensor]:
        if start.kind == "bank":
            return PromptBank(start, self.data.vocabulary, self.searcher.shares, self.known.cache).starts(problem)
        if start.kind == "text":
            return text_starts(problem, self.data.vocabulary.encode(start.text))
        if self.soft_run is not None:
            return self.soft_run.starts(problem)
        return random_starts(problem)

    def on_train_end(self) -> None:
        """Ends the search, which needs no copy of the LM any more."""
        self._search.release()
        self._screening.release()

    def prompt_texts(self, tasks: Sequence[int], prompts: Sequence[Sequence[int]]) -> list[str]:
        """As of :meth:`DrivenPrompt.prompt_texts`, as they stand in their contexts."""
        return prompt_texts(self.contexts, self.data.targets, tasks, prompts)

    def texts_so_far(self, best: BestSoFar, tasks: Sequence[int], slots: Tensor) -> list[str]:
        """As of :meth:`DrivenPrompt.texts_so_far`; of a mixture all prompts."""
        if not isinstance(best, BestMixtures):
            return super().texts_so_far(best, tasks, slots)
        return [self._mixture_text(best, task, slot) for task, slot in zip(tasks, slots.tolist(), strict=True)]

    def _mixture_text(self, best: BestMixtures, task: int, slot: int) -> str:
        """The prompts of a mixture that have a weight, the largest first, a line each."""
        order = best.weights[slot].argsort(descending=True, stable=True)[: int((best.weights[slot] > 0).sum())]
        ids = best.prompts[slot, order].tolist()
        texts = prompt_texts(self.contexts, self.data.targets, [task] * len(ids), ids)
        pairs = zip(best.weights[slot, order].tolist(), texts, strict=True)
        return "\n".join(f"{100 * weight:.1f} %: {text}" for weight, text in pairs)

    # ---- state ----

    def chunk_state(self) -> dict[str, Any]:
        """All that the search carries from step to step, and how its prompts go through the LM."""
        return {**super().chunk_state(), "micro_batch": self.micro_batch.size}

    def take_up(self, state: dict[str, Any]) -> None:
        """Lets prompts go through the LM as they did when :meth:`chunk_state` was kept."""
        self.micro_batch.size = state["micro_batch"]


def _is_plain(value: object) -> bool:
    return value is None or isinstance(value, (int, float, str, bool))
