"""What TensorBoard shows beside the curves: hyperparameters, histograms, figures, the configuration."""

import math
from operator import itemgetter

import lightning as L
import numpy as np
from lightning.pytorch.loggers import TensorBoardLogger

from lit_prompt.interruption import interruptible
from lit_prompt.models import PromptModule
from lit_prompt.records.results import Columns, result_table
from lit_prompt.records.tasks import has_tasks
from lit_prompt.results.figures import kl_against_entropy, target_against_reached
from lit_prompt.results.markdown import markdown_table, means_table
from lit_prompt.results.rows import MOST_NAMED, Row, column, grouped
from lit_prompt.results.task_tables import shares_table, tasks_table
from lit_prompt.results.text import nats
from lit_prompt.results.tokens_shown import error_markdown

_HP_METRICS = ("hp/kl_median", "hp/kl_mean", "hp/kl_p90")
#: of more targets a fit evaluates a part, evenly spread, as one process does it at the end of many; a test has all
_MOST_EVALUATED = 4096


class TensorBoardReport(L.Callback):
    """Logs hyperparameters at the start, and at the end of a fit or a test what was found, from the saved prompts."""

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Opens the hyperparameters tab; the metrics follow at the end."""
        logger = trainer.logger
        assert isinstance(pl_module, PromptModule)
        if isinstance(logger, TensorBoardLogger) and pl_module.data.part.index == 0:
            parameters = {"lm": pl_module.lm_path, "dtype": pl_module.lm_options.dtype, **pl_module.settings()}
            parameters |= {"in_front": pl_module.data.vocabulary.front, "targets": len(pl_module.data.targets)}
            # the tab shows a column a parameter: those that are off would hide the others
            parameters = {k: v for k, v in parameters.items() if v is not None and v is not False and v != ""}
            logger.log_hyperparams(parameters, dict.fromkeys(_HP_METRICS, math.nan))

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Evaluates prompts once, as far as that is cheap, and shows them; a signal ends it at once."""
        assert isinstance(pl_module, PromptModule)
        if not isinstance(trainer.logger, TensorBoardLogger) or not pl_module.ends_run:
            return
        with interruptible():
            stride = -(-len(pl_module.data.targets) // _MOST_EVALUATED)
            batches, evaluator = pl_module.data.evaluation_dataloader(stride), pl_module.evaluator
            columns = [evaluator.columns(batch, pl_module.results, compared=False)[0] for batch in batches]
            self._show(trainer.logger, pl_module, columns, stride)

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Shows what the test found, with the means of all measures in a table."""
        assert isinstance(pl_module, PromptModule)
        if not isinstance(trainer.logger, TensorBoardLogger) or not trainer.is_global_zero:
            return
        if pl_module.pasted is None:  # else the KLs are another LM's
            means = means_table({name: float(value) for name, value in trainer.callback_metrics.items()})
            trainer.logger.experiment.add_text("test_means", means, _last_step(pl_module))
            self._show(trainer.logger, pl_module, pl_module.evaluated)

    def _show(self, logger: TensorBoardLogger, module: PromptModule, columns: list[Columns], stride: int = 1) -> None:
        """Shows columns of every target, or of every so many-th."""
        step = _last_step(module)
        every = result_table(columns).to_pylist()
        positions = [i for i, row in enumerate(every) if row["kl"] is not None and row["split"] != "test"]
        if not positions:
            return
        rows = [every[i] for i in positions]
        kl, norm = column(rows, "kl"), column(rows, "prompt_norm")
        summary = (np.median(kl), kl.mean(), np.quantile(kl, 0.9))
        logger.log_metrics(dict(zip(_HP_METRICS, map(float, summary), strict=True)), step=step)
        writer = logger.experiment
        if stride > 1:
            said = f"{len(every)} of {len(module.data.targets)} targets, evenly spread; lit_prompt test evaluates all."
            writer.add_text("evaluated", said, step)
        writer.add_histogram("final/kl", kl, step)
        if not np.isnan(norm).any():  # texts have none
            writer.add_histogram("final/prompt_norm", norm, step)
        picture = kl_against_entropy({module.lm_path: grouped(rows, itemgetter("family"))})
        writer.add_figure("kl_against_entropy", picture, step)
        shown = _token_records(module, [stride * positions[place] for place in kl.argsort().tolist()])
        writer.add_figure("target_against_reached", target_against_reached(shown), step)
        if stride == 1 and has_tasks(found := [row for row in every if row["kl"] is not None]):
            tables = (tasks_table(found).first(), shares_table(found).first())
            writer.add_text("tasks", "\n\n".join(map(markdown_table, tables)), step)
        errors = "\n\n".join(error_markdown(records, title) for title, records in shown.items())
        writer.add_text("token_errors", errors, step)
        writer.flush()


def _last_step(module: PromptModule) -> int:
    """Where the curves end: what was found belongs there, at a fit's end and in a test, which has no steps."""
    return module.data.num_chunks * module.steps


def _token_records(module: PromptModule, best_first: list[int]) -> dict[str, list[Row]]:
    """Token records by title: of all targets (positions of the set) where they are few, else of three of them."""
    chosen = dict.fromkeys(sorted(best_first), "")
    if len(chosen) > MOST_NAMED:
        middle = best_first[(len(best_first) - 1) // 2]
        chosen = {best_first[0]: "best: ", middle: "median: ", best_first[-1]: "worst: "}
    records = module.evaluator.token_records(module.data.targets.batch(list(chosen)), module.results)
    lead = dict(zip((module.data.targets.target_id[place] for place in chosen), chosen.values(), strict=True))
    by_target = grouped(records, itemgetter("target_id"))
    return {f"{lead[name]}{name}, KL {nats(of[0]['kl'], 4)} nats": of for name, of in by_target.items()}
