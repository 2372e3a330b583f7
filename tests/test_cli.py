"""The command, from the first help to the result files, on a tiny LM."""

import re
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import scipy.stats
import torch
from safetensors import safe_open
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import AutoModelForCausalLM, AutoTokenizer

import lit_prompt
from lit_prompt.data import TargetSet
from lit_prompt.models.floors import Floors
from lit_prompt.records.results import SCHEMA
from lit_prompt.results.text import as_json
from tests.conftest import EMBEDDED_LLAMA, REPOSITORY

TARGETS_COMMANDS = ("build", "show", "validate")
CONFIG = """
model:
  class_path: SoftPrompt
  init_args: {length: 3, steps: 12}
data:
  chunk_size: 4
  families:
    - class_path: EntropyMatched
      init_args: {entropies: 3, per_entropy: 2}
    - class_path: OneHot
      init_args: {count: 3}
"""


HARD = """
model:
  class_path: HardPrompt
  init_args: {length: 4, steps: 4, before: The king, searcher: {class_path: GCG, init_args: {width: 16}}}
data:
  chunk_size: 2
  families:
    - class_path: EntropyMatched
      init_args: {entropies: [2.0, 4.0], per_entropy: 2}
"""


@pytest.fixture
def run(cli, workdir, tiny_lm):
    """A finished fit's folder, relative to the current one."""
    (workdir / "small.yaml").write_text(CONFIG)
    said = cli("fit", "--config", "small.yaml", "--lm", tiny_lm)
    assert "lit_prompt test --run logs/small/version_0" in said
    return Path("logs/small/version_0")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        ["report", "--help"],
        ["targets"],
        ["floor", "--help"],
        *(["targets", name, "--help"] for name in TARGETS_COMMANDS),
    ],
)
def test_help_and_version_import_nothing_heavy(arguments):
    heavy = "print(any(m in __import__('sys').modules for m in ('torch', 'lightning', 'transformers', 'yaml')))"
    code = f"from lit_prompt.main import main\ntry: main({arguments!r})\nexcept SystemExit: pass\n{heavy}"
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert said.splitlines()[-1] == "False"
    assert len(said.splitlines()) > 10 or arguments == ["--version"]


