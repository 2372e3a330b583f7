"""Every mistake that a user can make ends in one clear line and exit code 2, and loses nothing."""

import errno
import io
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch

from lit_prompt.callbacks.checkpoint import SearchCheckpoint
from lit_prompt.data.datamodule import TargetDataModule
from lit_prompt.lm import FrozenLM
from lit_prompt.main import main
from tests.saved import saved, steps_made

CONFIG = """
model:
  class_path: SoftPrompt
  init_args: {length: 3, steps: 6}
data:
  families:
    - class_path: OneHot
      init_args: {count: 4}
"""


HARD = """
model:
  class_path: HardPrompt
  init_args: {length: 3, steps: 2, searcher: {class_path: SharedSearch, init_args: {width: 4}}}
data:
  families:
    - class_path: OneHot
      init_args: {count: 4}
"""


@pytest.fixture
def fails(cli, workdir, tiny_lm):
    """Runs a command that must fail and returns its one line."""
    (workdir / "ok.yaml").write_text(CONFIG)

    def run(*args: object) -> str:
        lm = [] if "--lm" in args or "--run" in args else ["--lm", tiny_lm]
        said = cli(*args, *lm, code=2)
        lines = [line for line in said.splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith("lit_prompt: error: ")]
        assert len(errors) == 1, said
        assert lines[-1] == errors[0], said
        assert "Traceback" not in said
        return errors[0]

    return run


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["--config", "nope.yaml"], "no file nope.yaml"),
        (["--config", "ok.yaml", "--lm", "/no/such/folder"], "no folder /no/such/folder"),
        (["--config", "ok.yaml", "--lm", "no-such-hub-id"], "no-such-hub-id is no local folder"),
        (["--config", "ok.yaml", "--model.stepz", "5"], "no key 'stepz'; did you mean 'steps'?"),
        (["--config", "ok.yaml", "--data.chunk_sizes", "5"], "did you mean 'data.chunk_size'?"),
        (["--config", "ok.yaml", "--model.steps", "many"], "model.steps: 'many' is not of the type int"),
        (["--config", "ok.yaml", "--model.steps", "0"], "model.steps is 0; it must be at least 1"),
        (["--config", "ok.yaml", "--model.kl_tolerance", "-1"], "model.kl_tolerance is -1.0; it must be 0 or more"),
        (["--config", "ok.yaml", "--model.kl_tolerance", ".nan"], "model.kl_tolerance is nan; it must be 0 or more"),
        (["--config", "ok.yaml", "--model.kl_tolerance", ".inf"], "model.kl_tolerance is inf; it must be 0 or more"),
        (["--config", "ok.yaml", "--floor_seconds", "-1"], "--floor_seconds is -1.0; it must be 0 or more"),
        (["--config", "ok.yaml", "--model.optimizer.lr", "-1"], "Invalid learning rate: -1"),
        (["--config", "ok.yaml", "--model.optimizer", "Adamm"], "no class 'Adamm'; did you mean 'Adam'?"),
        (["--config", "ok.yaml", "--model", "SoftPromt"], "no class 'SoftPromt'; did you mean 'SoftPrompt'?"),
        (["--config", "ok.yaml", "--model.length", "100"], "longer than the LM's context"),
        (["--config", "ok.yaml", "--model.max_norm", "0"], "model.max_norm is 0"),
        (["--config", "ok.yaml", "--model.init.kind", "text"], "model.init.text must hold"),
        (["--config", "ok.yaml", "--lm_options.dtype", "float8"], "lm_options.dtype: 'float8' is not of the type"),
        (["--config", "ok.yaml", "--trainer.accelerator", "gpuu"], "invalid accelerator name"),
        (["--config", "ok.yaml", "--trainer.precision", "bf16-mixed"], "trainer.precision must stay 32-true"),
        (
            ["--config", "ok.yaml", "--trainer.devices", "2", "--trainer.strategy", "ddp"],
            "trainer.strategy: processes search for themselves; leave it away, or set it to independent",
        ),
        (["--config", "ok.yaml", "--data.shard", "0/3"], "data.shard is 0/3; it must be 1/N to N/N"),
        (["--config", "ok.yaml", "--threads", "0"], "--threads is 0; it must be at least 1"),
        (["--config", "ok.yaml", "--join", "x", "--run", "x"], "give one of them"),
        (["--config", "ok.yaml", "--data.chunk_size", "0"], "data.chunk_size is 0"),
        (
            ["--config", "ok.yaml", "--data.families.0.init_args.count", "5"],
            "unknown option ending in .0.init_args.count; a list (data.families, say) is changed",
        ),
        (["--config", "ok.yaml", "--trainer.max_steps", "2"], "would cut a chunk short"),
        (["--config", "ok.yaml", "--trainer.max_time", "00:00:00:02"], "would cut a chunk short"),
        (["--config", "ok.yaml", "--model.optimizer.lr", "abc"], "'abc' is not of the type float, Tensor\n"),
        (["--config", "ok.yaml", "--trainer.max_epochs", "x"], "trainer.max_epochs: 'x' is not of the type int"),
        (["--config", "ok.yaml", "--data.load", "nowhere"], "nowhere: no saved set of targets"),
        (["--config", "ok.yaml", "--ckpt_path", "nowhere.ckpt"], "no checkpoint nowhere.ckpt"),
        (["--run", "nowhere"], "nowhere is no run's folder"),
        ([], "no targets: give data.families"),
    ],
)
def test_bad_arguments(fails, args, expected):
    assert expected in f"{fails('fit', *args)}\n"


