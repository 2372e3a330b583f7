"""What the commands that run a trainer have in common: run folders, saved settings, checkpoints."""

import argparse
import contextlib
import logging
import os
import shutil
import warnings
import zipfile
from pathlib import Path
from typing import Any

import lightning as L
import torch
from jsonargparse import Namespace
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.plugins.io import TorchCheckpointIO

from lit_prompt.callbacks.checkpoint import RunCheckpoint, has_found, how_to_go_on
from lit_prompt.callbacks.checkpoint_io import WholeCheckpoints
from lit_prompt.cli.arguments import CONFIG_FILE, RunArguments
from lit_prompt.cli.classes import admit_modules, foreign_packages
from lit_prompt.cli.mistakes import explain, file_of, not_made
from lit_prompt.cli.settings_parser import SettingsParser
from lit_prompt.cli.trust import refuse_untrusted
from lit_prompt.cli.yaml_text import read_yaml, write_yaml
from lit_prompt.data.run_folder import RunFolder, claim_run_folder, is_joined, run_folder, shared_folder
from lit_prompt.errors import InputError, full_disk, is_full_disk, mistake_in, name_process
from lit_prompt.interruption import Interrupted
from lit_prompt.launch import agreed
from lit_prompt.models import PromptModule
from lit_prompt.progress import hide_progress
from lit_prompt.records.run_config import claim_config, write_config
from lit_prompt.results.console import console
from lit_prompt.under_way import opened, under_way


class SaveConfig(SaveConfigCallback):
    """Writes ``config.yaml`` into a new run's folder and shows it in TensorBoard; a resumed run keeps its own."""

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Saves the resolved configuration of a fit."""
        folder = run_folder(trainer)
        if stage != "fit" or folder is None:
            return
        path = folder / CONFIG_FILE
        config = self.config.clone()
        if isinstance(pl_module, PromptModule):
            config.data.shard = "1/1"  # the run's, not that of the process that comes first
        own = self.parser.dump(config, skip_none=False)
        if shared_folder(trainer) is not None:
            there = claim_config(path, own)
            if is_joined(trainer):
                _refuse_other_search(path, there, own)
            if (threads := read_yaml(there).get("threads")) is not None:
                torch.set_num_threads(threads)
        elif not path.exists():
            write_config(path, own)
        if isinstance(trainer.logger, TensorBoardLogger):
            trainer.logger.experiment.add_text("config", f"```yaml\n{path.read_text(encoding='utf-8')}\n```")

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Lets a run that is extended keep its new number of steps."""
        folder = run_folder(trainer)
        if isinstance(pl_module, PromptModule) and pl_module.chunks.former_steps and folder is not None:
            settings = read_yaml((folder / CONFIG_FILE).read_text(encoding="utf-8"))
            settings["model"]["init_args"]["steps"] = pl_module.steps
            write_config(folder / CONFIG_FILE, write_yaml(settings))


def _refuse_other_search(path: Path, there: str, own: str) -> None:
    """Refuses to join a run that searches otherwise.

    Raises:
        InputError: names a setting that differs.
    """
    theirs, ours = (read_yaml(text) for text in (there, own))
    for settings in (theirs, ours):
        settings["data"].pop("load", None)  # targets that are there by now
    for key in ("lm", "lm_options", "model", "data"):
        if theirs.get(key) != ours[key]:
            name, then, now = _difference(key, theirs.get(key), ours[key])
            raise InputError(
                f"--join: {path} says {name} = {then!r}, this process has {now!r}; give all that join a run the same "
                "settings, or join with none"
            )


def _difference(name: str, then: Any, now: Any) -> tuple[str, Any, Any]:
    """The first setting that differs, by its whole name."""
    if isinstance(then, dict) and isinstance(now, dict):
        for key in [*now, *then]:
            if then.get(key) != now.get(key):
                return _difference(f"{name}.{key}", then.get(key), now.get(key))
    return name, then, now