def test_the_long_version_says_what_a_report_of_a_fault_needs():
    command = [sys.executable, "-m", "lit_prompt", "--version", "--verbose"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert said[0] == f"lit_prompt {lit_prompt.__version__}"
    for name in ("Python ", "torch ", "lightning ", "transformers ", "jsonargparse "):
        assert any(line.startswith(name) and line[len(name)].isdigit() for line in said), name


@pytest.mark.parametrize(("arguments", "first"), [(["fti"], "no command 'fti'; did you mean 'fit'?"), (["--lm"], "no")])
def test_a_typo_of_a_command_is_answered_at_once(arguments, first):
    heavy = "print(stop.code, 'torch' in __import__('sys').modules)"
    code = f"from lit_prompt.main import main\ntry: main({arguments!r})\nexcept SystemExit as stop: {heavy}"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["2", "False"]
    assert done.stderr.startswith(f"lit_prompt: error: {first}")
    assert (
        "its commands are fit, test, validate, predict, find, report, export, score, shortest, floor, targets, "
        "pretrain, completion" in done.stderr
    )
    assert done.stderr.count("\n") == 1


def test_the_command_stands_first(cli):
    said = cli("--config", "my config.yaml", "fit", "--model.steps=3", code=2)
    assert said == (
        "lit_prompt: error: the command stands first: lit_prompt fit --config 'my config.yaml' --model.steps=3\n"
    )


def test_the_package_runs_as_a_module():
    assert subprocess.run([sys.executable, "-m", "lit_prompt", "--version"], capture_output=True).returncode == 0


def test_results_are_recomputed_from_the_saved_prompts(cli, run, tiny_lm):
    said = cli("test", "--run", run)
    assert str(run / "results.parquet") in said
    table = pq.read_table(run / "results.parquet")
    assert table.schema.names == SCHEMA.names
    assert len(table) == 9
    assert (run / "kl_vs_entropy.png").stat().st_size > 10_000
    targets = TargetSet(run / "targets")
    batch = targets.batch(range(9))
    lm = AutoModelForCausalLM.from_pretrained(tiny_lm, dtype=torch.float32).eval()
    with safe_open(run / "prompts.safetensors", "pt") as prompts, torch.no_grad():
        assert prompts.metadata()["lm_fingerprint"] == table["lm_fingerprint"][0].as_py()
        for i, row in enumerate(table.to_pylist()):
            assert row["target_id"] == batch.target_id[i]
            prompt = prompts.get_tensor(row["target_id"]).unsqueeze(0)
            assert prompt.shape == (1, 3, 32)
            q = lm(inputs_embeds=prompt).logits[0, -1].double().softmax(-1).numpy()
            p = batch.log_probs[i].double().exp().numpy()
            assert row["kl"] == pytest.approx(scipy.stats.entropy(p, q), abs=1e-5)
            assert row["entropy"] == pytest.approx(scipy.stats.entropy(p), abs=1e-6)
            assert row["prompt_entropy"] == pytest.approx(scipy.stats.entropy(q), abs=1e-5)
            assert row["forward_passes"] == row["steps"] == 12


def test_nothing_is_ever_overwritten(cli, run, tiny_lm):
    cli("test", "--run", run)
    first = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    cli("test", "--run", run)
    cli("fit", "--config", "small.yaml", "--lm", tiny_lm)
    assert {path: path.read_bytes() for path in first} == first
    assert pq.read_table(run / "results-1.parquet") == pq.read_table(run / "results.parquet")
    assert (run.parent / "version_1" / "config.yaml").is_file()


def test_predict_shows_target_and_reached_probability(cli, run):
    said = cli("predict", "--run", run)
    assert "one_hot/0/" in said
    rows = pq.read_table(run / "predictions.parquet").to_pylist()
    assert {row["target_id"] for row in rows} == set(TargetSet(run / "targets").target_id)
    assert all(0.0 <= row["reached_probability"] <= 1.0 for row in rows)


def test_predict_says_which_tokens_carry_the_kl(cli, run):
    said = cli("predict", "--run", run)
    rows = pq.read_table(run / "predictions.parquet").to_pylist()
    assert said.count("missing ") == said.count("excess ") == 9
    assert all(row["token_kl"] <= row["kl"] + 1e-9 for row in rows)
    assert all(0.0 < row["wrong_mass"] <= 1.0 for row in rows)


def test_floors_are_kept_and_nothing_reached_is_below(cli, run):
    assert not (run.parent.parent / "floors").exists()  # a search needs none
    cli("validate", "--run", run)
    assert not (run.parent.parent / "floors").exists()  # it writes nothing
    cli("test", "--run", run)
    (file,) = (run.parent.parent / "floors").iterdir()
    kept = file.read_bytes()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Floors, "_solve", lambda *_: pytest.fail("solved twice"))
        cli("test", "--run", run)
        floor = [line.split()[-4] for line in cli("validate", "--run", run).splitlines() if line.startswith(" random")]
    assert "-" not in floor
    assert file.read_bytes() == kept
    rows = pq.read_table(run / "results.parquet").to_pylist()
    floors = {row["kl_floor"] for row in pq.read_table(file).to_pylist()}
    for row in rows:
        assert row["kl_floor"] in floors
        assert row["excess"] == pytest.approx(row["kl"] - row["kl_floor"])
        assert row["excess"] >= 0.0
        assert row["kl_best_random"] >= row["kl_floor"]
        assert row["kl_best_natural"] >= row["kl_floor"]


def test_floors_are_switched_off_and_cut_short(cli, run, caplog):
    cli("test", "--run", run, "--floors", "false")
    assert pq.read_table(run / "results.parquet")["kl_floor"].null_count == 9
    cli("test", "--run", run, "--floor_seconds", 0)
    assert "floors: 4 of 4 are lower than they could be" in caplog.text
    early = pq.read_table(run / "results-1.parquet").to_pylist()
    cli("test", "--run", run)  # what was cut short is solved again
    late = pq.read_table(run / "results-2.parquet").to_pylist()
    assert all(0.0 <= a["kl_floor"] <= b["kl_floor"] + 1e-3 for a, b in zip(early, late, strict=True))
    assert any(a["kl_floor"] < b["kl_floor"] - 1e-3 for a, b in zip(early, late, strict=True))


