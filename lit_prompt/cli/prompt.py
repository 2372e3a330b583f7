"""The command line of the search: the LM as an option of its own, and targets from the run's folder."""

import logging
import os
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.cli import LightningArgumentParser

from lit_prompt.callbacks.checkpoint import SearchCheckpoint
from lit_prompt.callbacks.curves import KLCurves
from lit_prompt.callbacks.opening import Opening
from lit_prompt.callbacks.progress import ChunkProgressBar
from lit_prompt.callbacks.prompt_table import PromptTable
from lit_prompt.callbacks.results import ResultWriter
from lit_prompt.callbacks.tensorboard import TensorBoardReport
from lit_prompt.cli.arguments import RunArguments
from lit_prompt.cli.other_lm import pasted_texts
from lit_prompt.cli.run import RunCLI
from lit_prompt.cli.settings_parser import SettingsParser
from lit_prompt.data.datamodule import TargetDataModule
from lit_prompt.embedded import embedded
from lit_prompt.errors import InputError
from lit_prompt.launch import STRATEGY
from lit_prompt.lm import DEFAULT_LM, LMOptions, Sampling
from lit_prompt.models import PromptModule, TextPrompt
from lit_prompt.models.checks import refuse_coupled_devices, refuse_served
from lit_prompt.models.cost import expected_cost
from lit_prompt.models.evaluation_options import EvaluationOptions
from lit_prompt.models.floors import FloorOptions
from lit_prompt.models.known import KnownOptions
from lit_prompt.models.record_columns import TOP_K
from lit_prompt.results.console import say
from lit_prompt.served.served import Served, lm_name

_log = logging.getLogger(__name__)

#: Lightning's own table of every metric of every group is not shown; predictions go to a file, not back to the caller.
_RUN_KWARGS = {"validate": {"verbose": False}, "test": {"verbose": False}, "predict": {"return_predictions": False}}


def _takes_several(trainer: Any) -> bool:
    """Whether a trainer's settings may mean several processes."""
    return str(trainer.get("devices")) not in ("1", "None") or trainer.get("num_nodes") not in (1, None)