CUT_SHORT = {
    "fit": ["max_steps 2", "max_time 00:00:00:02", "limit_train_batches 1", "limit_train_batches 0.5",
            "overfit_batches 1", "overfit_batches 0.5", "max_epochs 0"],
    "validate": ["limit_val_batches 1", "limit_val_batches 0.0", "overfit_batches 1"],
    "test": ["limit_test_batches 1", "limit_test_batches 0.5", "overfit_batches 1"],
    "predict": ["limit_predict_batches 1", "limit_predict_batches 0.0"],
}  # fmt: skip


@pytest.mark.parametrize(("command", "setting"), [(c, s) for c, settings in CUT_SHORT.items() for s in settings])
def test_settings_that_cut_results_short(fails, workdir, searched, command, setting):
    key, value = setting.split()
    which = ["--config", "ok.yaml"] if command == "fit" else ["--run", searched]
    said = fails(command, *which, f"--trainer.{key}", value)
    assert f"trainer.{key} " in said
    assert [path.name for path in workdir.iterdir()] == ["ok.yaml"]  # a fit that is refused leaves no folder


@pytest.mark.parametrize(
    "callback", ["EarlyStopping, init_args: {monitor: x}", "LearningRateFinder",
                 "StochasticWeightAveraging, init_args: {swa_lrs: 0.1, device: null}",
                 "BatchSizeFinder", "Timer, init_args: {duration: 00:00:00:02}"],
)  # fmt: skip
def test_callbacks_that_cut_results_short(fails, workdir, callback):
    said = fails("fit", "--config", "ok.yaml", "--trainer.callbacks", f"[{{class_path: {callback}}}]")
    assert "trainer" in said
    assert [path.name for path in workdir.iterdir()] == ["ok.yaml"]


@pytest.mark.parametrize(
    "setting", ["accumulate_grad_batches 2", "gradient_clip_val 1.0", "barebones true", "enable_checkpointing false",
                "precision 64", "accelerator gpuu", "val_check_interval 2"],
)  # fmt: skip
def test_a_trainer_that_is_refused_leaves_no_folder(fails, workdir, setting):
    key, value = setting.split()
    assert "trainer" in fails("fit", "--config", "ok.yaml", f"--trainer.{key}", value)
    assert [path.name for path in workdir.iterdir()] == ["ok.yaml"]


@pytest.mark.parametrize(
    "setting", ["check_val_every_n_epoch 1", "num_sanity_val_steps 2", "min_epochs 9",
                "min_steps 99", "reload_dataloaders_every_n_epochs 1", "limit_val_batches 1", "log_every_n_steps 50",
                "detect_anomaly true", "inference_mode false", "use_distributed_sampler false"],
)  # fmt: skip
def test_other_settings_change_no_result(cli, workdir, tiny_lm, searched, setting):
    (workdir / "ok.yaml").write_text(CONFIG)
    key, value = setting.split()
    cli("fit", "--config", "ok.yaml", "--lm", tiny_lm, f"--trainer.{key}", value)
    found, expected = map(saved, (Path("logs/ok/version_0"), searched))
    assert torch.equal(found["kl"], expected["kl"])


@pytest.fixture(scope="module")
def searched(tiny_lm, tmp_path_factory):
    """The folder of a finished fit, not to be changed."""
    folder = tmp_path_factory.mktemp("searched")
    (folder / "ok.yaml").write_text(CONFIG)
    main(["fit", "--config", str(folder / "ok.yaml"), "--lm", str(tiny_lm), "--logs", str(folder)])
    return folder / "ok" / "version_0"