class RunCLI(LightningCLI):
    """A LightningCLI whose runs keep a folder in ``logs`` and whose mistakes are one line.

    It runs one of :attr:`commands`; without a command it makes the data module alone.

    Attributes:
        commands: what each command does, for its help.
    """

    commands: dict[str, str]
    #: First line, and beginning of the last lines, of the help.
    usage: str
    epilog: str
    #: What keeps a run under way.
    checkpoint: type[RunCheckpoint] = RunCheckpoint
    #: Options that are given before all others.
    first_options: tuple[str, ...] = ()

    def __init__(
        self,
        model_class: type[L.LightningModule],
        data_class: type[L.LightningDataModule],
        command: str | None,
        arguments: RunArguments,
        trainer_defaults: dict[str, Any],
        **kwargs: Any,
    ) -> None:
        quiet()
        if getattr(rank_zero_only, "rank", 0):  # of several processes the first says what there is to say
            hide_progress()
            console.quiet = True
        self._run_folder, self._name, self._joined = arguments.run_folder, arguments.name, arguments.joined
        self._run_settings = arguments.run_settings
        self._typed = arguments.typed
        admit_modules(arguments.modules)
        self._made: list[Path] = []  # a new run's folder, and those around it
        try:
            with contextlib.ExitStack() as self._opened:
                super().__init__(
                    model_class,
                    data_class,
                    save_config_callback=SaveConfig,
                    seed_everything_default=False,
                    trainer_defaults={"devices": 1, "enable_model_summary": False, "num_sanity_val_steps": 0}
                    | trainer_defaults,
                    auto_configure_optimizers=False,
                    parser_class=SettingsParser,
                    parser_kwargs={"exit_on_error": False}
                    | {name: {"description": description} for name, description in self.commands.items()},
                    args=[*([command] if command else []), *self.first_options, *arguments.options],
                    run=command is not None,
                    **kwargs,
                )
        except Interrupted as stop:
            if stop.advice is None:
                self._give_back()
            raise
        except InputError as error:
            self._give_back()
            if (path := file_of(str(error), arguments.configs, arguments.typed)) is None:
                raise
            raise InputError(f"{path}: {error}") from error

    @classmethod
    def subcommands(cls) -> dict[str, set[str]]:
        """The subcommands and the trainer's arguments that they hide."""
        known = LightningCLI.subcommands()
        return {command: known[command] | {"verbose", "return_predictions", "weights_only"} for command in cls.commands}

    def add_core_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Puts model and data before the trainer, whose forty arguments ``--help`` leaves to Lightning's own page."""
        parser.usage = self.usage
        parser.epilog = (
            f"{self.epilog} --trainer.KEY takes every argument of lightning.Trainer, such as --trainer.accelerator "
            "cpu; they are listed at https://lightning.ai/docs/pytorch/stable/common/trainer.html. --run FOLDER takes "
            "settings and checkpoint from a run's folder; --trust MODULE lets its config name classes of MODULE."
        )
        parser.add_lightning_class_args(self._model_class, "model", subclass_mode=self.subclass_mode_model)
        parser.add_lightning_class_args(self._datamodule_class, "data")
        parser.add_lightning_class_args(self.trainer_class, "trainer")
        parser.set_defaults({f"trainer.{k}": v for k, v in self.trainer_defaults.items() if k != "callbacks"})

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds ``--checkpoint`` and ``--logs``."""
        parser.add_lightning_class_args(self.checkpoint, "checkpoint")
        parser.add_argument(
            "--logs", type=Path | None, default=None, metavar="FOLDER",
            help="where runs keep their folders, FOLDER/CONFIG/version_K (trainer.default_root_dir, else logs)",
        )  # fmt: skip
        assert isinstance(parser, SettingsParser)
        parser.hidden = ("trainer",)

    def _prepare_subcommand_parser(self, klass: type, subcommand: str, **kwargs: Any) -> LightningArgumentParser:
        parser = super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        parser.usage = self.usage.replace("COMMAND", subcommand)
        for group in parser._action_groups:
            for action in group._group_actions:
                if action.dest == "ckpt_path":
                    action.help = "a checkpoint, in place of the one in the folder that --run names"
                    group.title = "Which checkpoint"
        if subcommand != "fit":  # the run has them
            assert isinstance(parser, SettingsParser)
            parser.hidden += ("model", "data", "checkpoint", "logs", "seed_everything")
            parser.epilog = (parser.epilog or "").removeprefix(self.epilog).strip()
        return parser

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parses; a mistake is told in one line."""
        assert isinstance(args, list)
        command = args[0] if args[0] in self.commands else None
        try:
            super().parse_arguments(parser, args)
        except argparse.ArgumentError as error:
            raise InputError(explain(str(error), self._parser(command))) from error
        if command is not None:
            _check_checkpoint(command, self.config[command].get("ckpt_path"), self._run_folder)
        settings = self.config if command is None else self.config[command]
        refuse_untrusted(settings.as_dict(), self._typed)

    def instantiate_classes(self) -> None:
        """Makes data module, module and trainer; without a command the data module alone."""
        if self.subcommand is None:
            self.datamodule = self.parser.instantiate_classes(Namespace(data=self.config.data)).data
        else:
            try:
                super().instantiate_classes()
            except ValueError as error:
                if (why := not_made(str(error))) is None or mistake_in(error) is not None:
                    raise
                raise InputError(why) from error

    @property
    def logs(self) -> Path:
        """Where runs keep their folders."""
        root = self._get(self.config, "trainer").get("default_root_dir")
        return Path(os.path.expanduser(self._get(self.config, "logs") or root or "logs"))

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        """Gives the run its folder: that of a run that is resumed or evaluated, or a new one in :attr:`logs`.

        Unless there is another logger or none, TensorBoard's writes there, too; in a run that has been begun it always
        does, as another one might begin its files anew.
        """
        given = self._get(self.config_init, "trainer")
        logger = kwargs.get("logger", given.get("logger"))
        own_logger = logger in (None, True)
        if own_logger:
            kwargs["logger"] = False  # until the folder is known
        run = RunFolder(None, foreign_packages(self.config.as_dict()))
        self.trainer_defaults["callbacks"].append(run)
        try:
            trainer = super().instantiate_trainer(**kwargs)
        except (ValueError, TypeError, RuntimeError, MisconfigurationException) as error:
            raise InputError(f"trainer: {' '.join(str(error).split())}") from error
        _refuse_others_unknown(trainer)
        trial = self._keeps_nothing
        several = trainer.world_size > 1
        told = agreed(trainer, lambda: self._made_known(trial, several and self.subcommand != "fit"))
        if trainer.global_rank:
            name_process(trainer.global_rank)
        run.path, run.parts = (None if told[name] is None else Path(told[name]) for name in ("run", "parts"))
        run.joined = self._joined is not None and self._run_folder is None
        run.shared = self.subcommand == "fit" and (several or self._joined is not None or not self._made)
        if run.path is None:
            self.trainer_defaults["callbacks"].remove(run)
            trainer.callbacks.remove(run)  # type: ignore[attr-defined]
        else:
            if self.subcommand != "validate":  # which writes nothing
                self._opened.enter_context(opened(run.path))
            if (self.subcommand != "validate" and own_logger) or (self._run_folder is not None and logger):
                trainer.logger = _logger_in(run.path)
        if type(trainer.strategy.checkpoint_io) is not TorchCheckpointIO:
            raise InputError(
                "trainer.plugins: checkpoints are written in one way, which no plugin replaces; leave it out"
            )
        trainer.strategy.checkpoint_io = WholeCheckpoints()
        return trainer

    @property
    def _keeps_nothing(self) -> bool:
        """Whether this is a trial, without a folder."""
        return bool(self._get(self._get(self.config_init, "trainer"), "fast_dev_run"))

    def _parse_ckpt_path(self) -> None:
        """Leaves the checkpoint to the trainer: it holds no hyperparameters, and is read once."""

    def _made_known(self, trial: bool, in_parts: bool) -> dict[str, Any]:
        """What all processes of this command are told by the first: the run's folder, and that for an evaluation."""
        folder = self._folder(trial)
        parts = self._opened.enter_context(under_way(folder)) if folder is not None and in_parts else None
        return {name: None if path is None else str(path) for name, path in (("run", folder), ("parts", parts))}

    def _folder(self, trial: bool) -> Path | None:
        """Folder of the run; None for one that keeps nothing."""
        if self._joined is not None and not trial:
            self._joined.mkdir(parents=True, exist_ok=True)
            return self._joined
        if trial or self._run_folder is not None or self.subcommand == "validate":
            return None if trial else self._run_folder
        runs = self.logs / self._name
        new = [folder for folder in (runs, self.logs) if not folder.exists()]
        try:
            self._made = [claim_run_folder(runs), *new]
        except OSError as error:
            why = f"the run's folder cannot be written ({error.strerror})"
            raise InputError(f"{runs}: {why}; free the path or name another with --logs") from error
        return self._made[0]

    def _run_subcommand(self, subcommand: str) -> None:
        try:
            super()._run_subcommand(subcommand)
        except MisconfigurationException as error:
            raise InputError(f"trainer: {' '.join(str(error).split())}") from error
        except Interrupted as stop:
            if subcommand == "fit":
                stop.advice = how_to_go_on(self.trainer, getattr(self.model, "command", "fit"))
            raise
        except Exception as error:
            folder = run_folder(self.trainer)
            if folder is None or isinstance(error, InputError) or not is_full_disk(error):
                raise
            raise InputError(f"{folder}: {full_disk(folder)}") from error  # TensorBoard's writer names no file

    def _give_back(self) -> None:
        """Removes the folders that were made for a new run, unless something was found already."""
        if not self._made or has_found(self._made[0]):
            return
        shutil.rmtree(self._made[0], ignore_errors=True)
        for folder in self._made[1:]:
            with contextlib.suppress(OSError):  # another run may be in it by now
                folder.rmdir()


