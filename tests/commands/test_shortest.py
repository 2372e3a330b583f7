"""``lit_prompt shortest``: what each target needed, and what is left of the runs."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
import yaml
from safetensors.torch import load_file

from lit_prompt.commands.shortest import SCHEMA
from lit_prompt.data import TargetSet
from lit_prompt.search.chunk_search import ChunkSearch

HARD = """
model:
  class_path: HardPrompt
  init_args:
    steps: 3
    searcher: {class_path: SharedSearch, init_args: {width: 4, top_k: 16}}
    start: {random_sequences: 2, sampled_texts: 0, drawn_sequences: 1}
data:
  chunk_size: 4
  families:
    - class_path: EntropyMatched
      init_args: {entropies: [0.5, 3.0, 5.5], per_entropy: 2}
"""
SOFT = """
model:
  class_path: SoftPrompt
  init_args: {steps: 6}
data:
  families:
    - class_path: EntropyMatched
      init_args: {entropies: [0.5, 3.0, 5.5], per_entropy: 2}
"""


@pytest.fixture
def shortest(cli, workdir, tiny_lm):
    """Runs the command for a config's text."""

    def run(config, kl, lengths, *options, **expected):
        (workdir / "small.yaml").write_text(config)
        goal = ["--kl", kl, "--lengths", *lengths]
        return cli("shortest", "--config", "small.yaml", *goal, "--lm", tiny_lm, *options, **expected)

    return run


def runs():
    folders = sorted(Path("logs/small-shortest").glob("version_*"))
    return folders, [pq.read_table(folder / "results.parquet").to_pylist() for folder in folders]


def check(goal, lengths):
    """Compares the table with the runs' own results; returns it."""
    folders, results = runs()
    rows = pq.read_table(folders[-1] / "shortest.parquet").to_pylist()
    reached, last = {}, {}
    left = {row["target_id"] for row in results[0]}
    for length, found in zip(lengths, results, strict=False):
        assert {row["target_id"] for row in found} == left  # those that a shorter prompt did for are left out
        assert {row["prompt_length"] for row in found} == {length}
        last |= {row["target_id"]: row for row in found}
        reached |= {row["target_id"]: length for row in found if row["kl"] <= goal}
        left = {row["target_id"] for row in found if row["kl"] > goal}
    assert len(folders) == len(lengths) or not left
    assert {row["target_id"]: row["length"] for row in rows} == {name: reached.get(name) for name in last}
    for row in rows:
        for name in ("kl", "family", "entropy", "prompt_text"):
            assert row[name] == last[row["target_id"]][name]
        assert Path(row["run"]) in folders
    return rows


def one_line(said):
    *others, error = said.splitlines()
    assert error.startswith("lit_prompt: error: ")
    assert not [line for line in others if "Traceback" in line or line.startswith("lit_prompt: error")]
    return error


def test_each_targets_length_is_the_first_that_reached_the_kl(shortest, cli):
    said = shortest(HARD, 2.0, [2, 1, 2])
    rows = check(2.0, [1, 2])
    assert 0 < sum(row["length"] is not None for row in rows) < 6
    assert f"{sum(row['length'] is not None for row in rows)} of 6 targets have one" in said
    for row in rows:
        assert row["target_id"] in said
    assert max(map(len, said.partition("shortest prompt with")[2].splitlines())) <= 80
    folders, results = runs()
    for folder, found in zip(folders, results, strict=True):
        cli("test", "--run", folder)
        assert pq.read_table(folder / "results-1.parquet").to_pylist() == found


def test_prompts_of_mixtures_are_shown_with_their_weights(shortest):
    said = shortest(HARD.replace("steps: 3", "steps: 6\n    components: 2"), 1e-9, [1, 2])
    *_, rows = runs()[1]
    shown = [json.loads(line.partition(" %  ")[2]) for line in said.splitlines() if ' %  "' in line]
    assert shown == [text for row in rows for text in row["component_texts"]]
    kept = pq.read_table(runs()[0][-1] / "shortest.parquet").to_pylist()
    assert [row["weights"] for row in kept] == [row["weights"] for row in rows]
    assert any(len(row["weights"]) == 2 for row in rows)


def test_shorter_prompts_of_other_tokens_are_refused(shortest, cli, tiny_lm):
    shortest(HARD, 1e-9, [1])
    (run,), _ = runs()
    said = cli("fit", "--config", "small.yaml", "--lm", tiny_lm, "--model.length", 2, "--model.start.shorter_run", run,
               "--model.tokens.allow", '[" a", " the"]', code=2)  # fmt: skip
    assert "holds a token that model.tokens does not allow" in one_line(said)
    cli("fit", "--config", "small.yaml", "--lm", tiny_lm, "--model.length", 2, "--model.start.shorter_run", run)


def test_soft_prompts_for_targets_that_were_built_before(shortest, cli, workdir, tiny_lm):
    (workdir / "made.yaml").write_text(HARD)
    cli("targets", "build", "--config", "made.yaml", "--lm", tiny_lm, "--out", "made")
    said = shortest(SOFT, 1.0, [1, 2], "--data.load", "made")
    assert len(check(1.0, [1, 2])) == len(TargetSet(Path("made"))) == 6
    assert "prompt  " not in said.partition("shortest prompt with")[2]
    cli("test", "--run", runs()[0][-1])