def test_floor_command(cli, workdir, tiny_lm, make_lm):
    (workdir / "small.yaml").write_text(CONFIG)
    said = cli("floor", "--config", "small.yaml", "--lm", tiny_lm)
    assert "logs/small/floors.parquet" in said
    coarse = pq.read_table("logs/small/floors.parquet").to_pylist()
    cli("floor", "--config", "small.yaml", "--lm", tiny_lm, "--tolerance", "1e-6", "--out", "fine.parquet")
    fine = pq.read_table("fine.parquet").to_pylist()
    assert len(fine) == len(coarse) == 9
    assert all(0 <= b["kl_floor"] - a["kl_floor"] + 1e-9 <= 1.1e-3 for a, b in zip(coarse, fine, strict=True))
    assert all(row["kl_sphere"] >= row["kl_floor"] for row in fine)
    assert sorted(path.name for path in Path("logs/small").iterdir()) == ["floors.parquet"]
    for mistake in (["--tolerance", "0"], ["--tolerance", "inf"], ["--tolerance", "x"], ["--out", "fine.parquet"]):
        assert "lit_prompt: error: " in cli("floor", "--config", "small.yaml", "--lm", tiny_lm, *mistake, code=2)
    Path("file").write_text("")
    blocked = cli("floor", "--config", "small.yaml", "--lm", tiny_lm, "--out", "file/a/x.parquet", code=2)
    assert "--out: file/a/x.parquet cannot be written (Not a directory)" in blocked
    assert "cannot be written" in cli("floor", "--config", "small.yaml", "--lm", tiny_lm, "--out", "x" * 300, code=2)
    refused = cli("floor", "--config", "small.yaml", "--lm", make_lm("gemma2"), "--out", "new/x.parquet", code=2)
    assert not Path("new").exists()
    assert "no certified floor and no lift: its logits are not a linear function" in refused


def test_a_tilde_is_the_users_home(cli, workdir, tiny_lm, monkeypatch):
    (workdir / "small.yaml").write_text(CONFIG)
    (workdir / "home").mkdir()
    monkeypatch.setenv("HOME", str(workdir / "home"))
    cli("floor", "--config", "small.yaml", "--lm", tiny_lm, "--out=~/floors.parquet")
    assert pq.read_table("home/floors.parquet").num_rows == 9
    assert not Path("~").exists()


def test_an_lm_without_floors_is_searched_all_the_same(cli, workdir, make_lm, caplog):
    (workdir / "small.yaml").write_text(CONFIG)
    said = cli("fit", "--config", "small.yaml", "--lm", make_lm("gemma2"))
    cli("test", "--run", "logs/small/version_0")
    assert "no certified floor" in caplog.text
    assert "no floor holds" not in caplog.text  # which is said of prompts that have lost theirs
    table = pq.read_table("logs/small/version_0/results.parquet")
    assert table["kl_floor"].null_count == table["excess"].null_count == 9
    assert table["kl"].null_count == table["kl_best_random"].null_count == 0
    assert said.count("no certified floor") <= 1


def test_validate_prints_and_writes_nothing(cli, run):
    before = set(run.rglob("*"))
    assert "KL(target || LM) in nats" in cli("validate", "--run", run)
    assert set(run.rglob("*")) == before


