"""What is read of a command's options before its settings are parsed: the config files, and the run it is about."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lit_prompt.cli.former_keys import add_former_defaults, update_former_settings
from lit_prompt.cli.parser import CommandParser, user_path
from lit_prompt.embedded import embedded, embedded_config
from lit_prompt.errors import InputError
from lit_prompt.files import refuse_utf16
from lit_prompt.records.run_config import change_of
from lit_prompt.results.text import visible

#: A run's saved settings, in its folder.
CONFIG_FILE = "config.yaml"


@dataclass(frozen=True)
class Config:
    """A config file.

    Attributes:
        path: of it.
        settings: in it.
        of_run: whether it lies in a run's folder, which somebody else may have made.
    """

    path: Path
    settings: dict[str, Any]
    of_run: bool = False


@dataclass(frozen=True)
class RunArguments:
    """Options of a command.

    Attributes:
        options: for the parser of settings: config files come first, so that what the command line says wins, and
            ``--run FOLDER`` is replaced by the run's own config and checkpoint.
        configs: the config files; that of the run comes first, later ones win.
        name: of a new run's folder in ``logs``: that of the last config file.
        run_folder: folder of the run that is resumed or evaluated; None for a new run.
        joined: folder of the run that is joined by a process with settings of its own; it need not exist.
        typed: the options that are no files.
        trusted: modules whose classes the run's config may name.
    """

    options: list[str]
    configs: list[Config]
    name: str
    run_folder: Path | None = None
    joined: Path | None = None
    typed: list[str] = field(default_factory=list)
    trusted: list[str] = field(default_factory=list)

    @property
    def run_settings(self) -> dict[str, Any]:
        """The run's own settings, as far as this command takes them."""
        return {} if self.run_folder is None else self.configs[0].settings

    @property
    def modules(self) -> set[str]:
        """Those that the user names: on the command line, or in a config that is no run's."""
        from lit_prompt.cli.classes import modules_named

        values = [option.rpartition("=")[2] for option in self.typed]
        own = [config.settings for config in self.configs if not config.of_run]
        return modules_named([values, own]) | set(self.trusted)


def read_arguments(command: str, options: Sequence[str], takes_run: bool = False) -> RunArguments:
    """Reads which config files and which run a command line names.

    Args:
        command: the command's name.
        options: what follows it.
        takes_run: whether it has ``--run`` and ``--ckpt_path``; the latter without a config means its run.

    Raises:
        InputError: if a config holds no settings, the folder is no run, or the run has no checkpoint.
    """
    parser = CommandParser(command, add_help=False)
    parser.add_argument("-c", "--config", dest="configs", type=embedded_config, action="append", default=[])
    for option in ("--run", "--ckpt_path") if takes_run else ():
        parser.add_argument(option, type=user_path)
    for option in ("--join",) if command == "fit" else ():
        parser.add_argument(option, type=user_path)
    parser.add_argument("--trust", metavar="MODULE", action="append", default=[])
    parser.set_defaults(run=None, ckpt_path=None, join=None)
    known, typed = parser.parse_known_args(options)
    folder, checkpoint, joined = known.run, known.ckpt_path, known.join
    if joined is not None and folder is not None:
        raise InputError("--run goes on with a run, and --join with the one that others begin; give one of them")
    if joined is not None and not known.configs and (joined / CONFIG_FILE).is_file():
        folder = joined  # its own settings are there already
    if folder is not None:
        checkpoint = checkpoint or _checkpoint(folder, command)
    elif checkpoint is not None and not known.configs and (checkpoint.parent.parent / CONFIG_FILE).is_file():
        folder = checkpoint.parent.parent
    configs = [Config(path, _settings(path), _lies_in_run(path)) for path in known.configs]
    if folder is not None:
        path = folder / CONFIG_FILE
        configs.insert(0, Config(path, _without_families(_settings(path, of_run=True), folder), of_run=True))
    for config in configs:
        if config.of_run:
            _refuse_joined_keys(config)
            if command in _EVALUATIONS:
                config.settings["trainer"] = _plain_trainer(config.settings.get("trainer"))
                config.settings.pop("threads", None)  # a search's rounding depends on them, and this may be elsewhere
        if not takes_run or command in _READING:
            config.settings.pop("ckpt_path", None)  # a run's config has one
    name = configs[-1].path.stem if configs else "default"
    given = [f"--ckpt_path={checkpoint}"] if checkpoint and command not in _READING else []
    every = [*(settings_option(config.settings) for config in configs), *typed, *given]
    return RunArguments(every, configs, name, folder, joined, typed, known.trust)


