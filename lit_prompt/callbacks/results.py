"""Writes, prints and draws what an evaluation found."""

import json
from operator import itemgetter
from pathlib import Path
from typing import Any

import lightning as L

from lit_prompt.data.datamodule import run_folder
from lit_prompt.files import free_path
from lit_prompt.models import PromptModule
from lit_prompt.records.predictions import PREDICTIONS
from lit_prompt.records.prompts import write_prompts
from lit_prompt.records.results import RESULTS, Columns, result_table
from lit_prompt.results.comparisons import comparisons
from lit_prompt.results.console import say
from lit_prompt.results.figures import kl_against_entropy
from lit_prompt.results.results_shown import print_comparisons, print_prompts, print_results
from lit_prompt.results.rows import Row, grouped
from lit_prompt.results.tokens_shown import print_top_tokens


class EvaluationCallback(L.Callback):
    """Collects what an evaluation gives for each batch.

    Attributes:
        found: columns of result records, a dictionary a batch; of ``predict`` lists of token records.
    """

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Forgets an earlier evaluation."""
        self.found: list[Any] = []

    def on_test_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, *args: Any, **kwargs: Any
    ) -> None:
        """Collects."""
        self.found.append(outputs)

    on_validation_batch_end = on_predict_batch_end = on_test_batch_end


class ResultWriter(EvaluationCallback):
    """Writes, prints and draws what an evaluation found.

    ``test`` writes ``results.parquet``, ``prompts.safetensors`` and a picture into the run's folder and prints a table;
    ``validate`` prints the table alone; ``predict`` writes and prints the reached top tokens.
    """

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Prints the table."""
        if self.found:
            print_results(result_table(self.found))

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Writes results, prompts and the picture; prints the table and the paths."""
        assert isinstance(pl_module, PromptModule)
        table = result_table(self.found)
        print_results(table)
        print_prompts(table)
        print_comparisons(comparisons(table))
        folder = run_folder(trainer)
        if folder is None:
            return
        folder.mkdir(parents=True, exist_ok=True)
        results = RESULTS.write(table, free_path(folder, "results.parquet"))
        prompts = free_path(folder, "prompts.safetensors")
        _save_prompts(pl_module, self.found, prompts)
        picture = free_path(folder, "kl_vs_entropy.png")
        title = f"{pl_module.method} prompts, {Path(pl_module.lm_path).name}"
        kl_against_entropy({title: grouped(table.to_pylist(), itemgetter("family"))}).savefig(picture)
        say(f"results   {results}", f"prompts   {prompts}", f"picture   {picture}")
        if not (folder / "config.yaml").exists():
            return  # a checkpoint that was tested outside its run
        say(
            "",
            "Next:",
            f"  lit_prompt predict --run {folder}    # target and reached probability of the top tokens",
            f"  lit_prompt report {folder} --out {folder / 'report'}    # figures and findings on one page",
            f"  tensorboard --logdir {folder.parent.parent}",
        )

    def on_predict_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Writes and prints the token records."""
        records: list[Row] = [row for batch in self.found for row in batch]
        print_top_tokens(records)
        if (folder := run_folder(trainer)) is not None:
            folder.mkdir(parents=True, exist_ok=True)
            path = free_path(folder, "predictions.parquet")
            say(f"predictions   {PREDICTIONS.write(PREDICTIONS.table(records), path)}")

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Says what to do next."""
        if (folder := run_folder(trainer)) is not None:
            say("", "searched; evaluate with", f"  lit_prompt test --run {folder}")


def _save_prompts(module: PromptModule, columns: list[Columns], path: Path) -> None:
    """Saves the best prompt of each target that was searched, with what it belongs to."""
    found = [row for part in columns for row in zip(part["target_id"], part["best_restart"], part["kl"], strict=True)]
    prompts = {
        target_id: module.results.prompts[i, restart].numpy()
        for i, (target_id, restart, kl) in enumerate(found)
        if kl is not None
    }
    about = {
        "method": module.method,
        "lm": module.lm_path,
        "lm_fingerprint": module.lm.fingerprint,
        "in_front": module.data.vocabulary.front,
        "before": module.before,
        "after": module.after,
        "settings": json.dumps(module.settings()),
    }
    write_prompts(prompts, about, path)