def test_tensorboard_holds_every_tab(cli, run):
    cli("test", "--run", run)
    events = EventAccumulator(str(run), size_guidance={"tensors": 0}).Reload()
    tags = events.Tags()
    for name in ("kl_median", "kl_p10", "kl_p90", "random/kl_median", "one_hot/kl_median"):
        assert f"curve/{name}" in tags["scalars"]
        assert f"train/{name}" in tags["scalars"]
    assert [event.step for event in events.Scalars("curve/kl_median")] == list(range(12))
    curves = [tag for tag in tags["scalars"] if not tag.startswith("hp/")]
    assert all(len(events.Scalars(tag)) > 1 for tag in curves)  # a single point is no curve
    (means,) = events.Tensors("test_means/text_summary")
    table = means.tensor_proto.string_val[0].decode()
    measures = table.splitlines()[0].strip("| ").split(" | ")[1:]
    groups = [line.split(" | ")[0] for line in table.splitlines()]
    assert {"kl", "reverse_kl", "js", "tv", "entropy"} <= set(measures)
    assert {"| all", "| `random`", "| `one_hot`"} <= set(groups)
    assert {"final/kl", "final/prompt_norm"} <= set(tags["histograms"])
    assert {"target_against_reached", "kl_against_entropy"} <= set(tags["images"])
    assert "config/text_summary" in tags["tensors"]
    assert "token_errors/text_summary" in tags["tensors"]
    median = pq.read_table(run / "results.parquet")["kl"].to_pylist()
    assert events.Scalars("hp/kl_median")[-1].value == pytest.approx(sorted(median)[4], abs=1e-5)
    steps = [event.step for event in events.Scalars("hp/kl_median")]
    assert len(set(steps[-2:])) == 1
    assert steps[-1] > 0  # the test's point lies where the fit's does