class PromptCLI(RunCLI):
    """Runs fit, validate, test and predict; without a command it has a config's data module alone."""

    datamodule: TargetDataModule
    checkpoint = SearchCheckpoint

    commands = {
        "fit": "Searches prompts for the targets of a config and keeps them in a new folder, logs/CONFIG/version_K. "
        "With --run FOLDER it goes on with a search that was interrupted.",
        "validate": "Recomputes every number of every target of a run from its saved prompts and prints the table. "
        "Writes nothing.",
        "test": "Recomputes every number of every target of a run from its saved prompts, prints the table, and writes "
        "results.parquet, prompts.safetensors and kl_vs_entropy.png into the run's folder. LM, targets and settings "
        "are the run's own. With --lm OTHER the texts of hard prompts are tested on another LM; what is found there "
        "gets a folder of its own in the run's.",
        "predict": f"Prints and writes (predictions.parquet), for every target of a run, the {TOP_K} likeliest tokens "
        "of the target, those that its prompt makes likeliest, and those with most missing or excess mass, with their "
        "probabilities in both. LM, targets and settings are the run's own.",
    }
    usage = "lit_prompt COMMAND [--config FILE] [--run FOLDER] [--lm NAME_OR_PATH] [--KEY VALUE ...]"
    epilog = (
        "The model is a SoftPrompt unless another one is named. Keys of a class: --model.help SoftPrompt, "
        "--data.families.help EntropyMatched, --model HardPrompt --model.searcher.help GCG."
    )
    first_options = ("--model=SoftPrompt",)  # as the parser's default, it would leave its settings to another model

    def __init__(self, command: str | None, arguments: RunArguments) -> None:
        callbacks = [Opening(), ResultWriter(), KLCurves(), PromptTable(), TensorBoardReport()]
        defaults = {"max_epochs": -1, "log_every_n_steps": 1, "callbacks": callbacks}
        super().__init__(PromptModule, TargetDataModule, command, arguments, defaults, subclass_mode_model=True)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds ``--lm`` and ``--lm_options``, of which the data module is the owner, and those of floors and cache."""
        parser.add_argument(
            "--lm",
            type=str | Served,
            default=embedded(DEFAULT_LM),
            help="hub id, folder or GGUF file of the LM, or a server's address",
        )
        parser.add_class_arguments(LMOptions, "lm_options")
        parser.add_argument("--floors", type=bool, default=True, help="whether floors that are not known are solved")
        seconds = FloorOptions.seconds
        parser.add_argument(
            "--floor_seconds", type=float | None, default=seconds, help="that may take; then what is certified is shown"
        )
        about = "whether texts and states of the LM are kept for later runs (logs/cache), and taken from earlier ones"
        parser.add_argument("--cache", type=bool, default=True, help=about)
        parser.add_class_arguments(Sampling, "sampling", fail_untyped=True)
        parser.add_argument("--draws", type=int, default=0, help="outcomes that test draws for each target, and counts")
        about = "a prompt that asks for a target in words, to compare with; {odds} stands for answers and percentages"
        parser.add_argument("--asking", type=str | None, default=None, help=about)
        about = "threads of a process, which a run keeps, as its rounding depends on them (as many as torch takes)"
        parser.add_argument("--threads", type=int | None, default=None, help=about)
        about = "evaluates a served LM by the answers that are kept"
        parser.add_argument("--offline", type=bool, default=False, help=about)
        about = "tells what a fit on a served LM would cost"
        parser.add_argument("--dry_run", type=bool, default=False, help=about)
        super().add_arguments_to_parser(parser)
        parser.link_arguments("lm", "data.lm")
        parser.link_arguments("lm_options", "data.lm_options")

    def _prepare_subcommand_parser(self, klass: type, subcommand: str, **kwargs: Any) -> LightningArgumentParser:
        parser = super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        assert isinstance(parser, SettingsParser)
        parser.hidden += ("data.lm", "offline") if subcommand == "fit" else ("dry_run",)
        return parser

    def before_instantiate_classes(self) -> None:
        """Says which LM is used, and gives a run that is resumed or evaluated the targets in its folder."""
        if self.subcommand is not None:
            settings = self.config[self.subcommand]
            if settings.threads is None:
                settings.threads = torch.get_num_threads()
            if settings.threads < 1:
                raise InputError(f"--threads is {settings.threads}; it must be at least 1")
            torch.set_num_threads(settings.threads)
            say(f"LM        {lm_name(self.config[self.subcommand].lm)}")
        if self._run_folder is not None and (self._run_folder / "targets").is_dir():
            self.config[self.subcommand].data.load = str(self._run_folder / "targets")

    def instantiate_classes(self) -> None:
        """Tells the module what to ask of earlier runs."""
        super().instantiate_classes()
        if self.subcommand is not None:
            solve, seconds, cache = (self._get(self.config_init, key) for key in ("floors", "floor_seconds", "cache"))
            self.model.known_options = KnownOptions(FloorOptions(solve, seconds), cache)
            told = (self._get(self.config_init, key) for key in ("sampling", "draws", "asking"))
            self.model.evaluation_options = EvaluationOptions(*told)
            for name in ("offline", "dry_run"):
                if self._get(self.config_init, name) and self.datamodule.served is None:
                    raise InputError(f"--{name} is for an LM that is only served, and {self.datamodule.lm} is at hand")
            if self.datamodule.served is not None:
                self.datamodule.served.offline = self._get(self.config_init, "offline")

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        """Adds the progress bar."""
        given = self._get(self.config_init, "trainer")
        if self.subcommand == "validate":
            kwargs["logger"] = False  # it writes nothing
        if _takes_several(given) and given.get("strategy") in (None, "auto"):
            kwargs["strategy"] = STRATEGY
        own_bar = any(isinstance(callback, ProgressBar) for callback in given.get("callbacks") or [])
        if given.get("enable_progress_bar") is not False and not own_bar:
            self.trainer_defaults["callbacks"].append(ChunkProgressBar())
        trainer = super().instantiate_trainer(**kwargs)
        refuse_coupled_devices(trainer)  # before Lightning launches a process for each
        several = f", {trainer.world_size} processes" if trainer.world_size > 1 else ""
        say(f"device    {trainer.strategy.root_device}{several}")
        self._tell_of_too_many_threads(trainer)
        return trainer

    @property
    def _keeps_nothing(self) -> bool:
        return bool(self._get(self.config_init, "dry_run")) or super()._keeps_nothing

    def _tell_of_too_many_threads(self, trainer: L.Trainer) -> None:
        processes, threads = getattr(trainer.strategy, "num_processes", 1), torch.get_num_threads()
        cores = os.cpu_count() or 1
        if processes > 1 and processes * threads > cores and trainer.is_global_zero:
            _log.warning(
                "%d processes of %d threads share %d cores: --threads %d would be faster; its results are the same "
                "whatever the number of processes, but rounded otherwise than with %d threads",
                processes, threads, cores, max(1, cores // processes), threads,
            )  # fmt: skip

    def _run_subcommand(self, subcommand: str) -> None:
        self.model.check(self.trainer, subcommand)  # before targets are built
        refuse_served(self.model, self.datamodule)
        if self._keeps_nothing and isinstance(self.model, TextPrompt):
            say(*expected_cost(self.model, self.datamodule))
            return
        super()._run_subcommand(subcommand)

    def before_test(self) -> None:
        """Puts the prompts' texts in place of what was searched, where another LM is named than the run's."""
        if self._run_folder is None:
            return
        device = self.trainer.strategy.root_device
        about = self.datamodule, self._run_folder, self._run_settings
        self.model.pasted = pasted_texts(self.model, *about, device)

    before_validate = before_predict = before_test

    def _prepare_subcommand_kwargs(self, subcommand: str) -> dict[str, Any]:
        others = {"ckpt_path": None} if self.model.pasted is not None else {}
        return super()._prepare_subcommand_kwargs(subcommand) | _RUN_KWARGS.get(subcommand, {}) | others
