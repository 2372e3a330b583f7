"""Writes, prints and draws what an evaluation found."""

import shlex
from functools import partial
from operator import itemgetter
from pathlib import Path

import lightning as L
import pyarrow as pa

from lit_prompt.callbacks.prompt_files import PromptFiles
from lit_prompt.data.run_folder import checkpoint_run, run_folder, run_option
from lit_prompt.files import add_file, add_together, newest
from lit_prompt.models import PromptModule
from lit_prompt.models.pasted import PastedTexts
from lit_prompt.records.predictions import PREDICTIONS
from lit_prompt.records.results import RESULTS, Columns, method_label, read_results, result_table, with_prompts
from lit_prompt.records.tasks import TASKS, has_tasks, task_table
from lit_prompt.results.comparisons import comparisons
from lit_prompt.results.console import print_table, say
from lit_prompt.results.figures import kl_against_entropy, target_against_reached
from lit_prompt.results.picture import save_picture
from lit_prompt.results.results_shown import (
    print_comparisons,
    print_prompts,
    print_results,
    print_sampled,
    print_served,
    print_unfinished,
)
from lit_prompt.results.rows import Row, grouped
from lit_prompt.results.task_tables import marked
from lit_prompt.results.text import nats
from lit_prompt.results.tokens_shown import print_top_tokens
from lit_prompt.results.transfer import side_by_side