def test_hard_prompts_from_fit_to_predict(cli, workdir, tiny_lm):
    (workdir / "hard.yaml").write_text(HARD)
    said = cli("fit", "--config", "hard.yaml", "--lm", tiny_lm)
    assert "optimizer" not in said
    run = Path("logs/hard/version_0")
    said = cli("test", "--run", run)
    table = pq.read_table(run / "results.parquet")
    assert table.schema.names == SCHEMA.names
    assert table["method"].to_pylist() == ["gcg"] * 4
    batch = TargetSet(run / "targets").batch(range(4))
    lm = AutoModelForCausalLM.from_pretrained(tiny_lm, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(tiny_lm)
    with safe_open(run / "prompts.safetensors", "pt") as prompts, torch.no_grad():
        assert prompts.metadata()["before"] == "The king"
        for i, row in enumerate(table.to_pylist()):
            ids = prompts.get_tensor(row["target_id"])
            assert ids.dtype == torch.int64
            assert ids.shape == (4,)
            pasted = tokenizer("The king" + row["prompt_text"], add_special_tokens=False)["input_ids"]
            assert pasted == tokenizer("The king")["input_ids"] + ids.tolist()
            q = lm(torch.tensor([pasted])).logits[0, -1].double().softmax(-1).numpy()
            kl = scipy.stats.entropy(batch.log_probs[i].double().exp().numpy(), q)
            assert row["kl"] == pytest.approx(kl, abs=1e-5)
            assert row["kl_text"] == pytest.approx(kl, abs=1e-5)
    assert batch.target_id[0] in cli("predict", "--run", run)
    assert {r["target_id"] for r in pq.read_table(run / "predictions.parquet").to_pylist()} == set(batch.target_id)
    assert "KL(target || LM) in nats" in cli("validate", "--run", run)
    assert "fit --run" not in cli("fit", "--run", run)  # nothing is left to do


def test_ones_own_targets_are_shown_under_their_names_and_in_their_words(cli, workdir, tiny_lm):
    (workdir / "own.jsonl").write_text(
        '{"name": "king", "strings": {" the king": 0.75, " and": 0.25}}\n{"name": "even", "probs": {" three": 1.0}}\n'
    )
    (workdir / "hard.yaml").write_text(HARD.replace("EntropyMatched", "FromFile").replace(
        "{entropies: [2.0, 4.0], per_entropy: 2}", "{path: own.jsonl, name: my, strings: first_tokens}"
    ).replace("length: 4", "objective: JensenShannon, length: 4"))  # fmt: skip
    cli("fit", "--config", "hard.yaml", "--lm", tiny_lm)
    run = Path("logs/hard/version_0")
    said = cli("test", "--run", run)
    rows = pq.read_table(run / "results.parquet").to_pylist()
    for row in rows:
        shown = " +".join(f"{row[name]:.3f}" for name in ("entropy", "kl", "objective_value", "kl_floor"))
        assert re.search(rf"^ {row['target_id']} +{shown} ", said, re.MULTILINE)
        assert as_json(row["prompt_text"]) in said.splitlines()
    assert (run / "target_against_reached.png").stat().st_size > 10_000
    said = cli("predict", "--run", run)
    assert re.search(r"^ ' the king' +' the' +0.7500 ", said, re.MULTILINE)
    assert re.search(r"^missing .*' the king' 0.75 to", said, re.MULTILINE)
    assert all(f"prompt, as JSON: {as_json(row['prompt_text'])}" in said.splitlines() for row in rows)
    found = {row["token"]: row for row in pq.read_table(run / "predictions.parquet").to_pylist()}
    assert (found[" the"]["answer"], found[" three"]["answer"]) == (" the king", None)
    assert found[" the"]["prompt_text"] == rows[0]["prompt_text"]


@pytest.mark.parametrize(
    ("config", "extra", "expected"),
    [
        (HARD, [], ["HardPrompt", "search.GCG", "width: 16"]),
        (HARD, ["--model.searcher.width", "7"], ["search.GCG", "width: 7"]),
        (HARD, ["--model.searcher", "SharedSearch"], ["search.SharedSearch", "share: true"]),
        ("model: HardPrompt\n", ["--model.length", "9"], ["HardPrompt", "length: 9", "readable: true"]),
        ("model: {init_args: {length: 9}}\n", [], ["SoftPrompt", "length: 9"]),
        ("data: {chunk_size: 3}\n", ["--model", "HardPrompt"], ["HardPrompt", "chunk_size: 3"]),
        ("data: {chunk_size: 3}\n", [], ["SoftPrompt", "chunk_size: 3"]),
    ],
)
def test_the_class_of_the_model(cli, workdir, config, extra, expected):
    (workdir / "some.yaml").write_text(config)
    said = cli("fit", "-c", "some.yaml", *extra, "--print_config")
    for text in expected:
        assert text in said
    assert ("optimizer:" in said) == ("SoftPrompt" in expected)  # none of the other class's settings stays behind


def test_overrides_and_print_config(cli, workdir, tiny_lm):
    (workdir / "small.yaml").write_text(CONFIG)
    override = ["--model.length", "2", "--model.optimizer.lr", "0.5", "--data.chunk_size", "3"]
    said = cli("fit", "--config", "small.yaml", "--lm", tiny_lm, *override, "--print_config")
    for line in ("length: 2", "steps: 12", "lr: 0.5", "chunk_size: 3", f"lm: {tiny_lm}"):
        assert line in said
    assert cli("fit", *override, "--lm", tiny_lm, "--print_config", "--config", "small.yaml") == said  # in any order


def test_keys_of_former_versions_are_left_out(cli, workdir, tiny_lm):
    former = CONFIG.replace("steps: 12}", "steps: 12, lm: a, lm_options: {dtype: float16}}")
    former = former.replace("chunk_size: 4", "chunk_size: 4\n  steps: 9\n  lm: b\n  lm_options: null")
    (workdir / "small.yaml").write_text(CONFIG)
    (workdir / "former.yaml").write_text(former)
    expected = cli("fit", "--config", "small.yaml", "--lm", tiny_lm, "--print_config")
    said = cli("fit", "--config", "former.yaml", "--lm", tiny_lm, "--print_config")
    keys = ["model.init_args.lm", "model.init_args.lm_options", "data.lm", "data.lm_options", "data.steps"]
    lines = said.splitlines()
    assert [line for line in lines if line.startswith("lit_prompt: former.yaml: ")] == [lines[-1]]
    assert [note.split()[0] for note in lines[-1].removeprefix("lit_prompt: former.yaml: ").split("; ")] == keys
    assert lines[:-1] == expected.splitlines()
    assert f"lm: {tiny_lm}" in said
    assert said.count("lm_options:") == 1


def test_a_lift_of_a_former_version_is_a_soft_prompt(cli, workdir, tiny_lm):
    data = CONFIG[CONFIG.index("data:") :]
    (workdir / "former.yaml").write_text("model: {class_path: LiftPrompt, init_args: {tolerance: 0.02}}\n" + data)
    said = cli("fit", "--config", "former.yaml", "--lm", tiny_lm, "--print_config")
    assert "LiftPrompt is now SoftPrompt with init.kind lift and a lift_tolerance" in said
    for setting in ("class_path: lit_prompt.SoftPrompt", "length: 1", "kind: lift", "lift_tolerance: 0.02"):
        assert setting in said


def test_a_run_keeps_its_trainer_settings(cli, workdir, tiny_lm):
    (workdir / "small.yaml").write_text(CONFIG + "trainer: {accelerator: cpu, deterministic: true}\n")
    cli("fit", "--config", "small.yaml", "--lm", tiny_lm)
    saved = (workdir / "logs" / "small" / "version_0" / "config.yaml").read_text()
    assert "accelerator: cpu" in saved
    assert "deterministic: true" in saved
    said = cli("fit", "--run", "logs/small/version_0")
    assert "lit_prompt test --run logs/small/version_0" in said
    assert [path.name for path in Path("logs/small").iterdir()] == ["version_0"]


def test_help_of_a_command_is_short_and_shows_our_keys(cli):
    said = cli("fit", "--help")
    assert len(said.splitlines()) < 170
    assert "--data.chunk_size" in said
    assert "--lm_options.dtype" in said
    helps = [
        said,
        cli("fit", "--model.help", "SoftPrompt"),
        cli("fit", "--model.help", "HardPrompt"),
        cli("test", "-h"),
    ]
    assert "kl_tolerance" in helps[1]
    assert "restarts" in helps[2]
    assert not [text for text in helps if "`" in text or ":class:" in text]
    assert "PromptModule," not in said  # it is abstract


def test_fast_dev_run_leaves_nothing_behind(cli, workdir, tiny_lm):
    (workdir / "small.yaml").write_text(CONFIG)
    cli("fit", "--config", "small.yaml", "--lm", tiny_lm, "--trainer.fast_dev_run", "true")
    assert [path.name for path in workdir.iterdir()] == ["small.yaml"]


LOGGERS = {
    "none": ["--trainer.logger", "false"],
    "another": ["--trainer.logger", "CSVLogger", "--trainer.logger.save_dir", "elsewhere"],
}


@pytest.mark.parametrize("logger", LOGGERS)
def test_a_run_is_kept_whatever_its_logger(cli, workdir, tiny_lm, logger):
    (workdir / "small.yaml").write_text(CONFIG)
    said = cli("fit", "--config", "small.yaml", "--lm", tiny_lm, *LOGGERS[logger])
    run = Path("logs/small/version_0")
    assert f"lit_prompt test --run {run}" in said
    assert {path.name for path in run.iterdir()} == {"config.yaml", "targets", "chunks", "prompts.safetensors"}
    cli("test", "--run", run)
    assert [path.suffix for path in Path("logs/floors").iterdir()] == [".parquet"]
    assert pq.read_table(run / "results.parquet")["kl"].null_count == 0
    assert (run / "prompts.safetensors").is_file()
    cli("predict", "--run", run)
    assert (run / "predictions.parquet").is_file()
    assert "lit_prompt test --run" in cli("fit", "--run", run)
    assert [path.name for path in run.parent.iterdir()] == ["version_0"]


def test_where_runs_go(cli, workdir, tiny_lm, monkeypatch):
    (workdir / "small.yaml").write_text(CONFIG)
    monkeypatch.setenv("HOME", str(workdir / "home"))
    fit = ["fit", "--config", "small.yaml", "--lm", tiny_lm, "--model.steps", "2"]
    places = {"a b": ["--logs", "a b"], "root": ["--trainer.default_root_dir", "root"], "home/c": ["--logs=~/c"]}
    for place, options in places.items():
        said = cli(*fit, *options)
        assert (workdir / place / "small" / "version_0" / "prompts.safetensors").is_file()
    assert f"lit_prompt test --run {workdir / 'home/c/small/version_0'}" in said
    said = cli("test", "--run", "a b/small/version_0")
    assert (workdir / "a b" / "floors").is_dir()
    assert "lit_prompt predict --run 'a b/small/version_0'" in said  # what is printed can be pasted
    assert not Path("logs").exists()


def test_paths_of_settings_may_begin_at_home(cli, workdir, tiny_lm, monkeypatch):
    monkeypatch.setenv("HOME", str(workdir / "home"))
    (workdir / "home").mkdir()
    (workdir / "home" / "lm").symlink_to(tiny_lm)
    (workdir / "home" / "t.jsonl").write_text('{"probs": {"a": 0.5, "b": 0.5}}\n')
    (workdir / "home" / "t.txt").write_text("Once upon a time there was a king who had three sons.\n")
    families = [
        "{class_path: FromFile, init_args: {path: ~/t.jsonl}}",
        "{class_path: FromLM, init_args: {lm: ~/lm, contexts: {path: ~/t.txt}, count: 1, partners: false}}",
    ]
    config = "lm: ~/lm\nlogs: ~/runs\nmodel: {init_args: {steps: 2}}\n"
    config += f"data: {{families: [{', '.join(families)}]}}\n"
    (workdir / "home" / "c.yaml").write_text(config)
    cli("fit", "--config=~/c.yaml")
    cli("targets", "validate", "~/t.jsonl", "--lm=~/lm")
    cli("fit", "--config=~/c.yaml", "--data.load=~/runs/c/version_0/targets")
    assert (workdir / "home" / "runs" / "c" / "version_1" / "prompts.safetensors").is_file()
    assert not Path("~").exists()


def test_the_first_lines_say_what_is_searched(cli, workdir, tiny_lm):
    (workdir / "small.yaml").write_text(CONFIG)
    said = cli("fit", "--config", "small.yaml", "--lm", tiny_lm, "--model.steps", "2").splitlines()
    assert said[:4] == [
        f"LM        {tiny_lm}",
        "device    cpu",
        "targets   9, 4 at a time",
        "folder    logs/small/version_0",
    ]
    assert "lit_prompt fit small.yaml: PyTorch is being loaded" in said


def test_a_fit_of_some_chunks_says_so_and_goes_on(cli, workdir, tiny_lm):
    (workdir / "small.yaml").write_text(CONFIG)
    said = cli("fit", "--config", "small.yaml", "--lm", tiny_lm, "--trainer.max_epochs", "2")
    assert "8 of 9 targets, as trainer.max_epochs is 2; go on to the others with" in said
    command = said.split("go on to the others with\n")[1].split()
    said = cli(*command[1:6])
    assert "of 9 targets" not in said
    cli("test", "--run", "logs/small/version_0")
    assert pq.read_table("logs/small/version_0/results.parquet")["kl"].null_count == 0


@pytest.mark.parametrize("command", ["test", "validate", "predict"])
def test_help_of_an_evaluation_is_its_own(cli, command):
    said = cli(command, "--help")
    assert f"usage: lit_prompt {command} " in said
    assert "every target of a run" in " ".join(said.split())
    for foreign in ("--model", "--data.", "--checkpoint", "evaluation epoch", "`", '"best"'):
        assert foreign not in said


@pytest.mark.parametrize("config", sorted(path.name for path in (REPOSITORY / "configs").glob("*.yaml")))
def test_every_shipped_config_runs(cli, workdir, tiny_lm, chat_lm, config):
    # the user's own targets name words that the tiny tokenizer does not have
    lm = (
        EMBEDDED_LLAMA
        if config in ("die.yaml", "hard_die.yaml", "served_die.yaml", "survey.yaml", "wordings.yaml")
        else tiny_lm
    )
    lm = chat_lm if config == "survey_chat.yaml" else lm
    (workdir / "data").symlink_to(REPOSITORY / "data")
    # these ask for more entropy than the tiny vocabulary can have
    high = config in ("hub_gpt2.yaml", "hard.yaml", "hard_hotflip.yaml", "mixture.yaml")
    extra = ["--data.families.init_args.entropies", "3"] if high else []
    # and one a component
    cli("fit", "--config", REPOSITORY / "configs" / config, "--lm", lm, "--model.steps", 4, *extra)
    run = Path("logs") / config.removesuffix(".yaml") / "version_0"
    cli("test", "--run", run)
    table = pq.read_table(run / "results.parquet")
    assert table["kl"].null_count == 0
    assert len(table) == len(TargetSet(run / "targets"))
