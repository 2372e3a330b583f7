"""What soft and hard prompts have in common: the frozen LM, the contexts, the search of a chunk an epoch."""

from abc import abstractmethod
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor

from lit_prompt.data import TargetBatch, TargetDataModule, TargetSet, run_folder
from lit_prompt.errors import InputError
from lit_prompt.lm import FrozenLM, LMOptions, Vocabulary
from lit_prompt.models.checkpoint import read_contents, write_contents
from lit_prompt.models.evaluation import Evaluator
from lit_prompt.models.floors import FOLDER, Floors
from lit_prompt.models.trainer_checks import check_trainer, refuse_cut_chunks, refuse_excluded_tokens
from lit_prompt.objectives import Objective
from lit_prompt.results.record import Columns
from lit_prompt.scoring import Contexts, LMScorer, MicroBatch, Slots
from lit_prompt.search import BestSoFar, SearchResults


class PromptModule(L.LightningModule):
    """A frozen LM and the prompts that are searched for a data module's targets.

    Args:
        lm: hub id or local folder of the LM; set by ``--lm``.
        lm_options: how it is loaded; set by ``--lm_options``.
        before: fixed text before the prompt, of targets that have none of their own; special tokens may be spelled
            (``<|endoftext|>``).
        after: fixed text between the prompt and the predicted token, of targets that have none of their own.
        seed: base of the searches' seeds.
        objective: what is minimised.
    """

    method: str
    length: int
    restarts: int
    steps: int
    #: What was found, for every target.
    results: SearchResults

    def __init__(
        self, lm: str, lm_options: LMOptions | None, before: str, after: str, seed: int, objective: Objective
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.lm_path = lm
        self.lm_options = lm_options or LMOptions()
        self.before = before
        self.after = after
        self.seed = seed
        self.objective = objective
        self.strict_loading = False  # the LM is not in a checkpoint
        self.micro_batch = MicroBatch()
        self._loss_name = objective.name.replace("_", " ").replace("kl", "KL")

    # ---- to be given by soft and hard prompts ----

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """What defines the search: plain values, shown in TensorBoard and compared on resume."""

    @abstractmethod
    def prepare(self) -> None:
        """Sets up what needs the LM; tensors are made on the CPU unless a device is named."""

    @abstractmethod
    def under_search(self) -> tuple[list[int], BestSoFar] | None:
        """Positions of the targets of the chunk under search, and the bests of its slots; None before the first."""

    @abstractmethod
    def search_state(self) -> dict[str, Any]:
        """What a resume needs beside parameters, buffers and the callbacks' states."""

    @abstractmethod
    def load_search_state(self, state: dict[str, Any]) -> None:
        """Resumes from :meth:`search_state`."""

    # ---- set-up ----

    @property
    def data(self) -> TargetDataModule:
        """The data module of the running trainer."""
        data = getattr(self.trainer, "datamodule", None)
        if not isinstance(data, TargetDataModule):
            raise InputError("the trainer needs a TargetDataModule: trainer.fit(model, datamodule=...)")
        return data

    @property
    def targets(self) -> TargetSet:
        """The targets of the running trainer."""
        return self.data.targets

    @property
    def vocabulary(self) -> Vocabulary:
        """The LM's vocabulary."""
        return self.data.vocabulary

    def setup(self, stage: str) -> None:
        """Refuses what would change results silently."""
        check_trainer(self.trainer)
        for name in ("length", "steps", "restarts", "patience", "max_forward_passes"):
            value = getattr(self, name, None)
            if value is not None and value < 1:
                raise InputError(f"model.{name} is {value}; it must be at least 1")
        if self.data.steps != self.steps:
            raise InputError(f"data.steps is {self.data.steps} and model.steps {self.steps}; give both the same number")
        if stage == "fit":
            if hasattr(self, "results"):
                raise InputError("this module has searched before; make a new one for another fit")
            refuse_cut_chunks(self.trainer)

    def configure_model(self) -> None:
        """Loads the LM, once."""
        if "lm" in self._modules:
            return
        # Lightning makes the trainer's device the default one here; all but the LM and the slots lives on the CPU
        with torch.device("cpu"):
            self.lm = FrozenLM.load(self.lm_path, self.lm_options, self.trainer.strategy.root_device)
            if self.lm.vocab_size != self.targets.vocab_size:
                raise InputError(
                    f"{self.lm_path} has {self.lm.vocab_size} logits, the targets are over {self.targets.vocab_size} "
                    "tokens"
                )
            self.contexts = Contexts(self.before, self.after, self.lm, self.vocabulary)
            self.contexts.check_lengths(self.targets, self.length, self.lm_path)
            self.floors = Floors(self.lm, self._floors_folder())
            self.prepare()
            self.evaluator = Evaluator(self)

    def _floors_folder(self) -> Path | None:
        """Where all runs beside this one keep their floors; None for a run that keeps nothing."""
        logger = self.trainer.logger
        if run_folder(self.trainer) is None or logger is None or logger.save_dir is None:
            return None
        return Path(logger.save_dir) / FOLDER

    # ---- search ----

    def on_fit_start(self) -> None:
        """An epoch is a chunk: as many epochs as there are chunks."""
        if self.objective.needs_full_support:
            refuse_excluded_tokens(self.data, self.objective)
        wanted, limit = self.data.sampler.num_chunks, self.trainer.max_epochs
        self.trainer.fit_loop.max_epochs = wanted if limit is None or limit < 0 else min(limit, wanted)

    def scorer(self, batch: TargetBatch, fluency: float = 0.0) -> LMScorer:
        """Scores prompts for a chunk of targets, a slot for each restart.

        Raises:
            RuntimeError: if the targets are not those of the epoch's chunk.
        """
        if batch.index != self.data.sampler.chunk(self.current_epoch):
            raise RuntimeError(f"epoch {self.current_epoch} was given targets {batch.index}, which are not its chunk")
        slots = Slots(batch.target_id, self.contexts.of_all(batch), self.restarts)
        return LMScorer(self.lm, slots, batch.log_probs, self.length, self.objective, self.micro_batch, fluency)

    def progress(self) -> tuple[list[int], Tensor]:
        """Positions of the chunk's targets and the best score so far of each in nats, ``[target]``, on CPU."""
        current = self.under_search()
        assert current is not None
        index, best = current
        return index, best.kl[: len(index) * self.restarts].cpu().unflatten(0, (len(index), self.restarts)).amin(1)

    def log_progress(self) -> None:
        """Shows the median over targets in the progress bar."""
        self.log(f"median {self._loss_name}", self.progress()[1].median(), prog_bar=True, logger=False)

    def on_train_epoch_end(self) -> None:
        """Stores the chunk's results."""
        current = self.under_search()
        assert current is not None
        current[1].finish()
        self.results.put(*current)

    def check_found_any(self, remedy: str) -> None:
        """Refuses to end a fit that has found nothing.

        Args:
            remedy: what the user may try.
        """
        if not bool(self.results.searched.any()):
            raise InputError(f"no search gave a finite KL: the LM returns NaN or inf; {remedy}")

    # ---- checkpoint ----

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Stores the results, those of the chunk under way included."""
        if (current := self.under_search()) is not None:
            self.results.put(*current)
        write_contents(checkpoint, self)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restores results and search state."""
        self.load_search_state(read_contents(checkpoint, self))

    # ---- evaluation ----

    def _start_evaluation(self) -> None:
        if not bool(self.results.searched.any()):
            raise InputError("no prompt has been searched yet; name a run with --run or a checkpoint with --ckpt_path")
        self.evaluator.reset()

    on_validation_start = on_test_start = on_predict_start = _start_evaluation

    def validation_step(self, batch: TargetBatch, batch_idx: int) -> Columns:
        """Evaluates some targets; returns the columns of their result records."""
        return self.evaluator.update(batch, self.results)

    test_step = validation_step

    def predict_step(self, batch: TargetBatch, batch_idx: int) -> list[dict[str, Any]]:
        """The reached distributions of some targets; see :meth:`Evaluator.token_records`."""
        return self.evaluator.token_records(batch, self.results)

    def on_validation_epoch_end(self) -> None:
        """Logs the means over targets."""
        self.log_dict(self.evaluator.means("val"))

    def on_test_epoch_end(self) -> None:
        """Logs the means over targets."""
        self.log_dict(self.evaluator.means("test"))
