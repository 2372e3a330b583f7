"""Soft prompts projected to tokens: where a hard search starts, and what is lost."""

import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
import scipy.stats
import torch
import transformers
from safetensors.torch import load_file, save_file
from scipy.spatial.distance import cdist

from lit_prompt.data import TargetSet
from lit_prompt.data.families import EntropyMatched, OneHot
from lit_prompt.errors import InputError
from lit_prompt.lm import AllowedTokens, FrozenLM, LMOptions, load_causal_lm
from lit_prompt.models.soft_run import SoftRun
from lit_prompt.search import SharedSearch, TokenStart

LENGTH = 3
CONFIG = """
model:
  class_path: SoftPrompt
  init_args: {length: 3, steps: 15, before: The king}
data:
  families:
    - class_path: EntropyMatched
      init_args: {entropies: [1.0, 4.0], per_entropy: 2}
"""
HARD = """
model:
  class_path: HardPrompt
  init_args:
    length: 3
    steps: 2
    before: The king
    tokens: {characters: any}
    searcher: {class_path: SharedSearch, init_args: {width: 4, top_k: 16}}
    start: {kind: soft, soft_run: logs/soft/version_0}
"""


def saved(path, lm, prompts):
    path.mkdir(parents=True, exist_ok=True)
    save_file(prompts, path / "prompts.safetensors", {"lm_fingerprint": lm.fingerprint, "lm": "that one"})
    return str(path)


@pytest.fixture
def lm(tiny_lm):
    return FrozenLM(load_causal_lm(str(tiny_lm), LMOptions()))


@pytest.fixture
def drawn(lm):
    """A soft prompt that is near to no token."""
    return torch.randn(LENGTH, lm.embedding_dim, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("architecture", ["llama", "gemma", "opt"])
def test_projections_are_the_nearest_allowed_tokens(make_lm, tmp_path, architecture):
    lm = FrozenLM(load_causal_lm(str(make_lm(architecture)), LMOptions()))
    prompt = torch.randn(LENGTH, lm.embedding_dim, generator=torch.Generator().manual_seed(0))
    allowed = torch.arange(1, 320, 3)
    found = SoftRun(saved(tmp_path, lm, {"t": prompt}), LENGTH, lm, ["t"]).projected("t", lm, allowed)
    table = lm.embed(allowed).double().numpy()
    for ids, metric in zip(found, ("cosine", "euclidean"), strict=True):
        expected = cdist(prompt.double().numpy(), table, metric).argmin(1)
        np.testing.assert_array_equal(ids.numpy(), allowed[expected].numpy())


def test_the_newest_prompts_are_taken(lm, tmp_path, drawn):
    folder = saved(tmp_path, lm, {"t": drawn})
    about = {"lm_fingerprint": lm.fingerprint}
    save_file({"t": drawn + 1}, tmp_path / "prompts-1.safetensors", about)
    assert torch.equal(SoftRun(folder, LENGTH, lm, ["t"]).embeddings("t"), drawn + 1)


@pytest.mark.parametrize("architecture", ["llama", "gemma"])
def test_tokens_embeddings_are_those_tokens_without_a_gap(search_hard, make_lm, tmp_path, architecture):
    folder = make_lm(architecture)
    lm = FrozenLM(load_causal_lm(str(folder), LMOptions()))
    families = [EntropyMatched([3.0], 4)]
    ids = {f"random/H3.000/{i}": torch.randint(1, 320, (LENGTH,)) for i in range(4)}
    prompts = {name: lm.embed(own).float().contiguous() for name, own in ids.items()}
    start = TokenStart("soft", soft_run=saved(tmp_path / "run", lm, prompts))
    settings = {"length": LENGTH, "steps": 1, "searcher": SharedSearch(1, 1), "start": start}
    settings["tokens"] = AllowedTokens("any")
    module = search_hard(folder, families, readable=False, max_forward_passes=1, **settings)
    columns, _ = module.evaluator.columns(module.data.targets.batch(range(4)), module.results)
    assert module.results.prompts[:, 0].tolist() == [ids[name].tolist() for name in columns["target_id"]]
    assert columns["kl_projected"] == pytest.approx(columns["kl_soft"], abs=1e-9)
    assert columns["kl"] == pytest.approx(columns["kl_soft"], abs=1e-9)


def test_the_gap_is_that_of_the_saved_files(cli, workdir, tiny_lm, lm):
    (workdir / "soft.yaml").write_text(CONFIG)
    (workdir / "hard.yaml").write_text(HARD)
    cli("fit", "--config", "soft.yaml", "--lm", tiny_lm)
    targets = "targets"
    shutil.copytree("logs/soft/version_0/targets", targets)
    cli("fit", "--config", "hard.yaml", "--lm", tiny_lm, "--data.load", targets)
    said = cli("test", "--run", "logs/hard/version_0")
    assert "projection gap" in said
    assert "projection gap" not in cli("test", "--run", "logs/soft/version_0")

    rows = pq.read_table("logs/hard/version_0/results.parquet").to_pylist()
    soft = load_file("logs/soft/version_0/prompts.safetensors")
    found = load_file("logs/hard/version_0/prompts.safetensors")
    plain = transformers.AutoModelForCausalLM.from_pretrained(tiny_lm).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_lm)
    table = plain.get_input_embeddings().weight.detach()
    before = table[tokenizer("The king")["input_ids"]]
    ordinary = np.array([i for i in range(len(table)) if i not in tokenizer.all_special_ids])
    whole = TargetSet(workdir / targets)
    log_p = whole.batch(range(len(whole))).log_probs.double()

    def kl(prompt, p):
        with torch.no_grad():
            q = plain(inputs_embeds=torch.cat([before, prompt]).unsqueeze(0)).logits[0, -1].double().softmax(-1)
        return scipy.stats.entropy(p.exp().numpy(), q.numpy())

    for row, p in zip(rows, log_p, strict=True):
        prompt = soft[row["target_id"]]
        distances = [cdist(prompt.numpy(), table[ordinary].numpy(), metric) for metric in ("cosine", "euclidean")]
        projected = [kl(table[ordinary[distance.argmin(1)]], p) for distance in distances]
        assert row["kl_soft"] == pytest.approx(kl(prompt, p), abs=1e-5)
        assert row["kl_projected"] == pytest.approx(min(projected), abs=1e-5)
        assert row["kl"] == pytest.approx(kl(table[found[row["target_id"]]], p), abs=1e-5)
        assert row["kl_soft"] < row["kl_projected"]

    shutil.rmtree("logs/soft")
    *_, error = cli("test", "--run", "logs/hard/version_0", code=2).splitlines()
    assert "logs/hard/version_0/config.yaml: model.start.soft_run: logs/soft/version_0 holds no prompts" in error