def _logger_in(folder: Path) -> TensorBoardLogger:
    whole = folder if len(folder.parts) > 2 else folder.resolve()
    return TensorBoardLogger(whole.parents[1], whole.parent.name, whole.name, default_hp_metric=False)


def _refuse_others_unknown(trainer: L.Trainer) -> None:
    """Refuses to be one of several processes of a launcher that the trainer's settings do not know of."""
    for name, count in (("torchrun", "WORLD_SIZE"), ("SLURM", "SLURM_NTASKS")):
        environment = TorchElasticEnvironment if name == "torchrun" else SLURMEnvironment
        if environment.detect() and trainer.world_size != (every := int(os.environ.get(count, 1))):
            raise InputError(
                f"{name} has started {every} processes, and the trainer's settings are for {trainer.world_size}; set "
                "trainer.devices to the processes of a machine and trainer.num_nodes to the machines"
            )


def _check_checkpoint(command: str, path: Any, run: Path | None) -> None:
    if path is None:
        if command != "fit" and run is None:
            raise InputError(
                f"{command} needs what a fit has found: name its run with --run logs/NAME/version_K, or a checkpoint "
                "with --ckpt_path"
            )
    elif not Path(path).is_file():
        raise InputError(f"--ckpt_path: no checkpoint {path}")
    elif not zipfile.is_zipfile(path):
        raise InputError(f"--ckpt_path: {path} is truncated or no checkpoint; take another one or search again")


def quiet() -> None:
    """Silences what says nothing about the search."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in (
        ".*does not have many workers.*",  # the loader reads one memory-mapped chunk an epoch
        ".*in eval mode at the start of training.*",  # the LM is frozen
        ".*not resumable.*",  # every batch of an epoch is the same
        ".*available.* but not used.*",  # which device is used is said
        ".*this fit will run with no optimizer.*",  # hard prompts have none
        ".*LightningCLI's args parameter.*",
        ".*smaller than the logging interval.*",  # the curves have steps of their own
        ".*LeafSpec.*",  # Lightning 2.6 with a newer torch
        ".*Total length of `list` across ranks is zero.*",  # a fit validates at its end, not in between
    ):
        warnings.filterwarnings("ignore", message=message)