@pytest.mark.parametrize(
    ("searcher", "expected"),
    [
        ("{class_path: SharedSearch, init_args: {width: 0}}", "model.searcher width is 0; it must be at least 1"),
        ("{class_path: PEZ, init_args: {lr: -1}}", "model.searcher lr is -1.0; it must be at least 0"),
        ("{class_path: ARCA, init_args: {order: sideways}}", "order: 'sideways' is not of the type"),
    ],
)
def test_bad_searchers(fails, workdir, searcher, expected):
    (workdir / "bad.yaml").write_text(CONFIG.replace("SoftPrompt", "HardPrompt"))
    assert expected in fails("fit", "--config", "bad.yaml", "--model.searcher", searcher)


@pytest.mark.parametrize("name", ["random_sequences", "sampled_texts", "drawn_sequences", "natural_texts"])
def test_bad_starts(fails, workdir, name):
    (workdir / "bad.yaml").write_text(CONFIG.replace("SoftPrompt", "HardPrompt"))
    said = fails("fit", "--config", "bad.yaml", f"--model.start.{name}", "-1")
    assert f"model.start.{name} is -1; it must be 0 or more" in said
    assert not (workdir / "logs").exists()


@pytest.mark.parametrize(
    ("key", "name", "offered"),
    [
        ("--data.families", "EntropyGridFamilyy", ""),  # abstract
        ("--data.families", "EntropyGridFamily", ""),
        ("--data.families", "entropy_gird", ""),  # a function
        ("--data.families", "GCG", ""),  # a searcher
        ("--data.families", "Outliers", "; did you mean 'Outlier'?"),
        ("--model", "TokenPrompts", "; did you mean 'TextPrompt'?"),  # abstract
        ("--model", "lit_prompt.models.Soft", ""),
        ("--model", "nowhere.SoftPrompt", "; did you mean 'SoftPrompt'?"),
        ("--model.optimizer", "SDG", "; did you mean 'SGD'?"),
        ("--model.scheduler", "StepLRR", "; did you mean 'StepLR'?"),
        ("--trainer.callbacks", "EarlyStoping", "; did you mean 'EarlyStopping'?"),
    ],
)
def test_only_what_can_be_chosen_is_offered(fails, key, name, offered):
    value = f"[{{class_path: {name}}}]" if key in ("--data.families", "--trainer.callbacks") else name
    said = fails("fit", "--config", "ok.yaml", key, value)
    assert f"{key.removeprefix('--')}: no class {name!r}{offered}" in said
    assert " (choose one of " in said if offered else "; choose one of " in said


