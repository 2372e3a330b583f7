"""A module whose prompts are evaluated on an LM, some targets a step."""

from abc import ABC
from functools import cached_property
from typing import Any

import lightning as L

from lit_prompt.data import TargetBatch
from lit_prompt.data.datamodule import TargetDataModule
from lit_prompt.lm import FrozenLM
from lit_prompt.models.checks import check_settings, checked_data
from lit_prompt.models.evaluation import Evaluation
from lit_prompt.models.floors import FloorOptions, Floors, floors_of_run
from lit_prompt.objectives import Objective
from lit_prompt.records.results import Columns
from lit_prompt.scoring import Contexts


class EvaluatedModule(L.LightningModule, ABC):
    """What is asked of a module in ``validate``, ``test`` and ``predict``: prompts, and an LM after them.

    ``results`` are the prompts, as the ``evaluator`` takes them.
    """

    method: str
    seed: int
    objective: Objective
    data: TargetDataModule
    lm: FrozenLM
    lm_path: str
    contexts: Contexts
    results: Any
    evaluator: Evaluation[Any]
    floor_options = FloorOptions()
    subfolder = ""  # of the run's folder, where results go

    @cached_property
    def floors(self) -> Floors:
        """Floors of the LM; made when they are first asked for, as the trainer knows its checkpoint then."""
        return floors_of_run(self.lm, self.trainer, self.floor_options)

    def check(self, trainer: L.Trainer, stage: str) -> None:
        """Refuses settings that are wrong by themselves, before targets are built and the LM is loaded.

        Raises:
            InputError: if one is.
        """
        check_settings(self, trainer, stage)

    def setup(self, stage: str) -> None:
        """Refuses what would change results silently."""
        self.check(self.trainer, stage)
        self.data = checked_data(self.trainer)

    def on_validation_start(self) -> None:
        """Refuses to evaluate nothing."""
        self.evaluator.start(self.results)

    on_test_start = on_predict_start = on_validation_start

    def validation_step(self, batch: TargetBatch, batch_idx: int) -> Columns:
        """Evaluates some targets; returns the columns of their result records."""
        return self.evaluator.update(batch, self.results)

    test_step = validation_step

    def predict_step(self, batch: TargetBatch, batch_idx: int) -> list[dict[str, Any]]:
        """The reached distributions of some targets; see :meth:`Evaluation.token_records`."""
        return self.evaluator.token_records(batch, self.results)

    def on_validation_epoch_end(self) -> None:
        """Gives the means over targets to the trainer; no logger draws curves of single points."""
        self.log_dict(self.evaluator.means("test" if self.trainer.testing else "val"), logger=False)

    on_test_epoch_end = on_validation_epoch_end