class ResultWriter(L.Callback):
    """Writes, prints and draws what an evaluation found.

    When a search ends, ``fit`` writes the prompts, before anything else: ``prompts.safetensors`` and, of those that are
    tokens, ``prompts.jsonl`` with their texts. ``test`` writes ``results.parquet`` and pictures into the run's folder
    (those of another LM into a folder of their own there) and prints a table; ``validate`` prints the table alone;
    ``predict`` writes and prints the reached top tokens.
    """

    def __init__(self) -> None:
        self._written: list[Path] = []

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Writes the prompts."""
        assert isinstance(pl_module, PromptModule)
        if (folder := run_folder(trainer)) is not None and pl_module.ends_run:
            found = PromptFiles(pl_module, pl_module.results.best_restart.tolist())
            self._written = found.known(folder) or add_together(folder, found.writers())

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Prints the table."""
        assert isinstance(pl_module, PromptModule)
        if pl_module.evaluated:
            table = result_table(pl_module.evaluated)
            print_results(table, pl_module.data.served is not None)
            print_served(table)
            print_unfinished(table, checkpoint_run(trainer))

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Writes results, prompts and the picture; prints the table and the paths."""
        assert isinstance(pl_module, PromptModule)
        if not trainer.is_global_zero:
            return
        table = result_table(pl_module.evaluated)
        print_results(table, pl_module.data.served is not None)
        print_served(table)
        print_sampled(table, _token_records(pl_module.evaluated))
        print_prompts(table)
        print_comparisons(comparisons(table))
        print_unfinished(table, checkpoint_run(trainer))
        if (run := run_folder(trainer)) is not None:
            self._write(pl_module, table, _folder(pl_module, run))
            if (run / "config.yaml").exists():  # else it is a checkpoint that was tested outside its run
                option = run_option(trainer, run)
                if _tells_kls(table):
                    _say_next(run, option, None if pl_module.pasted is None else table)
                elif pl_module.data.served is not None:
                    say("", "For the KLs set listed of lm higher, or test on the LM's weights, where you have them:")
                    say(f"  lit_prompt test {option} --lm model.gguf")

    def _write(self, module: PromptModule, table: pa.Table, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        found = _evaluated(module)
        table = with_prompts(table, found.checksum)
        known = found.known(folder) if isinstance(found, PromptFiles) else []
        new = found.writers() if isinstance(found, PromptFiles) and not known else {}
        if has_tasks(table.to_pylist()):
            new["tasks.parquet"] = partial(TASKS.write, with_prompts(task_table(table), found.checksum))
        # results never appear without the prompts that they are of
        *others, results = add_together(folder, {**new, "results.parquet": partial(RESULTS.write, table)})
        prompts = [path for path in others if not path.name.startswith("tasks")]
        say(f"results   {results}", *(f"tasks     {path}" for path in others[len(prompts) :]))
        say(*(f"prompts   {path}" for path in (prompts or known)[:1]))
        if not _tells_kls(table):
            return
        title = f"{method_label(module.method)} prompts, {Path(module.lm_path).name}"
        picture = kl_against_entropy({title: grouped(marked(table.to_pylist()), itemgetter("family"))})
        say(f"picture   {add_file(folder, 'kl_vs_entropy.png', partial(save_picture, picture))}")
        if few := _token_records(module.evaluated):
            bars = target_against_reached(few)
            say(f"bars      {add_file(folder, 'target_against_reached.png', partial(save_picture, bars))}")

    def on_predict_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Writes and prints the token records."""
        assert isinstance(pl_module, PromptModule)
        if not trainer.is_global_zero:
            return
        records: list[Row] = [row for batch in pl_module.evaluated for row in batch]
        print_top_tokens(records)
        if not records and pl_module.data.served is not None:
            say("No KL is known, as the server does not list all answers; lit_prompt test tells bounds below.")
        if (run := run_folder(trainer)) is not None:
            folder = _folder(pl_module, run)
            folder.mkdir(parents=True, exist_ok=True)
            table = with_prompts(PREDICTIONS.table(records), _evaluated(pl_module).checksum)
            write = partial(PREDICTIONS.write, table)
            say(f"predictions   {add_file(folder, 'predictions.parquet', write)}")

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Says what to do next."""
        assert isinstance(pl_module, PromptModule)
        if (folder := run_folder(trainer)) is None:
            return
        option, every = run_option(trainer, folder), pl_module.data.num_chunks
        if not pl_module.ends_run:  # another process does so, now or when it has searched what it holds
            left = pl_module.chunks.left
            others = f"all but {left} of {every} chunks, which other processes hold; when they have ended:"
            say("", f"searched {others}" if left else "searched; evaluate with", f"  lit_prompt test {option}")
            return
        if not self._written:  # the search had ended before, and its process too soon after it; it does not end again
            self.on_train_end(trainer, pl_module)
        say("", *(f"prompts   {path}" for path in self._written))
        say("searched; evaluate with", f"  lit_prompt test {option}")
        if (wanted := pl_module.chunks.wanted) < every:
            things = "tasks" if pl_module.data.targets.has_tasks else "targets"
            found, of = int(pl_module.results.searched.sum()), len(pl_module.data.targets.task_ids)
            say(f"{found} of {of} {things}, as trainer.max_epochs is {wanted}; go on to the others with")
            say(f"  lit_prompt fit {option} --trainer.max_epochs -1")


def _evaluated(module: PromptModule) -> PromptFiles | PastedTexts:
    """The prompts that a module has evaluated."""
    return module.pasted or PromptFiles(module, module.evaluator.chosen)


def _folder(module: PromptModule, run: Path) -> Path:
    """Where results go."""
    return run if module.pasted is None else run / module.pasted.folder(module.lm_path)


def _say_next(run: Path, option: str, on_other: pa.Table | None) -> None:
    """Says what to do after a test; after one ``on_other`` LM both KLs stand side by side.

    ``option`` names the run for a command.
    """
    own = newest(run, "results.parquet")
    if on_other is not None and own is None:
        say("", "For both KLs side by side test the run on its own LM, too:", f"  lit_prompt test {option}")
        return
    if on_other is not None and own is not None:
        print_table(side_by_side(read_results(own, run).to_pylist(), on_other.to_pylist()))
    say("", "Next:")
    if on_other is None:
        say(f"  lit_prompt predict {option}    # target and reached probability of the top tokens")
    say(f"  lit_prompt report {_quoted(run)} --out {_quoted(run / 'report')}    # figures and findings")
    if on_other is None:
        say(f"  tensorboard --logdir {_quoted(run.parent.parent)}")


def _quoted(path: Path) -> str:
    """A path as a shell takes it."""
    return shlex.quote(str(path))


def _token_records(columns: list[Columns]) -> dict[str, list[Row]]:
    """Token records of few targets, by a title that names target and KL; none where the targets are many."""
    found = [records for part in columns for records in part.get("tokens", []) if records]
    return {f"{records[0]['target_id']}: KL {nats(records[0]['kl'])}": records for records in found}


def _tells_kls(table: pa.Table) -> bool:
    """Whether any KL is known."""
    return bool(table["kl"].null_count < len(table))