@pytest.mark.parametrize("command", ["test", "validate", "predict"])
def test_evaluating_nothing_is_an_error(fails, command):
    assert f"{command} needs what a fit has found" in fails(command, "--config", "ok.yaml")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "bad.yaml holds no settings"),
        ("model: [1,\n  class_path: x\n", "bad.yaml:3: not YAML"),
        (CONFIG.replace("length", "lenght"), "SoftPrompt has no key 'lenght'; did you mean 'length'?"),
        (CONFIG + "trainr: 5\n", "unknown key 'trainr'; did you mean 'trainer'?"),
        (CONFIG.replace("OneHot", "OneHott"), "no class 'OneHott'; did you mean 'OneHot'?"),
        (CONFIG.replace("count", "cuont"), "OneHot has no key 'cuont'; did you mean 'count'?"),
        (CONFIG.replace("{count: 4}", "{tokens: [99999]}"), "token id 99999 is not among 0 to 319"),
        (CONFIG.replace("{count: 4}", "{tokens: [' unquestionably']}"), "is not exactly one token of this LM"),
        (
            CONFIG.replace("OneHot", "EntropyMatched").replace("count: 4", "entropies: [9.0]"),
            "entropy 9 lies outside [0, ln|V|] = [0, 5.7683]",
        ),
        (CONFIG + "    - class_path: OneHot\n      init_args: {count: 1}\n", "two targets are called"),
    ],
)  # fmt: skip
def test_bad_configs(fails, workdir, text, expected):
    (workdir / "bad.yaml").write_text(text)
    assert expected in fails("fit", "--config", "bad.yaml")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (CONFIG.replace("length: 3", "length: 0"), "model.length is 0"),
        (CONFIG.replace("length: 3", "max_norm: -1"), "model.max_norm is -1"),
        (CONFIG.replace("length: 3", "lift_tolerance: 0.1"), "set model.init.kind to lift"),
        (CONFIG.replace("length: 3", "init: {kind: text}"), "model.init.text must hold at least one token"),
        (CONFIG.replace("length: 3", "init: {shorter_run: gone}"), "model.init.shorter_run: gone holds no prompts"),
        (CONFIG.replace("length: 3", "optimizer: {class_path: torch.optim.SparseAdam}"), "use torch.optim.Adam"),
        (CONFIG.replace("OneHot", "FromFile").replace("count: 4", "path: x.csv, tolerance: -1"), "tolerance is -1"),
        (CONFIG.replace("OneHot", "FromLM").replace("count: 4", "count: 0"), "family lm: count is 0"),
        (CONFIG.replace("OneHot", "Dirichlet").replace("count: 4", "concentrations: [0]"), "concentration 0 is not"),
        (CONFIG + "trainer: {precision: 64}\n", "trainer.precision must stay 32-true"),
        (CONFIG + "trainer: {max_epochs: 0}\n", "trainer.max_epochs is 0"),
        (HARD.replace("length: 3", "fluency: -1"), "model.fluency is -1"),
        (HARD.replace("length: 3", "max_seconds: 0"), "model.max_seconds is 0"),
        (HARD.replace("length: 3", "start: {kind: soft}"), "model.start.soft_run must name the folder"),
        (HARD.replace("length: 3", "start: {kind: soft, soft_run: gone}"), "model.start.soft_run: gone holds no"),
        (HARD.replace("length: 3", "start: {shorter_run: gone}"), "model.start.shorter_run: gone holds no prompts"),
    ],
)  # fmt: skip
def test_what_settings_tell_is_refused_before_anything_takes_long(fails, workdir, monkeypatch, text, expected):
    def too_late(*args, **kwargs):
        raise AssertionError("targets are built")

    monkeypatch.setattr(TargetDataModule, "build", too_late)
    monkeypatch.setattr(FrozenLM, "load", too_late)
    (workdir / "bad.yaml").write_text(text)
    assert expected in fails("fit", "--config", "bad.yaml")


def test_a_config_in_utf_16(fails, workdir):
    (workdir / "bad.yaml").write_text(CONFIG, encoding="utf-16")
    assert "bad.yaml: is UTF-16, not UTF-8 text; save it as UTF-8" in fails("fit", "--config", "bad.yaml")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (HARD.replace("SharedSearch", "SharedSerch"), "no class 'SharedSerch'; did you mean 'SharedSearch'?"),
        (HARD.replace("width", "widht"), "SharedSearch has no key 'widht'; did you mean 'width'?"),
        (HARD.replace("width: 4", "width: 0"), "model.searcher width is 0; it must be at least 1"),
        (HARD.replace("width: 4", "width: some"), "'some' is not of the type int"),
        (HARD.replace("length", "lenght"), "HardPrompt has no key 'lenght'; did you mean 'length'?"),
        (HARD.replace("length: 3", "length: 0"), "model.length is 0; it must be at least 1"),
        (HARD.replace("length: 3", "tokens: {allow: [zebra]}"), "model.tokens.allow: 'zebra' is not exactly one token"),
        (HARD.replace("length: 3", "tokens: {characters: greek}"), "tokens.characters: 'greek' is not of the type"),
        (HARD.replace("length: 3", "start: {kind: text, text: ''}"), "model.start.text must hold at least one token"),
        (HARD.replace("length: 3", "start: {texts: {path: no.txt}}"), "no.txt: no such file"),
    ],
)  # fmt: skip
def test_bad_configs_of_hard_prompts(fails, workdir, text, expected):
    (workdir / "bad.yaml").write_text(text)
    assert expected in fails("fit", "--config", "bad.yaml")


