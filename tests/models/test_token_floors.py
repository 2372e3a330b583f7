"""Token floors of a run: of which targets, with which number of prompts, and where they are shown."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from lit_prompt.data import TargetSet
from lit_prompt.functional import kl_floor_tokens, log_prompt_count, mixture_floor_tokens, prompt_information
from lit_prompt.functional.token_floor import EPS
from lit_prompt.lm import AllowedTokens, LMOptions, Vocabulary
from lit_prompt.records.results import CURVE_LENGTHS, result_table
from lit_prompt.results.results_shown import print_results
from lit_prompt.results.token_floors_shown import token_floor_told

CONFIG = """
model:
  class_path: HardPrompt
  init_args:
    length: {length}
    steps: 2
    tokens: {{characters: {characters}}}
    readable: false
    searcher: {{class_path: SharedSearch, init_args: {{width: 4, top_k: 16}}}}
    start: {{random_sequences: 2, sampled_texts: 0, drawn_sequences: 1}}
data:
  families:
    - class_path: EntropyMatched
      init_args: {{entropies: [2.0, 4.0, 5.0], per_entropy: 2}}
    - class_path: Outlier
      init_args: {{entropies: [4.0], per_entropy: 1}}
    - class_path: UniformSubset
      init_args: {{sizes: [64], per_size: 1}}
    - class_path: OneHot
      init_args: {{count: 1}}
    - class_path: OneHot
      init_args: {{tokens: [5], name: named}}
    - class_path: FromLM
      init_args: {{count: 1, cut: {{min_words: 2, max_words: 6}}}}