def test_each_length_starts_from_the_prompts_of_the_one_before(shortest, monkeypatch):
    begun, init = {}, ChunkSearch.init

    def recorded(search, ids, scores, *args):
        slots = search._problem.slots
        starts = ids if ids.dim() == 2 else ids[torch.arange(len(ids)), scores.argmin(1)]
        for slot, prompt in enumerate(starts):
            begun[slots.name(slot), len(prompt)] = prompt
        return init(search, ids, scores, *args)

    monkeypatch.setattr(ChunkSearch, "init", recorded)
    # the best of many prompts that end with what was found is better than a random one
    bank = "{random_sequences: 2, sampled_texts: 0, drawn_sequences: 1}"
    shortest(HARD.replace(bank, "{kind: random}"), 1e-9, [1, 2, 4])
    folders, _ = runs()
    for folder, length in zip(folders[:2], (2, 4), strict=True):
        prompts = load_file(folder / "prompts.safetensors")
        assert len(prompts) == 6
        for target_id, prompt in prompts.items():
            assert begun[target_id, length][-len(prompt) :].equal(prompt)


def test_soft_prompts_are_the_end_of_longer_ones(shortest):
    still = "{class_path: torch.optim.SGD, init_args: {lr: 0.0}}"
    shortest(SOFT.replace("steps: 6", f"steps: 1, optimizer: {still}"), 1e-9, [1, 2, 4])
    folders, _ = runs()
    shorter, *longer = (load_file(folder / "prompts.safetensors") for folder in folders)
    assert len(longer) == 2
    for prompts in longer:
        for name, prompt in prompts.items():
            assert prompt[-len(shorter[name]) :].equal(shorter[name])
        shorter = prompts


def test_nothing_is_left_to_do(shortest):
    said = shortest(HARD, 100, [2, 3])
    assert {row["length"] for row in check(100, [2])} == {2}
    assert "6 of 6 targets have one" in said
    assert "length 3" not in said


def test_partners_may_be_left_out(shortest):
    outlier = "class_path: Outlier\n      init_args: {entropies: [2.0, 4.0], per_entropy: 2}"
    config = HARD.replace("class_path: EntropyMatched", outlier).replace(
        "      init_args: {entropies: [0.5, 3.0, 5.5], per_entropy: 2}\n", ""
    )
    shortest(config, 2.5, [1, 2])
    check(2.5, [1, 2])


def test_options_are_those_of_fit_and_nothing_is_reached(shortest):
    shortest(SOFT, 1e-9, [1], "--data.chunk_size", 2, "--model.init_args.steps", 1, "--model.init_args.seed=7")
    assert {row["length"] for row in check(1e-9, [1])} == {None}
    (folder,), _ = runs()
    assert pq.read_schema(folder / "shortest.parquet") == SCHEMA
    saved = yaml.safe_load((folder / "config.yaml").read_text())
    assert saved["data"]["chunk_size"] == 2
    assert (saved["model"]["init_args"]["steps"], saved["model"]["init_args"]["seed"]) == (1, 7)


def test_what_is_found_is_kept_when_a_longer_prompt_fails(shortest):
    said = shortest(HARD, 0.01, [1, 100], code=2)
    assert "longer than the LM's context" in one_line(said)
    assert "0 of 6 targets have one" in said
    (path,) = Path("logs/small-shortest").glob("*/shortest.parquet")
    assert pq.read_table(path)["kl"] == pq.read_table(path.parent / "results.parquet")["kl"]


@pytest.mark.parametrize("option", ["--trainer.fast_dev_run=true"])
def test_a_run_without_a_folder_is_refused_before_it_is_searched(shortest, option, monkeypatch):
    monkeypatch.setattr("lightning.Trainer.fit", lambda *args, **kwargs: pytest.fail("searched"))
    assert "a run's folder is kept by this command" in one_line(shortest(HARD, 1, [1], option, code=2))


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["--kl", 1, "--lengths", 1], "shortest: give the search's settings with --config"),
        (["--config", "small.yaml", "--lengths", 1], "shortest: the following arguments are required: --kl"),
        (["--config", "small.yaml", "--kl", 1], "shortest: the following arguments are required: --lengths"),
        (["--config", "small.yaml", "--kl", 1, "--lengths"], "shortest: argument --lengths: expected at least one"),
        (
            ["--config", "small.yaml", "--kl", 1, "--lengths", 0, 2],
            "shortest: --lengths holds 0; a prompt has",
        ),
        (["--config", "small.yaml", "--kl", 1, "--lengths", -1], "shortest: --lengths holds -1"),
        (["--config", "small.yaml", "--kl", 1, "--lengths", 1.5], "shortest: argument --lengths: invalid int value"),
        (["--config", "small.yaml", "--kl", 0, "--lengths", 1], "shortest: --kl is 0; give a number of nats above 0"),
        (["--config", "small.yaml", "--kl", -1, "--lengths", 1], "shortest: --kl is -1"),
        (["--config", "small.yaml", "--kl", "nan", "--lengths", 1], "shortest: --kl is nan"),
        (["--config", "small.yaml", "--kl", "low", "--lengths", 1], "shortest: argument --kl: invalid float value"),
        (["--config", "none.yaml", "--kl", 1, "--lengths", 1], "--config: no file none.yaml"),
        (["--config", "small.yaml", "--kl", 1, "--lengths", 1, "--nothing", 3], "unknown option --nothing"),
        (["--config", "small.yaml", "--kl", 1, "--lengths", 1, "--lm", "none"], "--lm: none is no local folder"),
    ],
)
def test_mistakes_are_one_line(cli, workdir, args, expected):
    (workdir / "small.yaml").write_text(HARD)
    assert expected in one_line(cli("shortest", *args, code=2))
    assert not Path("logs").exists()


def test_help(cli):
    said = cli("shortest", "--help")
    assert "lit_prompt shortest --config configs/hard.yaml" in said
    assert "--kl NATS" in said