def test_a_hard_search_is_resumed_with_its_own_settings(cli, fails, workdir, tiny_lm):
    (workdir / "hard.yaml").write_text(HARD)
    cli("fit", "--config", "hard.yaml", "--lm", tiny_lm)
    said = fails("fit", "--run", "logs/hard/version_0", "--model.searcher.width", "9")
    assert "made with searcher.width = 4, this run has 9" in said


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ('{"probs": {"a": 0.5, "b": 0.6}}', "t.jsonl:1: probabilities of 't-1' sum to 1.1, not to 1 (within 0.001)"),
        ('{"probs": {"a": 1.5, "b": -0.5}}', "t.jsonl:1: probability 1.5 of 'a' is not between 0 and 1"),
        ('{"probs": {"a": NaN}}', "t.jsonl:1: probability nan of 'a'"),
        ('{"probs": {}}', "t.jsonl:1: the distribution is empty"),
        ('{"probs": {"a": 1}}\n{"probs": {"a": 1', "t.jsonl:2: not JSON"),
        (
            '{"name": "x", "probs": {"a": 1}}\n{"name": "x", "probs": {"b": 1}}',
            "t.jsonl:2: the name 'x' was used before",
        ),
        ('{"ids": [320], "probs": [1]}', "t.jsonl:1: token id 320 is not among 0 to 319"),
        ('{"probs": {"zebra": 1}}', "t.jsonl:1: 'zebra' is not exactly one token"),
        ('{"probs": {"zebra": 1}}', '; for texts of several tokens use "strings"'),
        (
            '{"name": "q", "strings": {" h": 0.5, " hh": 0.5}}',
            "t.jsonl:1: the answer ' h' begins another one, ' hh', so that the LM must say where it ends",
        ),
        ('{"probs": {"a": 1}, "context": ["x"]}', "t.jsonl:1: \"context\" is ['x']; give the text before the prompt"),
        ('{"probs": {"a": 1}, "context": {"to": "x"}}', "t.jsonl:1: \"context\" has no key 'to'"),
    ],
)
def test_bad_target_files(fails, workdir, lines, expected):
    (workdir / "t.jsonl").write_text(lines + "\n")
    family = "[{class_path: FromFile, init_args: {path: t.jsonl}}]"
    assert expected in fails("fit", "--config", "ok.yaml", "--data.families", family)


def test_an_lm_without_safetensors(fails, workdir, tiny_lm):
    folder = shutil.copytree(tiny_lm, workdir / "pickled")
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")
    assert "holds no model.safetensors" in fails("fit", "--config", "ok.yaml", "--lm", folder)


@pytest.fixture
def run(cli, workdir, tiny_lm):
    """A finished fit."""
    (workdir / "ok.yaml").write_text(CONFIG)
    cli("fit", "--config", "ok.yaml", "--lm", tiny_lm)
    return Path("logs/ok/version_0")


def test_chunk_of_another_lm(fails, run, make_lm):
    other = make_lm("llama", seed=1)
    assert "chunk_0.steps_6.zip belongs to another LM" in fails("fit", "--run", run, "--lm", other)
    assert "has found soft prompts" in fails("test", "--run", run, "--lm", other)


def test_chunk_of_other_targets(fails, cli, workdir, run, tiny_lm):
    (workdir / "other.yaml").write_text(CONFIG.replace("count: 4", "count: 5"))
    cli("fit", "--config", "other.yaml", "--lm", tiny_lm)
    (chunk,) = (run / "chunks").iterdir()
    shutil.copy(chunk, "logs/other/version_0/chunks")
    said = fails("test", "--run", "logs/other/version_0")
    assert "chunk_0.steps_6.zip belongs to other targets" in said


def test_resume_with_other_settings(fails, run):
    assert "made with length = 3, this run has 4" in fails("fit", "--run", run, "--model.length", "4")


class Code:
    """Pickled, it would make a folder when it is read."""

    def __reduce__(self):
        return os.mkdir, ("ran",)


@pytest.mark.parametrize("command", ["fit", "test", "validate", "predict"])
@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"lit_prompt": Code()}, "holds more than tensors and plain values, or is damaged; it could run code and was"),
        ([1], "is no checkpoint of lit_prompt"),
        ({}, "is no checkpoint of lit_prompt"),
    ],
)
def test_a_checkpoint_that_is_none_of_ours(fails, run, workdir, command, content, expected):
    checkpoint = run / "checkpoints" / "last.ckpt"
    checkpoint.parent.mkdir()
    torch.save(content, checkpoint)
    assert f"{checkpoint} {expected}" in fails(command, "--run", run)
    assert not (workdir / "ran").exists()


def test_a_chunk_that_is_none_of_ours(fails, run, workdir):
    (chunk,) = (run / "chunks").iterdir()
    content = io.BytesIO()
    torch.save(Code(), content)
    with zipfile.ZipFile(chunk, "w") as archive:
        archive.writestr("found", content.getvalue())
    for command in (["test"], ["fit", "--model.steps", 8]):
        assert f"{chunk} holds more than tensors and plain values" in fails(*command, "--run", run)
    assert not (workdir / "ran").exists()


