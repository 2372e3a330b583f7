"""Soft prompts: free embeddings, searched by gradient descent."""

import logging
import time
from contextlib import nullcontext
from copy import deepcopy
from typing import Any

import lightning as L
import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from lit_prompt.data import TargetBatch
from lit_prompt.functional import seed_for
from lit_prompt.interruption import interruptible
from lit_prompt.models.base import PromptModule
from lit_prompt.models.checks import warn_of_second_front
from lit_prompt.models.chunk import chunk_scorer, step_made
from lit_prompt.models.chunk_lift import lift_chunk, sphere_values
from lit_prompt.models.half_steps import HalfSteps
from lit_prompt.models.lift import why_no_lift
from lit_prompt.models.optimizers import (
    check_schedule,
    optimizer_over_slots,
    optimizer_settings,
    refuse_coupled_slots,
    step_scheduler,
)
from lit_prompt.models.prompt_init import PromptInit, PromptInitializer
from lit_prompt.models.run_prompts import prompts_file
from lit_prompt.models.shorter_run import ShorterRun
from lit_prompt.models.soft_checks import check_soft
from lit_prompt.models.soft_rounds import SoftRounds
from lit_prompt.objectives import ForwardKL, Objective
from lit_prompt.scoring import LMScorer
from lit_prompt.search import BestSoFar, StopReason

_log = logging.getLogger(__name__)


