"""KL against search steps: live, and aligned over all chunks at the end."""

from typing import Any

import lightning as L
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

from lit_prompt.functional.precision import double
from lit_prompt.models import PromptModule
from lit_prompt.models.chunk import progress, score_label
from lit_prompt.models.score_curve import ScoreCurve

_QUANTILES = {"p10": 0.1, "median": 0.5, "p90": 0.9}
_MARGIN = ("median", "p10", "p90")


def quantiles(score: Tensor, families: list[str], name: str) -> dict[str, float]:
    """Median and 10/90 % quantiles over targets, overall and, where there are several, for each family.

    Args:
        score: nats, ``[target]``; infinite values are left out.
        families: of each target.
        name: of the score.

    Returns:
        By tag, such as ``kl_median`` and ``random/kl_p10``.
    """
    tags: dict[str, float] = {}
    groups = {"": torch.ones(len(score), dtype=torch.bool)}
    if len(set(families)) > 1:
        groups |= {f"{name}/": torch.tensor([f == name for f in families]) for name in sorted(set(families))}
    for group, rows in groups.items():
        values = double(score[rows & score.isfinite()])
        if len(values):
            tags |= {f"{group}{name}_{which}": float(values.quantile(q)) for which, q in _QUANTILES.items()}
    return tags


class KLCurves(L.Callback):
    """Logs the best KL so far over tasks, as median and 10/90 % quantiles, overall and for each family.

    During the fit ``train/kl_*`` shows the chunk under search, against the steps of one chunk after another. Of several
    processes the first shows its own, and ``train/finished_chunks`` what all have done. At the end of several
    chunks ``curve/kl_*`` shows all targets against the step of their own search, so that chunks lie over one another;
    the custom-scalars tab draws a band. With another objective the tags say ``objective`` in place of ``kl``.
    """

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Logs the quantiles of the chunk's KLs."""
        assert isinstance(pl_module, PromptModule)
        chunks = pl_module.chunks
        if trainer.logger is None or (chunks.made - 1) % chunks.curve.stride or pl_module.data.part.index:
            return
        index, kl = progress(pl_module)
        families = [pl_module.data.targets.task_family[i] for i in index]
        found = quantiles(kl, families, _tag(pl_module))
        tags = {f"train/{name}": value for name, value in found.items()}
        if pl_module.data.part.count > 1:
            tags["train/finished_chunks"] = chunks.count_finished()
        trainer.logger.log_metrics(tags, step=chunks.step)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Logs the aligned curves."""
        assert isinstance(pl_module, PromptModule)
        logger = trainer.logger
        if not pl_module.ends_run or not isinstance(logger, TensorBoardLogger):
            return
        targets = sorted(pl_module.curves)
        curves = torch.stack([pl_module.curves[i] for i in targets])
        families = [pl_module.data.targets.task_family[i] for i in targets]
        stride = ScoreCurve(0, pl_module.steps).stride
        score, several = _tag(pl_module), pl_module.data.num_chunks > 1
        for point in range(curves.shape[1] if several else 0):
            found = quantiles(curves[:, point], families, score)
            logger.log_metrics({f"curve/{name}": value for name, value in found.items()}, step=point * stride)
        group = "curve" if several else "train"
        shown = {"all targets: median, 10 % to 90 %": ["Margin", [f"{group}/{score}_{q}" for q in _MARGIN]]}
        if len(set(families)) > 1:
            medians = [f"{group}/{name}/{score}_median" for name in sorted(set(families))]
            shown["median by family"] = ["Multiline", medians]
        logger.experiment.add_custom_scalars({f"{score_label(pl_module)} (nats) against search steps": shown})


def _tag(module: PromptModule) -> str:
    return "kl" if score_label(module) == "KL" else "objective"
