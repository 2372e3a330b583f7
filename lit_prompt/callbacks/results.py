"""Writes, prints and draws what an evaluation found."""

import json
from pathlib import Path
from typing import Any

import lightning as L
import pyarrow as pa
from safetensors.torch import save_file

from lit_prompt.data import run_folder
from lit_prompt.files import replaced_whole
from lit_prompt.models import PromptModule
from lit_prompt.results.comparisons import comparisons
from lit_prompt.results.console import console, print_comparisons, print_results, print_top_tokens
from lit_prompt.results.figures import kl_against_entropy
from lit_prompt.results.prompts_shown import print_prompts
from lit_prompt.results.record import TOKEN_SCHEMA, Columns, free_path, result_table, write_parquet


class ResultWriter(L.Callback):
    """Writes, prints and draws what an evaluation found.

    ``test`` writes ``results.parquet``, ``prompts.safetensors`` and a picture into the run's folder and prints a table;
    ``validate`` prints the table alone; ``predict`` writes and prints the reached top tokens.
    """

    def __init__(self) -> None:
        self._columns: list[Columns] = []
        self._records: list[dict[str, Any]] = []

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Forgets an earlier evaluation."""
        self._columns, self._records = [], []

    def on_validation_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        """Collects records."""
        self._columns.append(outputs)

    def on_test_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        """Collects records."""
        self._columns.append(outputs)

    def on_predict_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        """Collects token records."""
        self._records.extend(outputs)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Prints the table."""
        if self._columns:
            print_results(result_table(self._columns))

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Writes results, prompts and the picture; prints the table and the paths."""
        assert isinstance(pl_module, PromptModule)
        table = result_table(self._columns)
        print_results(table)
        print_prompts(table)
        print_comparisons(comparisons(table))
        folder = run_folder(trainer)
        if folder is None:
            return
        folder.mkdir(parents=True, exist_ok=True)
        results = write_parquet(table, free_path(folder, "results.parquet"))
        prompts = free_path(folder, "prompts.safetensors")
        _save_prompts(pl_module, table, [r for part in self._columns for r in part["best_restart"]], prompts)
        picture = free_path(folder, "kl_vs_entropy.png")
        kl_against_entropy(table, f"{pl_module.method} prompts, {Path(pl_module.lm_path).name}").savefig(picture)
        console.print(f"results   {results}\nprompts   {prompts}\npicture   {picture}", soft_wrap=True)
        if not (folder / "config.yaml").exists():
            return  # a checkpoint that was tested outside its run
        console.print(
            f"\nNext:\n  lit_prompt predict --run {folder}    # target and reached probability of the top tokens"
            f"\n  lit_prompt report {folder} --out {folder / 'report'}    # figures and findings on one page"
            f"\n  tensorboard --logdir {folder.parent.parent}",
            soft_wrap=True,
        )

    def on_predict_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Writes and prints the token records."""
        print_top_tokens(self._records)
        if (folder := run_folder(trainer)) is not None:
            folder.mkdir(parents=True, exist_ok=True)
            path = free_path(folder, "predictions.parquet")
            write_parquet(pa.Table.from_pylist(self._records, schema=TOKEN_SCHEMA), path)
            console.print(f"predictions   {path}", soft_wrap=True)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Says what to do next."""
        if (folder := run_folder(trainer)) is not None:
            console.print(f"\nsearched; evaluate with\n  lit_prompt test --run {folder}", soft_wrap=True)


def _save_prompts(module: PromptModule, table: pa.Table, best_restart: list[int], path: Path) -> None:
    """Saves each target's best prompt under its id, with what it belongs to.

    An embedding prompt is float32 ``[length, embedding]``, a token prompt int64 ``[length]``.
    """
    prompts = {
        target_id: module.results.prompts[i, restart].contiguous()
        for i, (target_id, restart, kl) in enumerate(
            zip(table["target_id"].to_pylist(), best_restart, table["kl"].to_pylist(), strict=True)
        )
        if kl is not None
    }
    about = {
        "method": module.method,
        "lm": module.lm_path,
        "lm_fingerprint": module.lm.fingerprint,
        "before": module.before,
        "after": module.after,
        "settings": json.dumps(module.settings()),
    }
    with replaced_whole(path) as staging:
        save_file(prompts, staging, metadata=about)
