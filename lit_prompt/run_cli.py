"""What the commands that run a trainer have in common: run folders, saved settings, checkpoints, a short help."""

import argparse
import zipfile
from pathlib import Path
from typing import Any

import lightning as L
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import TensorBoardLogger

from lit_prompt.callbacks.checkpoint import SearchCheckpoint
from lit_prompt.data import run_folder
from lit_prompt.errors import InputError
from lit_prompt.parser_errors import explain

CONFIG_FILE = "config.yaml"


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


class RunCLI(LightningCLI):
    """A LightningCLI whose runs keep a folder in ``logs`` and whose mistakes are one line.

    Args:
        model_class: the module, or its base class.
        data_class: the data module.
        args: subcommand and options, after :func:`lit_prompt.main.expand_run`.
        run_folder: folder of the run that is resumed or evaluated; None for a new run.
        name: name of a new run's folder in ``logs``.
        trainer_defaults: Lightning's, beside those that all runs have.
        **kwargs: of LightningCLI.

    Attributes:
        commands: the subcommands.
        groups: groups of keys and the classes whose parameters they are.
        usage: first line of the help.
        epilog: beginning of the last lines of the help.
    """

    commands: tuple[str, ...]
    groups: dict[str, type]
    usage: str
    epilog: str

    def __init__(
        self,
        model_class: type[L.LightningModule],
        data_class: type[L.LightningDataModule],
        args: ArgsType,
        run_folder: Path | None,
        name: str,
        trainer_defaults: dict[str, Any],
        **kwargs: Any,
    ) -> None:
        self._run_folder = run_folder
        self._name = name
        strict: dict[str, Any] = {"exit_on_error": False}
        common = {"devices": 1, "enable_model_summary": False, "num_sanity_val_steps": 0}
        try:
            super().__init__(
                model_class,
                data_class,
                save_config_callback=SaveConfig,
                seed_everything_default=False,
                trainer_defaults=common | trainer_defaults,
                auto_configure_optimizers=False,
                parser_kwargs={**strict, **{command: {**strict} for command in self.commands}},
                args=args,
                **kwargs,
            )
        except argparse.ArgumentError as error:
            raise InputError(explain(str(error), self.groups)) from error

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
        """Parses, with a help that shows what a run needs."""
        # only while help is asked for: what is suppressed is left out of a saved config too
        asked = isinstance(args, list) and ("--help" in args or "-h" in args)
        for command in self._subcommand_parsers.values() if asked else ():
            for action in command._actions:
                if action.dest.startswith("trainer."):
                    action.help = argparse.SUPPRESS
                elif action.dest == "ckpt_path":
                    action.help = "checkpoint to go on with, or to evaluate; --run FOLDER finds it by itself"
        super().parse_arguments(parser, args)
        _check_checkpoint(self.config[self.config.subcommand].get("ckpt_path"), self.config.subcommand)

    def instantiate_classes(self) -> None:
        """Makes what the config names; a mistake that a class finds in its settings is told as it says it."""
        try:
            super().instantiate_classes()
        except ValueError as error:
            # the parser tries every type that a key takes, and wraps what each says
            cause: BaseException | None = error
            while cause is not None:
                if isinstance(cause, InputError):
                    raise cause from None
                cause = cause.__cause__
            raise

    def fit(self, **kwargs: Any) -> None:
        """Runs the trainer's fit; a new run that is refused before it has computed anything leaves no folder."""
        try:
            self.run("fit", **kwargs)
        except InputError:
            if self._run_folder is None and isinstance(self.trainer.logger, TensorBoardLogger):
                _remove_if_empty(Path(self.trainer.logger.log_dir))
            raise

    def run(self, command: str, **kwargs: Any) -> None:
        """Calls the trainer.

        Raises:
            InputError: if its settings contradict one another.
        """
        try:
            getattr(self.trainer, command)(**kwargs)
        except MisconfigurationException as error:
            raise InputError(f"trainer: {' '.join(str(error).split())}") from error

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        """Logs to ``logs/<config>/version_k``, or to the folder of the run that is gone on with."""
        given = self._get(self.config_init, "trainer")
        if "logger" not in kwargs and (
            given.get("logger") in (None, True) or (self._run_folder is not None and given.get("logger"))
        ):
            # a run that is gone on with stays in its folder, whatever logger began it
            kwargs["logger"] = False if given.get("fast_dev_run") else _run_logger(self._run_folder, self._name)
        try:
            return super().instantiate_trainer(**kwargs)
        except (ValueError, TypeError, RuntimeError, MisconfigurationException) as error:
            raise InputError(f"trainer: {' '.join(str(error).split())}") from error


def _run_logger(run_folder: Path | None, name: str) -> TensorBoardLogger:
    """The logger of a new run, ``logs/<name>/version_k``, or of the run that is gone on with.

    Raises:
        InputError: if its folder cannot be written.
    """
    if run_folder is None:
        logger = TensorBoardLogger("logs", name=name, default_hp_metric=False)
    else:
        run = run_folder.resolve()
        shown = run_folder if len(run_folder.parts) > 2 else run
        logger = TensorBoardLogger(
            str(shown.parent.parent), name=shown.parent.name, version=shown.name, default_hp_metric=False
        )
    try:
        Path(logger.log_dir).mkdir(parents=True, exist_ok=True)
        probe = Path(logger.log_dir) / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(
            f"{logger.log_dir}: the run's folder cannot be written ({error.strerror}); free the path or set "
            "trainer.logger"
        ) from error
    return logger


def _remove_if_empty(folder: Path) -> None:
    """Removes a run's folder that holds TensorBoard's events alone."""
    if not folder.is_dir():
        return
    files = list(folder.iterdir())
    if all(file.name.startswith("events.out.tfevents.") for file in files):
        for file in files:
            file.unlink()
        folder.rmdir()


def _check_checkpoint(path: Any, subcommand: str) -> None:
    if path is None:
        if subcommand == "fit":
            return
        raise InputError(
            f"{subcommand} needs what a fit has found: name its run with --run logs/NAME/version_K, or a checkpoint "
            "with --ckpt_path"
        )
    if not Path(path).is_file():
        raise InputError(f"--ckpt_path: no checkpoint {path}")
    try:
        whole = zipfile.is_zipfile(path)
    except OSError:  # what is left of the file's end points before its start
        whole = False
    if not whole:
        raise InputError(f"--ckpt_path: {path} is truncated or no checkpoint; take another one or search again")
