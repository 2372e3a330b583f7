"""What an LM gave is used where it would give it again bit for bit, and nowhere else."""

import pytest
import torch

from lit_prompt.lm import FrozenLM, LMCache, LMOptions, Vocabulary, sample_prompts


@pytest.fixture
def load(make_lm):
    def load(architecture="llama", **options):
        return FrozenLM.load(str(make_lm(architecture)), LMOptions(**options), torch.device("cpu"))

    return load


def kept(lm, folder):
    return LMCache(lm, folder).get({"what": "x"})


def test_each_lm_precision_and_machine_has_its_own(load, tmp_path, monkeypatch):
    lm, x = load(), torch.arange(3.0)
    LMCache(lm, tmp_path).put({"what": "x"}, {"x": x})
    assert torch.equal(kept(load(), tmp_path)["x"], x)
    assert kept(load("gpt2"), tmp_path) is None
    assert kept(load(dtype="bfloat16"), tmp_path) is None
    assert [path.name for path in tmp_path.iterdir()] == [lm.fingerprint]
    for owner, name in (
        (torch, "get_num_threads"), (torch, "get_float32_matmul_precision"), (torch.backends.cpu, "get_cpu_capability"),
    ):  # fmt: skip
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, lambda: 99)
            assert kept(lm, tmp_path) is None
    monkeypatch.setenv("MKL_CBWR", "COMPATIBLE")
    assert kept(lm, tmp_path) is None


def test_texts_are_sampled_once(load, make_lm, tmp_path, monkeypatch):
    lm, vocabulary = load(), Vocabulary.load(str(make_lm("llama")), LMOptions())
    wanted = [(4, 5, 0), (3, 5, 0), (4, 6, 0), (4, 5, 1)]
    fresh = [sample_prompts(lm, vocabulary, *about, LMCache(lm)) for about in wanted]
    first = [sample_prompts(lm, vocabulary, *about, LMCache(lm, tmp_path)) for about in wanted]
    with monkeypatch.context() as patch:
        patch.setattr(lm.model, "generate", lambda *_, **__: pytest.fail("sampled twice"))
        again = [sample_prompts(lm, vocabulary, *about, LMCache(lm, tmp_path)) for about in wanted]
    for a, b, c in zip(fresh, first, again, strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a, c)
    lm.model.generation_config.typical_p = 0.1  # not a part of the fingerprint
    other = sample_prompts(lm, vocabulary, 4, 5, 0, LMCache(lm, tmp_path))
    assert not torch.equal(other, fresh[0])