"""
#: how many targets that makes, partners among them
COUNT = 14
RANDOM = {"temperature", "random", "outlier", "uniform", "one_hot"}


@pytest.fixture
def tested(cli, workdir, tiny_lm):
    """Searches and tests; what was said, and the records."""

    def run(length=1, characters="any", *options):
        (workdir / "small.yaml").write_text(CONFIG.format(length=length, characters=characters))
        cli("fit", "--config", "small.yaml", "--lm", tiny_lm, *options)
        folder = sorted(Path("logs/small").glob("version_*"))[-1]
        said = cli("test", "--run", folder)
        return said, folder, pq.read_table(folder / "results.parquet").to_pylist()

    return run


def is_random(row):
    return row["family"] in RANDOM and row["partner_of"] is None


def expected(folder, vocabulary, ids, length, claims, shorter=False, components=1):
    """The token floor of each target of a run, by its id, of prompts or of mixtures of some."""
    batch = TargetSet(folder / "targets").batch(range(COUNT))
    information = torch.tensor([prompt_information(ids, length, claims, shorter=shorter)], dtype=torch.float64)
    found = {}
    for name, family, log_p in zip(batch.target_id, batch.family, batch.log_probs, strict=True):
        alike = vocabulary.defined_ids if family == "random" else vocabulary.ordinary_ids
        mask = torch.zeros(1, vocabulary.size, dtype=torch.bool)
        mask[0, alike] = True
        if components == 1:
            found[name] = float(kl_floor_tokens(log_p.unsqueeze(0), mask, information))
            continue
        count = torch.tensor([log_prompt_count(ids, length, shorter)], dtype=torch.float64)
        floors = mixture_floor_tokens(log_p.unsqueeze(0), mask, count, count - information, components)
        found[name] = float(floors)
    return found


def of_random(rows):
    """The rows of random targets by their ids; the others have no token floors."""
    for row in rows:
        if not is_random(row):
            assert [row[key] for key in ("kl_floor_tokens", "excess_tokens", "token_floor_curve")] == [None] * 3
    return {row["target_id"]: row for row in rows if is_random(row)}


@pytest.mark.parametrize(("length", "characters"), [(1, "any"), (2, "ascii")])
def test_random_targets_of_hard_prompts_have_token_floors(tested, tiny_lm, length, characters):
    said, folder, rows = tested(length, characters)
    vocabulary = Vocabulary.load(str(tiny_lm), LMOptions())
    allowed = len(AllowedTokens(characters).ids(vocabulary))
    floors = expected(folder, vocabulary, allowed, length, COUNT)
    curves = [expected(folder, vocabulary, allowed, n, COUNT * len(CURVE_LENGTHS), True) for n in CURVE_LENGTHS]
    assert len(rows) == COUNT
    assert sum(is_random(row) for row in rows) == 9
    for name, row in of_random(rows).items():
        assert row["kl_floor_tokens"] == pytest.approx(floors[name], abs=1e-9)
        assert row["kl"] >= row["kl_floor_tokens"]
        assert row["excess_tokens"] == row["kl"] - max(row["kl_floor"], row["kl_floor_tokens"])
        assert row["excess"] == row["kl"] - row["kl_floor"]
        assert row["token_floor_curve"] == pytest.approx([curve[name] for curve in curves], abs=1e-9)
        assert row["token_floor_curve"] == sorted(row["token_floor_curve"], reverse=True)
    assert max(row["kl_floor_tokens"] or 0.0 for row in rows) > 0.1
    assert "token floor" in said


def test_predictions_have_them_too_and_floors_may_be_unknown(tested, cli):
    _, folder, rows = tested(1, "any", "--floors", "false")
    floors = {row["target_id"]: row["kl_floor_tokens"] for row in rows}
    for row in rows:
        if is_random(row) and row["kl_floor"] is None:
            assert row["excess_tokens"] == row["kl"] - row["kl_floor_tokens"]
    said = cli("predict", "--run", folder)
    for token in pq.read_table(folder / "predictions.parquet").to_pylist():
        assert token["kl_floor_tokens"] == floors[token["target_id"]]
        assert (token["excess_tokens"] is None) == (token["kl_floor_tokens"] is None)
    assert "nats, token floor 0." in said


def test_those_of_mixtures_are_of_as_many_prompts_as_they_may_have(tested, tiny_lm):
    said, folder, rows = tested(1, "any", "--model.components", 2, "--model.steps", 4)
    vocabulary = Vocabulary.load(str(tiny_lm), LMOptions())
    allowed = len(AllowedTokens("any").ids(vocabulary))
    floors, of_one = (expected(folder, vocabulary, allowed, 1, COUNT, components=k) for k in (2, 1))
    claims = COUNT * len(CURVE_LENGTHS)
    curves = [expected(folder, vocabulary, allowed, n, claims, True, 2) for n in CURVE_LENGTHS]
    for name, row in of_random(rows).items():
        assert row["kl_floor_tokens"] == pytest.approx(floors[name], abs=1e-9)
        assert row["kl_floor_tokens"] <= of_one[name]
        assert row["kl"] >= row["kl_floor_tokens"]
        assert row["excess_tokens"] == row["kl"] - row["kl_floor_tokens"]
        assert row["excess"] is None
        assert row["token_floor_curve"] == pytest.approx([curve[name] for curve in curves], abs=1e-9)
    assert max(row["kl_floor_tokens"] or 0.0 for row in rows) > 0.1
    assert "or no mixture of at most so many of them, is below it" in " ".join(said.split())


def test_soft_prompts_have_none(cli, workdir, tiny_lm):
    (workdir / "soft.yaml").write_text("data:\n  families: [{class_path: EntropyMatched, init_args: {entropies: 3}}]\n")
    cli("fit", "--config", "soft.yaml", "--lm", tiny_lm, "--model.steps", 1)
    said = cli("test", "--run", "logs/soft/version_0")
    table = pq.read_table("logs/soft/version_0/results.parquet")
    for name in ("kl_floor_tokens", "excess_tokens", "token_floor_curve"):
        assert table[name].null_count == len(table)
    assert "token floor" not in said


def test_on_another_lm_there_are_none(tested, cli, make_lm):
    _, folder, _ = tested()
    cli("test", "--run", folder, "--lm", make_lm("gpt2"))
    (results,) = folder.glob("on-*/results.parquet")
    table = pq.read_table(results)
    assert table["kl_floor_tokens"].null_count == len(table) > 0


def test_a_kl_below_its_token_floor_is_said_and_no_error(capsys):
    columns = {
        "target_id": ["a/0", "a/1", "a/2"], "family": ["a"] * 3, "entropy": [1.0] * 3, "kl": [0.5, 1.5, 0.1],
        "kl_uniform": [3.0] * 3, "method": ["gcg"] * 3, "prompt_length": [1] * 3, "lm": ["lm"] * 3, "tv": [0.5] * 3,
        "kl_floor_tokens": [1.0, 1.0, None], "split": ["train"] * 3, "weight": [1.0] * 3,
    }  # fmt: skip
    print_results(result_table([columns]))
    assert "1 of 2 KLs are below their token floor." in " ".join(capsys.readouterr().out.split())
    print_results(result_table([columns | {"kl": [1.0, 1.5, 0.1]}]))
    assert "below their token floor" not in " ".join(capsys.readouterr().out.split())
    assert "one in a million" in token_floor_told([])
    assert EPS == 1e-6


def test_the_shortest_command_shows_what_no_prompt_can_reach(cli, workdir, tiny_lm):
    (workdir / "small.yaml").write_text(CONFIG.format(length=1, characters="any"))
    options = ["--config", "small.yaml", "--kl", 1, "--lengths", 2, 1, "--lm", tiny_lm]
    said = cli("shortest", *options)
    folders = sorted(Path("logs/small-shortest").glob("version_*"))
    vocabulary = Vocabulary.load(str(tiny_lm), LMOptions())
    allowed = len(AllowedTokens("any").ids(vocabulary))
    names = [row["target_id"] for row in pq.read_table(folders[0] / "results.parquet").to_pylist() if is_random(row)]
    lines = said.partition("What a prompt of so many tokens cannot")[2].splitlines()
    for length in (1, 2):
        floors = expected(folders[0], vocabulary, allowed, length, 2 * COUNT, True)
        own = np.array([floors[name] for name in names])
        cells = [f"{value:.3f}" for value in np.quantile(own, (0.5, 0.1, 0.9))]
        assert any(line.split() == [str(length), *cells, str(int((own > 1.0).sum()))] for line in lines)
        assert (own > 1.0).any()
    # targets that shorter prompts have left were drawn with the others
    left = TargetSet(folders[0] / "left")
    assert len(left) < COUNT == left.drawn
    floors = expected(folders[0], vocabulary, allowed, 2, COUNT)
    for row in pq.read_table(folders[-1] / "results.parquet").to_pylist():
        if is_random(row):
            assert row["kl_floor_tokens"] == pytest.approx(floors[row["target_id"]], abs=1e-9)
