"""What settings may name as a class, and whom they may have trusted."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import yaml

CONFIG = """
model:
  class_path: SoftPrompt
  init_args: {length: 2, steps: 2}
data:
  families: [{class_path: OneHot, init_args: {count: 2}}]
"""

ADAM = """
import pathlib
from torch.optim import Adam
pathlib.Path("imported").touch()
class Mine(Adam):
    pass
def make(params) -> Adam:
    pathlib.Path("called").touch()
    return Adam(params)
"""


@pytest.fixture
def refused(cli):
    """The one line that a command ends with."""

    def run(*args):
        said = cli(*args, code=2)
        assert "Traceback" not in said
        return said.splitlines()[-1]

    return run


@pytest.fixture
def run_folder(cli, workdir, tiny_lm):
    """Of a small run."""
    (workdir / "run.yaml").write_text(CONFIG)
    cli("fit", "--config", "run.yaml", "--lm", tiny_lm)
    return Path("logs/run/version_0")


def tiny(run):
    """The LM of a run."""
    return yaml.safe_load((run / "config.yaml").read_text())["lm"]


def change(run, *keys, value):
    """Sets a key in a run's config."""
    path = run / "config.yaml"
    settings = node = yaml.safe_load(path.read_text())
    for key in keys[:-1]:
        node = node[key]
    node[keys[-1]] = value
    path.write_text(yaml.safe_dump(settings))


@pytest.mark.parametrize("command", ["test", "predict", "validate"])
def test_a_run_folder_runs_no_command(command, run_folder, refused):
    attack = {"class_path": "os.system", "init_args": {"command": "touch ran"}}
    change(run_folder, "model", "init_args", "optimizer", value=attack)
    said = refused(command, "--run", run_folder)
    assert said.startswith(f"lit_prompt: error: {run_folder}/config.yaml: model.optimizer: os.system is no class")
    assert not Path("ran").exists()


def test_an_evaluation_builds_no_part_of_the_runs_trainer(run_folder, cli):
    callback = {"class_path": "LambdaCallback", "init_args": {"on_test_start": "os.system"}}
    change(run_folder, "trainer", "callbacks", value=[callback])
    profiler = {"class_path": "SimpleProfiler", "init_args": {"dirpath": "elsewhere", "filename": "p"}}
    change(run_folder, "trainer", "profiler", value=profiler)
    change(run_folder, "trainer", "logger", value={"class_path": "CSVLogger", "init_args": {"save_dir": "elsewhere"}})
    change(run_folder, "trainer", "fast_dev_run", value=True)
    cli("test", "--run", run_folder)
    assert (run_folder / "results.parquet").exists()
    assert not Path("elsewhere").exists()


@pytest.mark.parametrize("key", ["trainer.profiler", "trainer+", "data.families"])
def test_a_run_folder_brings_back_no_part_by_another_key(key, run_folder, refused):
    change(run_folder, key, value={"class_path": "SimpleProfiler", "init_args": {"dirpath": "elsewhere"}})
    said = refused("test", "--run", run_folder)
    assert said.startswith(f"lit_prompt: error: {run_folder}/config.yaml: no run has written the key {key!r}")
    assert not Path("elsewhere").exists()


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--model.optimizer", "my_adam.make", "make is a function; choose one of ASGD, "),
        ("--model.scheduler", "LambdaLR", "a program may give one here, settings cannot"),
        ("--trainer.callbacks", "my_adam.Mine", "choose one of "),
        ("--model.optimizer", "subprocess.getoutput", "is no class that a setting may name"),
    ],
)
def test_what_is_no_class_of_the_kind_is_refused_before_it_is_called(option, value, said, workdir, tiny_lm, refused):
    (workdir / "my_adam.py").write_text(ADAM)
    (workdir / "run.yaml").write_text(CONFIG)
    extra = ["--model.scheduler.lr_lambda", "my_adam.make"] if value == "LambdaLR" else []
    sys.path.insert(0, str(workdir))
    try:
        assert said in refused("fit", "--config", "run.yaml", "--lm", tiny_lm, option, value, *extra)
    finally:
        sys.path.remove(str(workdir))
        sys.modules.pop("my_adam", None)
    assert not Path("called").exists()