_EVALUATIONS = ("test", "validate", "predict", "export", "score")
#: Those without a trainer, which a checkpoint is for.
_READING = ("export", "score")
#: What an evaluation takes of the trainer of a run, whose folder is data whoever made it: where and how it computes.
#: Its callbacks, loggers, plugins and profilers are not built, and no part of the targets is left out.
_PLAIN = (
    "accelerator",
    "benchmark",
    "default_root_dir",
    "deterministic",
    "devices",
    "enable_progress_bar",
    "precision",
)


def _plain_trainer(settings: Any) -> dict[str, Any]:
    settings = settings if isinstance(settings, dict) else {}
    plain = {name: settings[name] for name in _PLAIN if not isinstance(settings.get(name, {}), dict)}
    return plain | ({"logger": False} if settings.get("logger") is False else {})


def _lies_in_run(path: Path) -> bool:
    return path.name == CONFIG_FILE and any(
        (path.parent / name).is_dir() for name in ("checkpoints", "chunks", "targets")
    )


def _without_families(settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    """A run's settings; its targets are in its folder, so that no family need be made."""
    if (folder / "targets").is_dir() and isinstance(data := settings.get("data"), dict):
        settings["data"] = {**data, "families": None}
    return settings


def _refuse_joined_keys(config: Config) -> None:
    """Refuses keys such as ``trainer.callbacks``, by which settings would come back that were taken out."""
    for name in ("", "data", "trainer"):
        group = config.settings.get(name) if name else config.settings
        for key in group if isinstance(group, dict) else ():
            if not str(key).isidentifier():
                raise InputError(
                    f"{config.path}: no run has written the key {key!r}; its settings stand under one another"
                )


def _checkpoint(run: Path, command: str) -> Path | None:
    """The checkpoint of a run that has one: of an LM's training, or of a search by a former version."""
    if not (run / CONFIG_FILE).is_file():
        raise InputError(
            f"--run: {run} is no run's folder (it holds no {CONFIG_FILE}); runs are in logs/CONFIG/version_K"
        )
    last = run / "checkpoints" / "last.ckpt"
    if last.is_file():
        return last
    if command == "pretrain" or (command in _EVALUATIONS and not any((run / "chunks").glob("*.zip"))):
        raise InputError(f"--run: {run} has kept nothing yet that {command} could use; go on with it, or start anew")
    return None


def settings_option(settings: dict[str, Any]) -> str:
    """Settings as the value of an option, in ASCII, as their parser asks the system whether it is a path."""
    from lit_prompt.cli.yaml_text import write_yaml

    return f"--config={write_yaml(settings, ascii_only=True)}"


def _settings(path: Path, of_run: bool = False) -> dict[str, Any]:
    """Those of a config file, or those that a run has saved, brought up to date where a former version wrote them.

    Raises:
        InputError: names file and line of a mistake in YAML, which the parser of settings does not.
    """
    import yaml

    from lit_prompt.cli.yaml_text import read_yaml

    try:
        content = path.read_bytes()  # at once, as it may be a pipe
        if (of_run or _lies_in_run(path)) and (change := change_of(path, content)) is not None:
            print(visible(f"lit_prompt: {change}"), file=sys.stderr)
        refuse_utf16(path, content)
        settings = read_yaml(content.decode("utf-8-sig"))
        if not isinstance(settings, dict):
            raise InputError(f"--config: {path} holds no settings; see configs/demo.yaml")
        if notes := update_former_settings(settings):
            print(visible(f"lit_prompt: {path}: {'; '.join(notes)}"), file=sys.stderr)
        if of_run:
            add_former_defaults(settings)
        return settings
    except FileNotFoundError:
        names = ", ".join(sorted(found.stem for found in Path(embedded("configs")).glob("*.yaml")))
        raise InputError(f"--config: no file {path}; the embedded ones are {names}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--config: {path} cannot be read ({error})") from error
    except yaml.YAMLError as error:
        line = f":{error.problem_mark.line + 1}" if getattr(error, "problem_mark", None) else ""
        raise InputError(f"{path}{line}: not YAML ({getattr(error, 'problem', error)})") from error