def test_a_folder_where_a_file_is_to_be_written(fails, run):
    (run / "hparams.yaml").unlink(missing_ok=True)
    (run / "hparams.yaml").mkdir()
    assert "hparams.yaml: Is a directory" in fails("fit", "--run", run, "--model.steps", 8)


def test_truncated_chunk(fails, run):
    (chunk,) = (run / "chunks").iterdir()
    chunk.write_bytes(chunk.read_bytes()[:-2000])
    assert f"{chunk} is damaged" in fails("test", "--run", run)


def test_unwritable_log_folder(fails, workdir):
    (workdir / "logs").write_text("a file is in the way")
    assert "the run's folder cannot be written" in fails("fit", "--config", "ok.yaml")


def test_full_disk_keeps_the_chunk_under_way(fails, workdir, monkeypatch):
    write, calls = Path.write_bytes, []

    def full(self, content):
        calls.extend([self] if self.name == "chunk_0.under_way.zip" else [])
        if len(calls) > 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(self, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    said = fails("fit", "--config", "ok.yaml", "--checkpoint.every_n_steps", "2")
    assert "chunk_0.under_way.zip: the disk is full or limited (" in said
    assert "what was saved before is whole" in said
    run = workdir / "logs" / "ok" / "version_0"
    assert [path.name for path in (run / "chunks").iterdir()] == ["chunk_0.under_way.zip"]
    assert steps_made(run) == 2


def test_out_of_memory_goes_on_and_says_so(cli, workdir, tiny_lm, monkeypatch, caplog):
    (workdir / "ok.yaml").write_text(CONFIG)
    features = FrozenLM.features

    def small_device(self, inputs_embeds, *args):
        if inputs_embeds.shape[0] > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return features(self, inputs_embeds, *args)

    monkeypatch.setattr(FrozenLM, "features", small_device)
    cli("fit", "--config", "ok.yaml", "--lm", tiny_lm)
    assert "out of memory with 4 prompts at once; going on with 2 at once" in caplog.text


def test_out_of_memory_with_one_prompt(fails, monkeypatch):
    def tiny_device(self, inputs_embeds, *args):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(FrozenLM, "features", tiny_device)
    monkeypatch.setattr(FrozenLM, "_head_is_linear", lambda self, probe, logits: True)
    assert "out of memory with a single prompt" in fails("fit", "--config", "ok.yaml")


def test_an_lm_that_gives_nan_only(fails, monkeypatch):
    features = FrozenLM.features
    monkeypatch.setattr(FrozenLM, "_head_is_linear", lambda self, probe, logits: True)
    monkeypatch.setattr(FrozenLM, "features", lambda self, *args: features(self, *args) * torch.nan)
    assert "no search gave a finite KL" in fails("fit", "--config", "ok.yaml")


def test_ctrl_c_saves_and_says_how_to_resume(cli, workdir, tiny_lm, monkeypatch):
    (workdir / "ok.yaml").write_text(CONFIG)
    started = SearchCheckpoint.on_train_start

    def interrupted(self, trainer, pl_module):
        started(self, trainer, pl_module)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(SearchCheckpoint, "on_train_start", interrupted)
    said = cli("fit", "--config", "ok.yaml", "--lm", tiny_lm, code=130)
    assert said.splitlines()[-1].endswith("Resume with: lit_prompt fit --run logs/ok/version_0")
    monkeypatch.undo()
    monkeypatch.chdir(workdir)
    assert "lit_prompt test --run logs/ok/version_0" in cli("fit", "--run", "logs/ok/version_0")


def test_a_fit_that_is_refused_at_once_leaves_no_version_behind(fails, workdir):
    (workdir / "file.yaml").write_text(CONFIG.replace("OneHot", "FromFile").replace("count: 4", "path: none.jsonl"))
    assert "none.jsonl: no such file" in fails("fit", "--config", "file.yaml")
    assert not list(workdir.glob("logs/file/*"))


def test_the_line_stands_below_what_was_printed_where_both_go_to_one_file():
    program = (
        "import sys\nfrom lit_prompt.errors import InputError, shown_errors\n"
        "with shown_errors(''):\n    sys.stdout.write('a bar')\n    sys.stdout.flush()\n    print()\n"
        "    raise InputError('a mistake')"
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    both = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "env": environment}
    ended = subprocess.run([sys.executable, "-c", program], text=True, check=False, **both)
    assert ended.stdout == "a bar\nlit_prompt: error: a mistake\n"
    assert ended.returncode == 2
