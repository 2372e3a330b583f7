"""The command line of the search: one LM for model and data, and targets from the run's folder."""

from pathlib import Path
from typing import Any

import lightning as L
import yaml
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.cli import ArgsType, LightningArgumentParser

from lit_prompt import objectives, search
from lit_prompt.callbacks.checkpoint import SearchCheckpoint
from lit_prompt.callbacks.curves import KLCurves
from lit_prompt.callbacks.progress import ChunkProgressBar
from lit_prompt.callbacks.prompt_table import PromptTable
from lit_prompt.callbacks.results import ResultWriter
from lit_prompt.callbacks.tensorboard import TensorBoardReport
from lit_prompt.data import TargetDataModule, families
from lit_prompt.lm import LMOptions
from lit_prompt.main import config_files
from lit_prompt.models import HardPrompt, PromptModule, SoftPrompt
from lit_prompt.models.trainer_checks import refuse_many_devices
from lit_prompt.run_cli import RunCLI

#: Names that a config may use without their module.
SHORTHAND = [
    SoftPrompt,
    HardPrompt,
    *search.SEARCHERS,
    *(getattr(objectives, name) for name in objectives.__all__),
    *(getattr(families, name) for name in families.__all__),
]


class PromptCLI(RunCLI):
    """Runs fit, validate, test and predict.

    Args:
        args: the command line's arguments, after :func:`lit_prompt.main.expand_run`.
        run_folder: folder of the run that is resumed or evaluated; None for a new run.
        name: name of a new run's folder in ``logs``.
    """

    commands = ("fit", "validate", "test", "predict")
    groups = {
        "model": SoftPrompt,
        "data": TargetDataModule,
        "trainer": L.Trainer,
        "lm_options": LMOptions,
        "checkpoint": SearchCheckpoint,
    }
    usage = "lit_prompt COMMAND [--config FILE] [--run FOLDER] [--lm NAME_OR_PATH] [--KEY VALUE ...]"
    epilog = (
        "Keys of a class: --model.help SoftPrompt, --data.families.help EntropyMatched, --model HardPrompt "
        "--model.searcher.help GCG."
    )

    def __init__(self, args: ArgsType, run_folder: Path | None, name: str) -> None:
        self._names_model = _names_model(args)
        defaults = {
            "max_epochs": -1,
            "log_every_n_steps": 1,
            "callbacks": [KLCurves(), PromptTable(), ResultWriter(), TensorBoardReport()],
        }
        super().__init__(PromptModule, TargetDataModule, args, run_folder, name, defaults, subclass_mode_model=True)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds ``--lm``, ``--lm_options`` and ``--checkpoint`` and links model and data to them."""
        parser.add_argument("--lm", type=str, default="data/lms/tales-llama", help="hub id or local folder of the LM")
        parser.add_class_arguments(LMOptions, "lm_options")
        super().add_arguments_to_parser(parser)
        for key in ("lm", "lm_options"):
            parser.link_arguments(key, f"model.init_args.{key}")
            parser.link_arguments(key, f"data.{key}")
        parser.link_arguments("model.init_args.steps", "data.steps")
        # where a config names another class, the settings of a default one would stay behind under the same names
        if not self._names_model:
            parser.set_defaults({"model": {"class_path": "lit_prompt.models.SoftPrompt"}})

    def before_instantiate_classes(self) -> None:
        """Gives a run that is gone on with the targets in its folder."""
        if self._run_folder is not None and (self._run_folder / "targets").is_dir():
            self.config[self.subcommand].data.load = str(self._run_folder / "targets")

    def validate(self, **kwargs: Any) -> None:
        """Evaluates, without Lightning's own table of every metric of every group."""
        self.run("validate", verbose=False, **kwargs)

    def test(self, **kwargs: Any) -> None:
        """Evaluates and writes, without Lightning's own table of every metric of every group."""
        self.run("test", verbose=False, **kwargs)

    def predict(self, **kwargs: Any) -> None:
        """Shows what was reached; the records go to a file, not back to the caller."""
        self.run("predict", return_predictions=False, **kwargs)

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        """Adds the progress bar; several devices are refused."""
        given = self._get(self.config_init, "trainer")
        if self.subcommand == "validate":
            kwargs["logger"] = False  # it writes nothing
        own_bar = any(isinstance(callback, ProgressBar) for callback in given.get("callbacks") or [])
        if given.get("enable_progress_bar") is not False and not own_bar:
            self.trainer_defaults["callbacks"].append(ChunkProgressBar())
        trainer = super().instantiate_trainer(**kwargs)
        refuse_many_devices(trainer)  # before Lightning launches a process for each
        return trainer


def _names_model(args: ArgsType) -> bool:
    """Whether the arguments, or a config file among them (read once by ``check_yaml``), give the model's class."""
    texts = [str(arg) for arg in args] if isinstance(args, list) else []
    if any(text.split("=")[0] in ("--model", "--model.class_path") for text in texts):
        return True
    models = [yaml.safe_load(Path(file).read_text(encoding="utf-8")).get("model") for file in config_files(texts)]
    return any(isinstance(model, str) or (isinstance(model, dict) and "class_path" in model) for model in models)