class TestOwnClasses:
    @pytest.fixture
    def run_folder(self, workdir, tiny_lm, cli, monkeypatch):
        """Of a run with an optimizer that the project does not know."""
        monkeypatch.syspath_prepend(workdir)
        (workdir / "own_adam.py").write_text(ADAM)
        (workdir / "run.yaml").write_text(CONFIG)
        cli("fit", "--config", "run.yaml", "--lm", tiny_lm, "--model.optimizer", "own_adam.Mine")
        sys.modules.pop("own_adam")
        Path("imported").unlink()
        yield Path("logs/run/version_0")
        sys.modules.pop("own_adam", None)

    def test_a_run_folder_has_nothing_imported(self, run_folder, refused):
        said = refused("test", "--run", run_folder)
        assert said.endswith("where you trust own_adam, add --trust own_adam")
        assert not Path("imported").exists()

    def test_nor_does_its_config_by_its_own_name(self, run_folder, refused):
        for words in (("floor",), ("test", "--run", run_folder)):
            refused(*words, "--config", run_folder / "config.yaml")
        assert not Path("imported").exists()

    def test_unless_its_module_is_trusted(self, run_folder, cli):
        said = cli("test", "--run", run_folder, "--trust", "own_adam")
        assert Path("imported").exists()
        assert f"lit_prompt predict --run {run_folder} --trust own_adam " in said

    def test_shortest_evaluates_with_them(self, run_folder, cli):
        options = ["--kl", "9", "--lengths", "1", "--model.optimizer", "own_adam.Mine"]
        assert "2 of 2 targets" in cli("shortest", "--config", "run.yaml", "--lm", tiny(run_folder), *options)


class TestCodeOfAnLM:
    @pytest.fixture
    def lm(self, workdir, tiny_lm, monkeypatch):
        """Folder of an LM whose code leaves a file when it runs."""
        folder = workdir / "lm"
        shutil.copytree(tiny_lm, folder)
        config = json.loads((folder / "config.json").read_text())
        config |= {"model_type": "mine", "auto_map": {"AutoConfig": "mine.C", "AutoModelForCausalLM": "mine.M"}}
        (folder / "config.json").write_text(json.dumps(config))
        (folder / "mine.py").write_text(
            "import pathlib\nfrom transformers import LlamaConfig, LlamaForCausalLM\n"
            f"pathlib.Path({str(workdir / 'ran')!r}).touch()\n"
            "class C(LlamaConfig):\n    model_type = 'mine'\nclass M(LlamaForCausalLM):\n    config_class = C\n"
        )
        monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(workdir / "modules"))
        monkeypatch.setattr("sys.path", list(sys.path))
        return folder

    @pytest.fixture
    def config(self, workdir, lm):
        """A config that asks for that LM and its code."""
        path = workdir / "run.yaml"
        path.write_text(f"{CONFIG}\nlm: {lm}\nlm_options: {{trust_remote_code: true}}\n")
        return path

    def test_no_file_can_have_it_run(self, config, refused):
        for command in ("fit", "floor"):
            said = refused(command, "--config", config)
            assert said.startswith(f"lit_prompt: error: {config}: lm_options.trust_remote_code is on in a file")
            assert said.endswith("or for all LMs that files name set LIT_PROMPT_TRUST_REMOTE_CODE=1")
            assert "add --lm_options.trust_remote_code true" in said
        assert not Path("ran").exists()

    def test_nor_a_familys_lm(self, workdir, lm, tiny_lm, refused):
        family = f"{{class_path: FromLM, init_args: {{lm: {lm}, lm_options: {{trust_remote_code: true}}}}}}"
        (workdir / "run.yaml").write_text(f"data: {{families: [{family}]}}")
        assert "is on in a file" in refused("fit", "--config", "run.yaml", "--lm", tiny_lm)
        assert not Path("ran").exists()

    def test_what_is_typed_is_of_the_lm_alone(self, workdir, lm, tiny_lm, refused):
        family = f"{{class_path: FromLM, init_args: {{lm: {lm}, lm_options: {{trust_remote_code: true}}}}}}"
        (workdir / "run.yaml").write_text(f"data: {{families: [{family}]}}")
        typed = ["--lm", tiny_lm, "--lm_options.trust_remote_code", "true"]
        assert "is on in a file" in refused("fit", "--config", "run.yaml", *typed)
        assert not Path("ran").exists()

    def test_the_command_line_can(self, config, cli, refused):
        cli("fit", "--config", config, "--lm_options.trust_remote_code", "true")
        assert Path("ran").exists()
        assert "is on in a file" in refused("test", "--run", "logs/run/version_0")
        assert "is on in a file" in refused("floor", "--config", "logs/run/version_0/config.yaml")

    def test_so_can_the_environment(self, config, cli, monkeypatch):
        monkeypatch.setenv("LIT_PROMPT_TRUST_REMOTE_CODE", "1")
        cli("fit", "--config", config)
        assert Path("ran").exists()


def test_a_class_that_cannot_be_made_is_one_line(workdir, tiny_lm, refused):
    (workdir / "run.yaml").write_text(CONFIG)
    said = refused("fit", "--config", "run.yaml", "--lm", tiny_lm, "--trainer.logger", "MLFlowLogger")
    assert "MLFlowLogger cannot be made: " in said
