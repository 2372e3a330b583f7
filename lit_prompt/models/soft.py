"""Soft prompts: free embeddings, searched by gradient descent on the KL."""

import logging
import time
from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from lit_prompt.data import TargetBatch
from lit_prompt.errors import InputError
from lit_prompt.functional import seed_for
from lit_prompt.functional.precision import double
from lit_prompt.lm import LMOptions
from lit_prompt.models.base import PromptModule
from lit_prompt.models.chunk_objective import ChunkObjective
from lit_prompt.models.lift import SCALES, lift, why_no_lift
from lit_prompt.models.optimizers import optimizer_over_slots, optimizer_settings, refuse_coupled_slots, step_scheduler
from lit_prompt.models.prompt_init import PromptInit, PromptInitializer
from lit_prompt.search import BestSoFar, ResultBank

_log = logging.getLogger(__name__)


class SoftPrompt(PromptModule):
    """Searches, for every target, the embeddings that minimise KL(target || LM) by gradient descent.

    A chunk of targets is searched at a time, one slot of embeddings for each target and restart. The loss is the sum of
    the slots' KLs and each slot starts from its own seed, so that slots do not influence one another. The method is
    that of Distribution Prompting (Wang, Zhu and Shi, EMNLP 2025, arXiv 2505.12244), after Li and Liang (2021).

    Args:
        length: embeddings of a prompt.
        steps: most steps for a target.
        optimizer: any torch optimizer; one that looks at a whole parameter (LBFGS) needs data.chunk_size 1.
        scheduler: any torch learning-rate scheduler, stepped with the optimizer; every chunk begins anew.
        init: where prompts start.
        restarts: searches for each target from different starts; the best is kept, their spread is reported.
        kl_tolerance: a target is done when its KL is at most this many nats.
        patience: a target is done after this many forward passes (one a step, but for LBFGS) without a better KL;
            null for never.
        max_norm: longest allowed embedding (L2); null for no limit.
        before: fixed text before the prompt; special tokens may be spelled (``<|endoftext|>``). A target's own text
            takes its place.
        after: fixed text between the prompt and the predicted token. A target's own text takes its place.
        seed: base of the seeds of the starts.
        lm: hub id or local folder of the LM; set by ``--lm``.
        lm_options: how it is loaded; set by ``--lm_options``.
    """

    method = "soft"
    prompt: nn.Parameter

    def __init__(
        self,
        length: int = 5,
        steps: int = 500,
        optimizer: OptimizerCallable = lambda p: torch.optim.Adam(p, lr=0.1),
        scheduler: LRSchedulerCallable | None = None,
        init: PromptInit = PromptInit(),
        restarts: int = 1,
        kl_tolerance: float = 1e-4,
        patience: int | None = None,
        max_norm: float | None = None,
        before: str = "",
        after: str = "",
        seed: int = 0,
        lm: str = "data/lms/tales-llama",
        lm_options: LMOptions | None = None,
    ) -> None:
        super().__init__(lm, lm_options, before, after, seed)
        self.automatic_optimization = False  # memory is bounded by parts of a chunk: see _backward
        self.length = length
        self.steps = steps
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.init = init
        self.restarts = restarts
        self.kl_tolerance = kl_tolerance
        self.patience = patience
        self.max_norm = max_norm
        self.lifts = False  # whether prompts start at the lift
        self._prepared: int | None = None  # the chunk whose objective is at hand

    @property
    def prompt_length(self) -> int:
        """Number of embeddings of a prompt."""
        return self.length

    def settings(self) -> dict[str, Any]:
        """What defines the search: plain values, shown in TensorBoard and compared on resume."""
        names = ("length", "steps", "restarts", "kl_tolerance", "patience", "max_norm", "before", "after", "seed")
        settings = {name: getattr(self, name) for name in names}
        settings |= {f"init.{name}": value for name, value in vars(self.init).items()}
        return settings | optimizer_settings(self.optimizer, self.scheduler)

    # ---- set-up ----

    def setup(self, stage: str) -> None:
        """Checks the settings before anything is loaded."""
        super().setup(stage)
        self.check_search(stage, "length", "steps", "restarts", "patience")
        if self.max_norm is not None and not self.max_norm > 0:
            raise InputError(f"model.max_norm is {self.max_norm}; it must be positive, or null for no limit")
        if self.init.kind == "text" and self.restarts > 1:
            raise InputError("model.init.kind text gives every restart the same start; set model.restarts to 1")

    def prepare(self) -> None:
        """Makes room for a chunk of prompts and for all results."""
        super().prepare()
        slots = min(self.data.chunk_size, len(self.targets)) * self.restarts
        shape = (self.length, self.lm.embedding_dim)
        self.prompt = nn.Parameter(torch.zeros(slots, *shape, device=self.lm.device))
        self.bank = ResultBank(len(self.targets), self.restarts, shape)
        self._initializer = PromptInitializer(self.init, self.length, self.lm, self.vocabulary)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The optimizer over all slots, and the scheduler."""
        optimizer, self._slots = optimizer_over_slots(self.optimizer, self.prompt)
        scheduler = None if self.scheduler is None else self.scheduler(optimizer)
        if len(self.prompt) > 1:
            refuse_coupled_slots(optimizer, scheduler)
        self._optimizer_start = deepcopy(optimizer.state_dict())
        self._scheduler_start = {} if scheduler is None else deepcopy(scheduler.state_dict())
        return optimizer if scheduler is None else ([optimizer], [scheduler])

    def on_fit_start(self) -> None:
        """An epoch is a chunk: as many epochs as there are chunks."""
        self.limit_epochs_to_chunks()

    # ---- search ----

    def _scheduler(self) -> LRScheduler | ReduceLROnPlateau | None:
        configs = self.trainer.lr_scheduler_configs
        return configs[0].scheduler if configs else None

    def on_train_start(self) -> None:
        """Brings a restored search to the device, to which Lightning moves a module after the restore."""
        if self._chunk is not None:
            self.best.to(self.prompt.device)
        if self.init.kind == "lift":
            why_not = why_no_lift(self.floors, self.lm.embedding_dim)
            self.lifts = why_not is None
            # an LM without floors has said why already
            if why_not is not None and why_not != self.floors.why_not:
                _log.warning("%s", why_not)

    def _begin_chunk(self, batch: TargetBatch) -> None:
        started = time.perf_counter()
        starts = [
            self._initializer.draw(seed_for(self.seed, target_id, restart))
            for target_id in batch.target_id
            for restart in range(self.restarts)
        ]
        with torch.no_grad():
            self.prompt.zero_()
            self.prompt[: len(starts)] = torch.stack(starts).to(self.prompt)
            if self.lifts:
                self._lift(batch, self.prompt[: len(starts)])
            self._project()
        self.trainer.optimizers[0].load_state_dict(deepcopy(self._optimizer_start))
        if (scheduler := self._scheduler()) is not None:
            scheduler.load_state_dict(deepcopy(self._scheduler_start))
        self.best = BestSoFar(self.prompt.detach()[: len(starts)], self.kl_tolerance, self.patience)
        if self.lifts:
            self.best.forward_passes[:: self.restarts] += SCALES
        self.best.seconds += (time.perf_counter() - started) / len(starts)
        self._chunk = self.current_epoch

    def _lift(self, batch: TargetBatch, prompts: Tensor) -> None:
        """Lifts the first restart of every target."""
        objective = ChunkObjective(batch, 1, self.length, self.lm, self.contexts, self._micro_batch)
        prompts[:: self.restarts] = lift(self.floors, batch, prompts[:: self.restarts], objective.kl, self.max_norm)

    def on_train_batch_start(self, batch: TargetBatch, batch_idx: int) -> int | None:
        """Begins a chunk, and ends it (-1) when no search in it goes on."""
        self.check_chunk(batch)
        if self._chunk != self.current_epoch:
            self._begin_chunk(batch)
        if self._prepared != self.current_epoch:
            self._objective = ChunkObjective(
                batch, self.restarts, self.length, self.lm, self.contexts, self._micro_batch
            )
            self._prepared = self.current_epoch
        self._index = batch.index
        return None if bool(self.best.running.any()) else -1

    def training_step(self, batch: TargetBatch, batch_idx: int) -> None:
        """One step of all searches of the chunk that still go on."""
        started = time.perf_counter()
        running = self.best.running
        self.best.steps += running
        optimizer = self.optimizers()
        assert isinstance(optimizer, LightningOptimizer)
        loss = optimizer.step(self._backward)
        with torch.no_grad():
            self._project()
        step_scheduler(self._scheduler(), float(loss), self.steps)
        self.log("kl", self.progress()[1].median(), prog_bar=True, logger=False)
        share = double(running) / running.sum().cpu()
        self.best.seconds += share * (time.perf_counter() - started)

    def _backward(self) -> Tensor:
        """The summed KL of the running searches; leaves its gradient in the prompts and the KLs in the bests."""
        slots = len(self.best.kl)
        prompts = self.prompt.detach()[:slots]
        kls, gradient = self._objective.kl_and_gradient(prompts, self.best.running)
        self.best.observe(kls, prompts)
        self.prompt.grad = torch.zeros_like(self.prompt)
        # a search that met a NaN has ended; its slot must not upset an optimizer
        self.prompt.grad[:slots] = gradient.nan_to_num_(0.0, 0.0, 0.0)
        for slot, slot_gradient in zip(self._slots, self.prompt.grad, strict=False):
            slot.grad = slot_gradient
        return kls[kls.isfinite()].sum()

    def _project(self) -> None:
        if self.max_norm is not None:
            norm = self.prompt.norm(dim=-1, keepdim=True)
            self.prompt.mul_(self.max_norm / norm.clamp_min(self.max_norm))

    def on_train_end(self) -> None:
        """Refuses to end a fit that found nothing."""
        self.check_found_any("try --lm_options.dtype float32 or a lower model.optimizer.lr")

    # ---- results and state ----

    def prompt_embeddings(self, index: Sequence[int]) -> Tensor:
        """Input embeddings of the best prompts, ``[target, restart, length, embedding]``, float32."""
        return self.bank.prompts[torch.tensor(index)]

    def search_state(self) -> dict[str, Any]:
        """The chunk under way: its slots and their bests."""
        if self._chunk is None:
            return {}
        self._store()
        return {
            "chunk": self._chunk,
            "chunk_size": self.data.chunk_size,
            "index": self._index,
            "micro_batch": self._micro_batch.size,
            "prompt": self.prompt.detach(),
            "best": self.best.state_dict(),
        }

    def load_search_state(self, state: dict[str, Any]) -> None:
        """Goes on with the chunk of :meth:`search_state`."""
        if not state:
            return
        self.check_chunk_size(state["chunk_size"])
        self._chunk, self._index = state["chunk"], state["index"]
        self._micro_batch.size = state["micro_batch"]
        with torch.no_grad():
            self.prompt.copy_(state["prompt"])
        slots = len(state["index"]) * self.restarts
        self.best = BestSoFar(self.prompt.detach()[:slots], self.kl_tolerance, self.patience)
        self.best.load_state_dict(state["best"])
