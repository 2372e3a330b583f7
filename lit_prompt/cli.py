"""The command line: LightningCLI with one LM for model and data, run folders, and no evaluation of nothing."""

import argparse
import zipfile
from pathlib import Path
from typing import Any

import lightning as L
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import TensorBoardLogger

from lit_prompt.callbacks import ChunkProgressBar, KLCurves, ResultWriter, SearchCheckpoint, TensorBoardReport
from lit_prompt.data import TargetDataModule, families, run_folder
from lit_prompt.errors import InputError
from lit_prompt.lm import LMOptions
from lit_prompt.models import PromptModule, SoftPrompt, refuse_many_devices

#: Names that a config may use without their module.
SHORTHAND = [SoftPrompt, *(getattr(families, name) for name in families.__all__)]
SUBCOMMANDS = ("fit", "validate", "test", "predict")
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


class PromptCLI(LightningCLI):
    """Runs fit, validate, test and predict.

    Args:
        args: the command line's arguments, after :func:`lit_prompt.main.expand_run`.
        run_folder: folder of the run that is resumed or evaluated; None for a new run.
        name: name of a new run's folder in ``logs``.
    """

    def __init__(self, args: ArgsType, run_folder: Path | None, name: str) -> None:
        self._run_folder = run_folder
        self._name = name
        strict: dict[str, Any] = {"exit_on_error": False}
        super().__init__(
            PromptModule,
            TargetDataModule,
            save_config_callback=SaveConfig,
            seed_everything_default=False,
            trainer_defaults={
                "max_epochs": -1,
                "devices": 1,
                "enable_model_summary": False,
                "num_sanity_val_steps": 0,
                "log_every_n_steps": 1,
                "callbacks": [KLCurves(), ResultWriter(), TensorBoardReport()],
            },
            subclass_mode_model=True,
            auto_configure_optimizers=False,
            parser_kwargs={**strict, **{command: {**strict} for command in SUBCOMMANDS}},
            args=args,
        )

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """The four subcommands and the trainer's arguments that they hide."""
        known = LightningCLI.subcommands()
        return {command: known[command] | {"verbose", "return_predictions", "weights_only"} for command in SUBCOMMANDS}

    def add_core_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Puts model and data before the trainer, whose forty arguments ``--help`` leaves to Lightning's own page."""
        parser.usage = "lit_prompt COMMAND [--config FILE] [--run FOLDER] [--lm NAME_OR_PATH] [--KEY VALUE ...]"
        parser.epilog = (
            "Keys of a class: --model.help SoftPrompt, --data.families.help EntropyMatched. --trainer.KEY takes every "
            "argument of lightning.Trainer, such as --trainer.accelerator cpu; they are listed at "
            "https://lightning.ai/docs/pytorch/stable/common/trainer.html. --run FOLDER takes settings, targets and "
            "checkpoint from a run's folder."
        )
        parser.add_lightning_class_args(self._model_class, "model", subclass_mode=True)
        parser.add_lightning_class_args(self._datamodule_class, "data")
        parser.add_lightning_class_args(self.trainer_class, "trainer")
        parser.set_defaults({f"trainer.{k}": v for k, v in self.trainer_defaults.items() if k != "callbacks"})

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parses, with a help that shows what a search needs."""
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

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds ``--lm``, ``--lm_options`` and ``--checkpoint`` and links model and data to them."""
        parser.add_argument("--lm", type=str, default="data/lms/tales-llama", help="hub id or local folder of the LM")
        parser.add_class_arguments(LMOptions, "lm_options")
        parser.add_lightning_class_args(SearchCheckpoint, "checkpoint")
        for key in ("lm", "lm_options"):
            parser.link_arguments(key, f"model.init_args.{key}")
            parser.link_arguments(key, f"data.{key}")
        parser.link_arguments("model.init_args.steps", "data.steps")
        parser.set_defaults({"model": {"class_path": "lit_prompt.models.SoftPrompt"}})

    def before_instantiate_classes(self) -> None:
        """Gives a run that is gone on with the targets in its folder."""
        if self._run_folder is not None and (self._run_folder / "targets").is_dir():
            self.config[self.subcommand].data.load = str(self._run_folder / "targets")

    def fit(self, **kwargs: Any) -> None:
        """Searches prompts."""
        self._run("fit", **kwargs)

    def validate(self, **kwargs: Any) -> None:
        """Evaluates, without Lightning's own table of every metric of every group."""
        self._run("validate", verbose=False, **kwargs)

    def test(self, **kwargs: Any) -> None:
        """Evaluates and writes, without Lightning's own table of every metric of every group."""
        self._run("test", verbose=False, **kwargs)

    def predict(self, **kwargs: Any) -> None:
        """Shows what was reached; the records go to a file, not back to the caller."""
        self._run("predict", return_predictions=False, **kwargs)

    def _run(self, command: str, **kwargs: Any) -> None:
        try:
            getattr(self.trainer, command)(**kwargs)
        except MisconfigurationException as error:
            raise InputError(f"trainer: {' '.join(str(error).split())}") from error

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        """Logs to ``logs/<config>/version_k``, or to the folder of the run that is gone on with."""
        given = self._get(self.config_init, "trainer")
        if self.subcommand == "validate":
            kwargs["logger"] = False  # it writes nothing
        elif given.get("logger") in (None, True) or (self._run_folder is not None and given.get("logger")):
            # a run that is gone on with stays in its folder, whatever logger began it
            kwargs["logger"] = False if given.get("fast_dev_run") else self._logger()
        own_bar = any(isinstance(callback, ProgressBar) for callback in given.get("callbacks") or [])
        if given.get("enable_progress_bar") is not False and not own_bar:
            self.trainer_defaults["callbacks"].append(ChunkProgressBar())
        try:
            trainer = super().instantiate_trainer(**kwargs)
        except (ValueError, TypeError, RuntimeError, MisconfigurationException) as error:
            raise InputError(f"trainer: {' '.join(str(error).split())}") from error
        refuse_many_devices(trainer)  # before Lightning launches a process for each
        return trainer

    def _logger(self) -> TensorBoardLogger:
        if self._run_folder is None:
            logger = TensorBoardLogger("logs", name=self._name, default_hp_metric=False)
        else:
            run = self._run_folder.resolve()
            shown = self._run_folder if len(self._run_folder.parts) > 2 else run
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
