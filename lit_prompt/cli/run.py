"""What the commands that run a trainer have in common: run folders, saved settings, checkpoints."""

import argparse
import logging
import re
import shutil
import warnings
import zipfile
from pathlib import Path
from typing import Any

import lightning as L
import yaml
from jsonargparse import Namespace
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import TensorBoardLogger

from lit_prompt.callbacks.checkpoint import SearchCheckpoint, how_to_go_on
from lit_prompt.cli.arguments import CONFIG_FILE, RunArguments
from lit_prompt.cli.mistakes import explain
from lit_prompt.data.datamodule import run_folder
from lit_prompt.errors import InputError
from lit_prompt.files import replaced_whole
from lit_prompt.interruption import Interrupted


class SettingsParser(LightningArgumentParser):
    """A parser whose help leaves the trainer's forty arguments to Lightning's own page, and shows no reST marks."""

    def format_help(self, *args: Any, **kwargs: Any) -> str:
        """What ``--help`` prints, which is all that the parser is good for then."""
        for action in self._actions:
            if action.dest.startswith("trainer."):
                action.help = argparse.SUPPRESS
        return re.sub(r"(?::\w+:)?`+([^`]+)`+", r"\1", super().format_help(*args, **kwargs))


class SaveConfig(SaveConfigCallback):
    """Writes ``config.yaml`` into a new run's folder and shows it in TensorBoard; a resumed run keeps its own."""

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Saves the resolved configuration of a fit."""
        folder = run_folder(trainer)
        if stage != "fit" or folder is None:
            return
        path = folder / CONFIG_FILE
        if not path.exists():
            self.parser.save(self.config, path, skip_none=False, overwrite=False, multifile=False)
        if isinstance(trainer.logger, TensorBoardLogger):
            trainer.logger.experiment.add_text("config", f"```yaml\n{path.read_text()}\n```")

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Lets a run that is extended keep its new number of steps."""
        folder = run_folder(trainer)
        if getattr(pl_module, "extended_from", 0) and folder is not None:
            settings = yaml.safe_load((folder / CONFIG_FILE).read_text(encoding="utf-8"))
            settings["model"]["init_args"]["steps"] = pl_module.steps
            with replaced_whole(folder / CONFIG_FILE) as staging:
                staging.write_text(yaml.safe_dump(settings, sort_keys=False, allow_unicode=True), encoding="utf-8")


class RunCLI(LightningCLI):
    """A LightningCLI whose runs keep a folder in ``logs`` and whose mistakes are one line.

    It runs one of :attr:`commands`; without a command it makes the data module alone.
    """

    commands: tuple[str, ...]
    #: First line, and beginning of the last lines, of the help.
    usage: str
    epilog: str
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
        self._run_folder, self._name = arguments.run_folder, arguments.name
        super().__init__(
            model_class,
            data_class,
            save_config_callback=SaveConfig,
            seed_everything_default=False,
            trainer_defaults={"devices": 1, "enable_model_summary": False, "num_sanity_val_steps": 0}
            | trainer_defaults,
            auto_configure_optimizers=False,
            parser_class=SettingsParser,
            parser_kwargs={"exit_on_error": False},
            args=[*([command] if command else []), *self.first_options, *arguments.options],
            run=command is not None,
            **kwargs,
        )

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
            "settings and checkpoint from a run's folder."
        )
        parser.add_lightning_class_args(self._model_class, "model", subclass_mode=self.subclass_mode_model)
        parser.add_lightning_class_args(self._datamodule_class, "data")
        parser.add_lightning_class_args(self.trainer_class, "trainer")
        parser.set_defaults({f"trainer.{k}": v for k, v in self.trainer_defaults.items() if k != "callbacks"})

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds ``--checkpoint``."""
        parser.add_lightning_class_args(SearchCheckpoint, "checkpoint")

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parses; a mistake is told in one line."""
        assert isinstance(args, list)
        command = args[0] if args[0] in self.commands else None
        try:
            super().parse_arguments(parser, args)
        except argparse.ArgumentError as error:
            raise InputError(explain(str(error), self._parser(command))) from error
        if command is not None:
            _check_checkpoint(command, self.config[command].get("ckpt_path"))

    def instantiate_classes(self) -> None:
        """Makes data module, module and trainer; without a command the data module alone."""
        if self.subcommand is None:
            self.datamodule = self.parser.instantiate_classes(Namespace(data=self.config.data)).data
        else:
            super().instantiate_classes()

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        """Logs to ``logs/<config>/version_k``, or to the folder of a run that is resumed, whatever logger began it."""
        given = self._get(self.config_init, "trainer")
        logger = given.get("logger")
        if "logger" not in kwargs and (logger in (None, True) or (self._run_folder is not None and logger)):
            kwargs["logger"] = False if given.get("fast_dev_run") else _run_logger(self._run_folder, self._name)
        try:
            return super().instantiate_trainer(**kwargs)
        except (ValueError, TypeError, RuntimeError, MisconfigurationException) as error:
            raise InputError(f"trainer: {' '.join(str(error).split())}") from error

    def _run_subcommand(self, subcommand: str) -> None:
        """Runs the trainer; a new run that is refused before its settings are saved leaves no folder."""
        try:
            super()._run_subcommand(subcommand)
        except MisconfigurationException as error:
            raise InputError(f"trainer: {' '.join(str(error).split())}") from error
        except (InputError, Interrupted) as stop:
            if isinstance(stop, Interrupted) and subcommand == "fit":
                stop.advice = how_to_go_on(self.trainer, getattr(self.model, "command", "fit"))
            folder = run_folder(self.trainer)
            if self._run_folder is None and folder is not None:
                _remove_if_empty(folder)
            raise


def _run_logger(folder: Path | None, name: str) -> TensorBoardLogger:
    """The logger of a run that is resumed or evaluated in its folder, or of a new one."""
    root, version = Path("logs"), None
    if folder is not None:
        folder = folder if len(folder.parts) > 2 else folder.resolve()
        root, name, version = folder.parents[1], folder.parent.name, folder.name
    logger = TensorBoardLogger(root, name, version, default_hp_metric=False)
    try:
        Path(logger.log_dir).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        problem = f"the run's folder cannot be written ({error.strerror}); free the path or set trainer.logger"
        raise InputError(f"{logger.log_dir}: {problem}") from error
    return logger


def _remove_if_empty(folder: Path) -> None:
    """Removes a run's folder that holds TensorBoard's events alone."""
    if folder.is_dir() and all(file.name.startswith("events.out.tfevents.") for file in folder.iterdir()):
        shutil.rmtree(folder)


def _check_checkpoint(command: str, path: Any) -> None:
    if path is None:
        if command != "fit":
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
        ".*dataloader's?.*not resumable.*",  # every batch of an epoch is the same
        ".*this fit will run with no optimizer.*",  # hard prompts have none
        ".*LightningCLI's args parameter.*",
        ".*LeafSpec.*",  # Lightning 2.6 with a newer torch
        ".*Total length of `list` across ranks is zero.*",  # a fit validates at its end, not in between
    ):
        warnings.filterwarnings("ignore", message=message)
