"""The progress bar."""

import math
import time
from contextlib import ExitStack
from functools import partial
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm

from lit_prompt.models.chunk import median_label, progress
from lit_prompt.progress import BEAT_SECONDS, REFRESH_SECONDS, beating


def _chunk(module: Any) -> str:
    number = module.chunks.chunk
    if number is None:
        return "search"
    done = f" ({module.chunks.count_finished()} done)" if module.data.part.count > 1 else ""
    return f"chunk {number + 1}/{module.data.num_chunks}{done}"


class ChunkProgressBar(TQDMProgressBar):
    """Shows the chunk, its steps and the median of its best KL so far, falling.

    In a step that lasts, the first one included, it shows the KL of the start or of the step before, and how many
    prompts the step has put through the LM so far.
    """

    BAR_FORMAT = "{desc}{percentage:3.0f}%|{bar}| step {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"

    def __init__(self) -> None:
        super().__init__()
        self._shown = -math.inf  # when
        self._beat = ExitStack()
        self._ended: list[int] = []  # positions of the targets of the chunk before: under search until the next begins
        self._step_began = math.inf
        self._unshown = 0  # prompts that had gone through the LM by then

    @property
    def train_description(self) -> str:
        """What stands before the bar until the first chunk does."""
        return "search"

    def init_train_tqdm(self) -> Tqdm:
        """A bar for a chunk, whose clock goes on while a step lasts."""
        bar = super().init_train_tqdm()
        self._beat.enter_context(beating(partial(self._redraw, bar)))
        return bar

    def _redraw(self, bar: Tqdm) -> None:
        module: Any = self.trainer.lightning_module
        current = module.under_search()
        lasts = time.monotonic() - self._step_began >= BEAT_SECONDS
        # a device is not asked from this thread: what a search has on one is as the last step left it
        if lasts and current is not None and current[0] != self._ended and current[1].kl.is_cpu:
            median = float(progress(module)[1].median())
            shown = {median_label(module): median} if math.isfinite(median) else {}
            bar.set_postfix(shown, scored=module.micro_batch.unshown - self._unshown, refresh=False)
        bar.refresh()

    def _should_update(self, current: int, total: float) -> bool:
        """By time, not by steps: a step takes a blink on one LM and a minute on another."""
        now = time.monotonic()
        if not self.is_enabled or (now - self._shown < REFRESH_SECONDS and current != total):
            return False
        self._shown = now
        return True

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Closes the bar."""
        self._beat.close()
        super().on_train_end(trainer, pl_module)

    def _silent(self) -> Tqdm:
        return Tqdm(disable=True)

    # an evaluation takes one step a chunk: its table follows at once
    init_test_tqdm = init_validation_tqdm = init_predict_tqdm = _silent

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Names the chunk."""
        super().on_train_epoch_start(trainer, pl_module)
        current = pl_module.under_search()
        self._ended = [] if current is None else current[0]
        self.train_progress_bar.set_postfix_str("", refresh=False)
        self.train_progress_bar.initial = self.train_progress_bar.n = pl_module.chunks.made
        self.train_progress_bar.set_description(_chunk(pl_module))

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Remembers where a step begins."""
        super().on_train_batch_start(trainer, pl_module, batch, batch_idx)
        self._step_began, self._unshown = time.monotonic(), pl_module.micro_batch.unshown

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Ends a step; those that were made before a resume are counted, too."""
        self._step_began = math.inf
        super().on_train_batch_end(trainer, pl_module, outputs, batch, pl_module.chunks.made - 1)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Ends the bar's line, so that what follows is not hung onto it."""
        self._beat.close()
        if self._train_progress_bar is not None:
            self.train_progress_bar.close()

    def get_metrics(
        self, trainer: L.Trainer, pl_module: L.LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """The median KL, without the version number."""
        items = super().get_metrics(trainer, pl_module)
        items.pop("v_num", None)
        return items