class SoftPrompt(PromptModule):
    """Searches, for every target, the embeddings that minimise KL(target || LM) by gradient descent.

    A chunk of targets is searched at a time, one slot of embeddings for each target and restart. The loss is the sum of
    the slots' scores and each slot starts from its own seed, so that slots do not influence one another. The method is
    that of Distribution Prompting (Wang, Zhu and Shi, EMNLP 2025, arXiv 2505.12244), after Li and Liang (2021).

    With ``lift_tolerance`` it finds prompts without a gradient step through the LM: the best next-token distribution
    that the LM's final norm and head allow is the solution of a small problem without the transformer (the sphere
    problem), and in a pre-norm transformer a single long embedding at the last position reaches it. A task of several
    targets, or over answers of several tokens, has no lift and is searched by gradient descent. A target whose
    lifted prompt stays above the sphere's value (a post-norm LM, text after the prompt) is searched by gradient descent
    from where it is; its stop_reason says so: ``lift`` for a lifted prompt, otherwise that of the search.

    Args:
        length: embeddings of a prompt.
        steps: most steps for a target.
        optimizer: any torch optimizer; one that looks at a whole parameter (LBFGS) needs data.chunk_size 1.
        scheduler: any torch learning-rate scheduler, stepped with the optimizer; every chunk begins anew.
        init: where prompts start.
        lift_tolerance: a prompt that starts at the lift stands when its KL is at most this many nats above the sphere's
            value; null for a gradient search of all. Needs ``init.kind: lift``.
        restarts: searches for each target from different starts; the best is kept, their spread is reported.
        kl_tolerance: a target is done when its KL (or whatever is minimised) is at most this many nats.
        patience: a target is done after this many forward passes (one a step, but for LBFGS) without a better KL;
            null for never.
        max_norm: longest allowed embedding (L2); null for no limit.
        before: fixed text before the prompt; special tokens may be spelled (``<|endoftext|>``). A target's own text
            takes its place.
        after: fixed text between the prompt and the predicted token. A target's own text takes its place.
        seed: base of the seeds of the starts.
        objective: what is minimised, :class:`lit_prompt.objectives.ForwardKL` by default.
        temperature: of the sampling for which prompts are searched: what is minimised is that of the LM's logits
            divided by it.
        components: prompts that a target's mixture has at most: one of them is drawn by its weight, then a token after
            it. The steps are for all of them; optimizer and scheduler begin anew with each.
        half_steps: of so many early steps nine in ten take their gradients from a copy of the LM in bfloat16: on
            processors that compute in it they cost less than half. What is shown and kept are the LM's own values.
            null for three quarters of the steps where that pays: for LMs of 50 million weights and more, if prompts go
            through the copy faster, which is measured when a run begins; not from the lift, and not of mixtures.
    """

    prompt: nn.Parameter

    def __init__(
        self,
        length: int = 5,
        steps: int = 500,
        optimizer: OptimizerCallable = lambda p: torch.optim.Adam(p, lr=0.1),
        scheduler: LRSchedulerCallable | None = None,
        init: PromptInit = PromptInit(),
        lift_tolerance: float | None = None,
        restarts: int = 1,
        kl_tolerance: float = 1e-4,
        patience: int | None = None,
        max_norm: float | None = None,
        before: str = "",
        after: str = "",
        seed: int = 0,
        objective: Objective | None = None,
        temperature: float = 1.0,
        components: int = 1,
        half_steps: int | None = None,
    ) -> None:
        super().__init__(before, after, seed, objective or ForwardKL(), temperature, components)
        self.length = length
        self.steps = steps
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.init = init
        self.lift_tolerance = lift_tolerance
        self.restarts = restarts
        self.kl_tolerance = kl_tolerance
        self.patience = patience
        self.max_norm = max_norm
        self.half_steps = half_steps
        self._half_steps = HalfSteps(half_steps)
        self._lifts = False  # whether prompts start at the lift
        self._index: list[int] = []
        self._step_begun = False  # whether the present step has changed anything
        self._scorer: LMScorer | None = None
        self._shorter: ShorterRun | None = None
        self._rounds: SoftRounds | None = None  # of mixtures

    @property
    def method(self) -> str:  # type: ignore[override]
        """``lift`` where lifted prompts stand, else ``soft``."""
        return "soft" if self.lift_tolerance is None else "lift"

    def settings(self) -> dict[str, Any]:
        """What defines the search: plain values, shown in TensorBoard and compared on resume."""
        names: tuple[str, ...] = (
            "length",
            "steps",
            "lift_tolerance",
            "restarts",
            "kl_tolerance",
            "patience",
            "max_norm",
        )
        names += ("before", "after", "seed", "temperature", "components", "half_steps")
        settings = {name: getattr(self, name) for name in names}
        settings |= {f"init.{name}": value for name, value in vars(self.init).items()}
        return settings | self.objective.settings | optimizer_settings(self.optimizer, self.scheduler)

    # ---- set-up ----

    def check(self, trainer: L.Trainer, stage: str) -> None:
        """As of :meth:`PromptModule.check`."""
        super().check(trainer, stage)
        check_soft(self)
        self._half_steps.check(self)
        optimizer_over_slots(self.optimizer, nn.Parameter(torch.zeros(1, 1, 1)))
        if self.init.shorter_run is not None:
            prompts_file(self.init.shorter_run, "model.init.shorter_run")

    def prepare(self) -> None:
        """Makes room for a chunk of prompts and for all results."""
        slots = max(map(len, self.data.chunks)) * self.restarts
        shape = (self.length, self.lm.embedding_dim)
        self.prompt = nn.Parameter(torch.zeros(slots, *shape, device=self.lm.device))
        self.best = BestSoFar(self.prompt.detach(), self.kl_tolerance, self.patience)
        self._initializer = PromptInitializer(self.init, self.length, self.lm, self.data.vocabulary)
        if (shorter := self.init.shorter_run) is not None:
            self._shorter = ShorterRun(shorter, self.length, self.lm, self.data.targets.task_ids)
        if self.init.kind == "text":
            warn_of_second_front(self, self.init.text or "", "model.init.text")

    @property
    def prompt_room(self) -> tuple[tuple[int, ...], torch.dtype]:
        """Shape and dtype of a prompt."""
        return (self.length, self.lm.embedding_dim), torch.float32

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The optimizer over all slots, and the scheduler."""
        optimizer, self._views = optimizer_over_slots(self.optimizer, self.prompt)
        scheduler = None if self.scheduler is None else self.scheduler(optimizer)
        if len(self.prompt) > 1:
            refuse_coupled_slots(optimizer, scheduler)
        self._optimizer_start = deepcopy(optimizer.state_dict())
        self._scheduler_start = {} if scheduler is None else deepcopy(scheduler.state_dict())
        return optimizer if scheduler is None else ([optimizer], [scheduler])

    # ---- search ----

    def under_search(self) -> tuple[list[int], BestSoFar] | None:
        """Numbers of the tasks of the chunk under search, and the bests of its slots; None before the first."""
        return None if self.begun is None else (self._index, self.best if self._rounds is None else self._rounds.best)

    def _scheduler(self) -> LRScheduler | ReduceLROnPlateau | None:
        configs = self.trainer.lr_scheduler_configs
        return configs[0].scheduler if configs else None

    def on_fit_start(self) -> None:
        """Finds out whether the schedule allows for more steps, where a search is extended."""
        super().on_fit_start()
        if self.chunks.former_steps:
            check_schedule(self._scheduler(), self.chunks.former_steps)

    def on_train_start(self) -> None:
        """Finds out whether this LM has a lift, where one is asked for."""
        if self.init.kind == "lift":
            why_not = why_no_lift(self.known.floors, self.lm.embedding_dim)
            self._lifts = why_not is None
            # an LM without floors has said why already
            if why_not is not None and why_not != self.known.floors.why_not:
                _log.warning("%s", why_not)

    def on_train_batch_start(self, batch: TargetBatch, batch_idx: int) -> int | None:
        """Begins a chunk, and ends it (-1) when no search in it goes on."""
        if not self.is_searching:
            self._begin_chunk(batch)
        best = self.best if self._rounds is None else self._rounds.best
        if not bool(best.running.any()) or self.chunks.made >= self.steps:
            return -1
        if self._rounds is not None and self._rounds.between:
            self._begin(batch)
        return None

    def _begin_chunk(self, batch: TargetBatch) -> None:
        if self.components > 1:
            self._rounds = SoftRounds(self, batch, self.prompt)
        if (state := self.chunks.take_up()) is not None:
            self._take_up(batch, state)
        else:
            self._begin(batch)
        self._half_steps.begin(self, batch, self.chunks.made)
        self.begun, self._index = self.chunks.chunk, list(batch.tasks)

    def _begin(self, batch: TargetBatch) -> None:
        """Begins the searches of a chunk, or those of a round."""
        started = time.perf_counter()
        number = 0 if self._rounds is None else self._rounds.number
        with interruptible():
            scorer, passes = self._new_scorer(batch)
            starts = [
                self._start(task_id, restart, number) for task_id in batch.task_ids for restart in range(self.restarts)
            ]
            with torch.no_grad():
                self.prompt.zero_()
                self.prompt[: len(starts)] = torch.stack(starts).to(self.prompt)
                if self._lifts and number == 0:
                    lift_chunk(self, batch, scorer, self.prompt[: len(starts)])
                self._project()
        self.trainer.optimizers[0].load_state_dict(deepcopy(self._optimizer_start))
        if (scheduler := self._scheduler()) is not None:
            scheduler.load_state_dict(deepcopy(self._scheduler_start))
        self._scorer = scorer
        if self._rounds is None:
            self.best.reset(len(starts))
        else:
            self.best = self._rounds.best.of_round(number, self.prompt.detach())
            self.best.forward_passes[: len(starts)] += torch.as_tensor(passes).to(self.best.forward_passes)
            self._rounds.between = False
        self.best.spend(self.best.running, time.perf_counter() - started)

    def _new_scorer(self, batch: TargetBatch) -> tuple[LMScorer, Tensor | int]:
        """What the prompts of a chunk or round are scored by, and the passes that it took to find out, ``[slot]``."""
        wanted = None if self._rounds is None else self._rounds.next_component()
        return (chunk_scorer(self, batch), 0) if wanted is None else (wanted.scorer(self.lm), wanted.passes)

    def _start(self, task_id: str, restart: int, number: int) -> Tensor:
        start = self._initializer.draw(seed_for(self.seed, task_id, restart, *([number] if number else [])))
        return start if self._shorter is None or restart or number else self._shorter.lengthened(task_id, start)

    def _take_up(self, batch: TargetBatch, state: dict[str, Any]) -> None:
        """Goes on from :meth:`chunk_state`."""
        if self._rounds is not None:
            self._rounds.load_state_dict(state["rounds"])
            self.best = self._rounds.best.of_round(self._rounds.number, self.prompt.detach())
        if self._rounds is None or not self._rounds.between:
            self._scorer, _ = self._new_scorer(batch)
        with torch.no_grad():
            self.prompt.copy_(state["prompt"])
        self.best.load_state_dict(state["best"])
        self.trainer.optimizers[0].load_state_dict(state["optimizer"])
        if (scheduler := self._scheduler()) is not None:
            scheduler.load_state_dict(state["scheduler"])
        self.micro_batch.size = state["micro_batch"]

    def training_step(self, batch: TargetBatch, batch_idx: int) -> None:
        """One step of all searches of the chunk that still go on; the first one ends where lifted prompts stand."""
        started = time.perf_counter()
        running = self.best.running
        stands_below = None
        if self.chunks.made == 0 and self._lifts and self.lift_tolerance is not None:
            with interruptible():
                stands_below = (
                    sphere_values(self.known.floors, batch).repeat_interleave(self.restarts) + self.lift_tolerance
                )
        if bool(running.any()):  # else the next component's round comes when its turn has come
            self._step()
            self.best.steps += running
        if stands_below is not None:
            stands = self.best.kl[: len(stands_below)] <= stands_below.to(self.best.kl)
            self.best.end(nn.functional.pad(stands, (0, len(self.best.kl) - len(stands_below))), StopReason.LIFT)
        if self._rounds is None:
            step_made(self)
        self.best.spend(running, time.perf_counter() - started)
        if self._rounds is not None:
            self._rounds.follow(self.best, self.chunks.made + 1)
            step_made(self)

    def _step(self) -> None:
        optimizer = self.optimizers()
        assert isinstance(optimizer, LightningOptimizer)
        self._step_begun = False
        loss = optimizer.step(self._backward)
        with torch.no_grad():
            self._project()
        step_scheduler(self._scheduler(), float(loss), self.steps)

    def _backward(self) -> Tensor:
        """The summed scores of the running searches; leaves its gradient in the prompts and the scores in the bests."""
        assert self._scorer is not None
        used = len(self._scorer.slots)
        found, passes = torch.full_like(self.best.kl, torch.inf), torch.zeros_like(self.best.forward_passes)
        rough = torch.zeros_like(self.best.running)
        self.prompt.grad = torch.zeros_like(self.prompt)
        for scorer, slots in self._half_steps.parts(self.chunks.made, self.best, self._scorer):
            # on an accelerator the rounding depends on how many prompts there are, and so a result would on when its
            # neighbours stop: there all go through the LM
            which = slots[:used].nonzero().flatten() if self.prompt.device.type == "cpu" else slice(used)
            # until the first gradient is there, a step has changed nothing; LBFGS asks for more of them
            with nullcontext() if self._step_begun else interruptible():
                scores, gradient = scorer.gradient(self.prompt.detach()[which], torch.arange(used)[which])
            self._step_begun = True
            own = slots[which]
            found[which] = torch.where(own, scores.to(found), found[which])
            # a search that met a NaN has ended; its slot must not upset an optimizer
            gradient = gradient.nan_to_num_(0.0, 0.0, 0.0)
            self.prompt.grad[which] = torch.where(own.view(-1, 1, 1), gradient, self.prompt.grad[which])
            passes += slots * nn.functional.pad(scorer.take_passes().to(passes), (0, len(passes) - used))
            if scorer is not self._scorer:
                rough = slots
        self.best.observe(found.masked_fill(rough, torch.inf), self.prompt.detach(), passes, missing=rough)
        for view, slot_gradient in zip(self._views, self.prompt.grad, strict=False):
            view.grad = slot_gradient
        return torch.where(found.isfinite(), found, 0.0).sum()

    def _project(self) -> None:
        if self.max_norm is not None:
            norm = self.prompt.norm(dim=-1, keepdim=True)
            self.prompt.mul_(self.max_norm / norm.clamp_min(self.max_norm))

    def on_train_end(self) -> None:
        """Drops what the search alone needs; warns of targets for which the lift was not enough."""
        self._half_steps.release()
        if self.lift_tolerance is None or not self.ends_run:
            return
        solved = (self.results.reason == StopReason.LIFT) | (self.results.reason == StopReason.KL_TOLERANCE)
        fell_back = int((self.results.searched & ~solved.any(1)).sum())
        if fell_back:
            _log.warning(
                "%d of %d tasks were searched by gradient descent: their lifted prompts stay above what the output "
                "head allows, or they are more than a target (see stop_reason)",
                fell_back, len(self.data.targets.task_ids),
            )  # fmt: skip

    # ---- state ----

    def chunk_state(self) -> dict[str, Any]:
        """Prompts, their bests, optimizer and scheduler, and how many prompts go through the LM at once."""
        scheduler = self._scheduler()
        return {
            "prompt": self.prompt.detach(),
            "best": self.best.state_dict(),
            "optimizer": self.trainer.optimizers[0].state_dict(),
            "scheduler": None if scheduler is None else scheduler.state_dict(),
            "micro_batch": self.micro_batch.size,
            "rounds": None if self._rounds is None else self._rounds.state_dict(),
        }
