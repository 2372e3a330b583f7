"""What soft and hard prompts have in common: the frozen LM, a chunk of targets an epoch, what was found."""

from abc import ABC, abstractmethod
from functools import cached_property
from typing import Any

import lightning as L
import torch
from torch import Tensor

from lit_prompt.data import TargetBatch
from lit_prompt.lm import Sampling
from lit_prompt.models import checks
from lit_prompt.models.checkpoint import read_former
from lit_prompt.models.chunk import chunks_to_search
from lit_prompt.models.evaluation import Evaluation
from lit_prompt.models.evaluation_options import EvaluationOptions
from lit_prompt.models.evaluator import Evaluator
from lit_prompt.models.known import Known, KnownOptions
from lit_prompt.models.mixture_evaluator import MixtureEvaluator
from lit_prompt.models.pasted import PastedTexts
from lit_prompt.models.run_chunks import RunChunks
from lit_prompt.models.soft_run import SoftRun
from lit_prompt.objectives import Objective
from lit_prompt.scoring import Contexts, MicroBatch
from lit_prompt.search import BestSoFar, SearchResults
from lit_prompt.search.mixture_results import MixtureResults


class PromptModule(L.LightningModule, ABC):
    """A frozen LM and the prompts that are searched for a data module's targets.

    ``before`` and ``after`` are the fixed texts around the prompts of targets that have none of their own, ``seed`` is
    the base of the searches' seeds, ``objective`` what is minimised, at a sampling ``temperature``. ``results`` are
    every task's prompts, as the ``evaluator`` takes them: what was found, or texts that are ``pasted`` into another LM.
    """

    method: str
    length: int
    restarts: int
    steps: int
    results: Any
    contexts: Any  # what stands around the prompts
    pasted: PastedTexts | None = None
    known_options = KnownOptions()
    evaluation_options = EvaluationOptions()
    soft_run: SoftRun | None = None  # whose prompts a search for tokens starts from
    evaluator: Evaluation[Any]
    allowed: Tensor | None = None  # which ids a hard prompt may hold
    fluency = 0.0  # weight of the prompt's own log-likelihood in what is minimised
    chunks: RunChunks
    takes_served = False  # whether it finds prompts for LMs that are only served
    ends_run = False  # whether what remains to be done at the end of all searches is done here
    curves: dict[int, Tensor]
    evaluated: list[Any]  # what an evaluation gives for each batch
    begun: int | None = None  # the chunk whose search was begun last

    def __init__(
        self, before: str, after: str, seed: int, objective: Objective, temperature: float, components: int
    ) -> None:
        super().__init__()
        self.automatic_optimization = False  # memory is bounded by parts of a chunk; hard prompts have no gradient
        self.strict_loading = False  # the LM is not in a checkpoint
        self.before, self.after, self.seed, self.objective = before, after, seed, objective
        self.temperature = temperature
        self.components = components
        self.micro_batch = MicroBatch()

    @property
    def sampling(self) -> Sampling:
        """How tokens are drawn where results are told for that: as asked for, else as it was searched for."""
        asked = self.evaluation_options.sampling
        return Sampling(temperature=self.temperature) if asked.is_plain else asked

    @cached_property
    def known(self) -> Known:
        """What earlier runs know of the LM; made when first asked for, as the trainer knows its checkpoint then."""
        return Known(self.lm, self.trainer, self.known_options)

    def check(self, trainer: L.Trainer, stage: str) -> None:
        """Refuses settings that are wrong by themselves, before targets are built and the LM is loaded."""
        checks.check_settings(self, trainer, stage)

    def setup(self, stage: str) -> None:
        """Refuses what would change results silently."""
        self.check(self.trainer, stage)
        self.data = checks.checked_data(self.trainer)
        checks.refuse_served(self, self.data)

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """What defines the search: plain values, shown in TensorBoard and compared on resume."""

    @abstractmethod
    def prepare(self) -> None:
        """Sets up what needs the LM; tensors are made on the CPU unless a device is named."""

    @abstractmethod
    def under_search(self) -> tuple[list[int], BestSoFar] | None:
        """Numbers of the tasks of the chunk under search, and the bests of its slots; None before the first."""

    @property
    def is_searching(self) -> bool:
        """Whether a chunk is under search here whose search has begun."""
        return self.chunks.chunk is not None and self.begun == self.chunks.chunk

    @property
    @abstractmethod
    def prompt_room(self) -> tuple[tuple[int, ...], torch.dtype]:
        """Shape and dtype of a prompt."""

    def no_results(self, tasks: int) -> SearchResults:
        """Room for what is found for some tasks."""
        shape, dtype = self.prompt_room
        if self.components > 1:
            return MixtureResults(tasks, self.restarts, self.components, shape, dtype)
        return SearchResults(tasks, self.restarts, shape, dtype)

    @property
    def nothing_found(self) -> str:
        """What is said where no search has found a prompt."""
        return (
            f"no search gave a finite {self.objective.label}: the LM returns NaN or inf; try --lm_options.dtype "
            "float32, a lower model.optimizer.lr (soft prompts) or --model.readable false (no prompt survives as text)"
        )

    def round_ends(self, number: int) -> int:
        """Steps after which the search for a component ends, numbered from 0: each has the same share of all."""
        return (number + 1) * self.steps // self.components

    @abstractmethod
    def chunk_state(self) -> dict[str, Any]:
        """Where the search of the present chunk stands: all that more steps of it need."""

    def configure_model(self) -> None:
        """Loads the LM, once."""
        if "lm" in self._modules:
            return
        if self.pasted is not None:
            return self.pasted.configure(self)
        self.lm_path, self.lm_options = self.data.lm, self.data.lm_options
        # Lightning makes the trainer's device the default one here; all but the LM and the slots lives on the CPU
        with torch.device("cpu"):
            self.lm = self.data.load_lm(self.trainer.strategy.root_device)
            self.read_contexts()
            self.prepare()
            self.evaluator = self.new_evaluator()
            self.chunks = RunChunks(self)
            if self.trainer.state.fn != "fit":
                self.read_results()

    def read_contexts(self) -> None:
        """Reads what stands around the prompts, and refuses what the LM does not take."""
        self.contexts = Contexts(self.before, self.after, self.lm, self.data.vocabulary)
        checks.check_targets(self)

    def new_evaluator(self) -> Evaluation[Any]:
        """What evaluates prompts that were found."""
        return MixtureEvaluator(self) if self.components > 1 else Evaluator(self)

    def read_results(self) -> None:
        """Reads what was found for all tasks, by this process and others."""
        self.results, self.curves = self.chunks.everything()

    def on_fit_start(self) -> None:
        """An epoch is a chunk: as many epochs as there are chunks left."""
        checks.check_fit(self)
        self.chunks.begin(chunks_to_search(self), self.data.part)
        checks.refuse_more_rounds(self)
        self.trainer.fit_loop.max_epochs = self.chunks.left
        self._next_chunk()

    def _next_chunk(self) -> None:
        """Goes on to the next chunk; where there is none, ends the fit."""
        if self.chunks.next(waits=self.trainer.world_size > 1 and self.trainer.is_global_zero):
            return
        self.trainer.should_stop = True
        if self.chunks.ends_here():
            self.read_results()
            checks.check_found_any(self)
            self.ends_run = True

    def on_train_epoch_end(self) -> None:
        """Keeps what was found for the chunk, and where its search stands."""
        self.chunks.finish()
        self._next_chunk()

    def teardown(self, stage: str) -> None:
        """Lets other processes have what this one has held."""
        if self.pasted is None:
            self.chunks.close()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Reads the results that a former version has kept in a checkpoint."""
        read_former(checkpoint, self)

    def on_validation_start(self) -> None:
        """Refuses to evaluate nothing."""
        self.evaluator.start(self.results)
        self.evaluated = []

    on_test_start = on_predict_start = on_validation_start

    def validation_step(self, batch: TargetBatch, batch_idx: int) -> None:
        """Evaluates some targets: the columns of their result records."""
        self._keep_evaluated(self.evaluator.update(batch, self.results))

    test_step = validation_step

    def predict_step(self, batch: TargetBatch, batch_idx: int) -> list[dict[str, Any]]:
        """The reached distributions of some targets; see :meth:`Evaluation.token_records`."""
        found = self.evaluator.token_records(batch, self.results)
        self._keep_evaluated(found)
        return found

    def _keep_evaluated(self, found: Any) -> None:
        if self.data.parts is None:
            self.evaluated.append(found)
        else:
            self.data.parts.keep({"found": found, **self.evaluator.state()})
            self.evaluator.forget()

    def on_predict_epoch_end(self) -> None:
        """Takes in what other processes have evaluated."""
        for part in () if self.data.parts is None else self.data.parts.every():
            self.evaluated.append(part["found"])
            self.evaluator.add(part)

    def on_validation_epoch_end(self) -> None:
        """Gives the means over targets to the trainer; no logger draws curves of single points."""
        self.on_predict_epoch_end()
        self.log_dict(self.evaluator.means("test" if self.trainer.testing else "val"), logger=False)

    on_test_epoch_end = on_validation_epoch_end