def test_the_start_is_the_better_projection(search_hard, tiny_lm, lm, tmp_path):
    names = [f"random/H3.000/{i}" for i in range(6)]
    generator = torch.Generator().manual_seed(1)
    prompts = {name: torch.randn(LENGTH, lm.embedding_dim, generator=generator) for name in names}
    start = TokenStart("soft", soft_run=saved(tmp_path / "run", lm, prompts))
    settings = {"length": LENGTH, "steps": 1, "start": start, "max_forward_passes": 1}
    module = search_hard(tiny_lm, [EntropyMatched([3.0], 6)], readable=False, **settings)
    columns, _ = module.evaluator.columns(module.data.targets.batch(range(6)), module.results)
    assert (module.results.steps == 0).all()
    assert columns["kl"] == pytest.approx(columns["kl_projected"], abs=1e-6)


# ---- trouble ----


def message(*args):
    with pytest.raises(InputError) as raised:
        SoftRun(*args)
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize("exists", [True, False])
def test_no_prompts_in_the_folder(lm, tmp_path, exists):
    folder = tmp_path if exists else tmp_path / "none"
    expected = f"model.start.soft_run: {folder} holds no prompts; run lit_prompt fit --run {folder} to its end first"
    assert message(str(folder), LENGTH, lm, ["t"]) == expected


def test_another_lm(lm, make_lm, tmp_path, drawn):
    other = FrozenLM(load_causal_lm(str(make_lm(seed=1)), LMOptions()))
    folder = saved(tmp_path, other, {"t": drawn})
    assert "these prompts belong to another LM, that one; give the same --lm" in message(folder, LENGTH, lm, ["t"])


def test_another_length(lm, tmp_path, drawn):
    folder = saved(tmp_path, lm, {"t": drawn})
    expected = "holds prompts of the shapes [(3, 32)], wanted are 4 embeddings of 32; give"
    assert expected in message(folder, 4, lm, ["t"])


def test_tokens_are_no_soft_prompts(lm, tmp_path):
    folder = saved(tmp_path, lm, {"t": torch.arange(LENGTH)})
    assert "wanted are 3 embeddings of 32" in message(folder, LENGTH, lm, ["t"])


@pytest.mark.parametrize("content", [b"", b"no tensors", b"\xff" * 100])
def test_a_damaged_file(lm, tmp_path, content):
    (tmp_path / "prompts.safetensors").write_bytes(content)
    said = message(str(tmp_path), LENGTH, lm, ["t"])
    assert said.startswith(f"{tmp_path / 'prompts.safetensors'}: cannot be read (")


def test_a_missing_target_is_told_before_anything_is_searched(search_hard, tiny_lm, lm, tmp_path, drawn):
    start = TokenStart("soft", soft_run=saved(tmp_path, lm, {"random/H3.000/0": drawn}))
    with pytest.raises(InputError, match=r"has no prompt for the target one_hot/0/.*; give both runs the same data"):
        search_hard(tiny_lm, [EntropyMatched([3.0], 1), OneHot(count=1)], 1, length=LENGTH, start=start)
