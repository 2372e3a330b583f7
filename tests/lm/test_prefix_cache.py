"""Tokens that go on with cached beginnings give what the whole gives, in every architecture."""

import pytest
import torch
import transformers

from lit_prompt.lm import FrozenLM, LMOptions, load_causal_lm
from tests.conftest import ARCHITECTURES, EMBEDDED_GPT2, EMBEDDED_LLAMA, VOCABULARY

LENGTH = 12
CUTS = range(1, LENGTH)
#: windows that are shorter than the prompt
SLIDING = {
    "mistral": {"sliding_window": 4},
    "gemma2": {"sliding_window": 5},
    "gemma3": {"sliding_window": 5, "layer_types": ["sliding_attention", "full_attention"]},
    "qwen3": {"sliding_window": 4, "layer_types": ["full_attention", "sliding_attention"]},
}


def token_ids(items=5, length=LENGTH, vocabulary=VOCABULARY):
    return torch.randint(vocabulary, (items, length), generator=torch.Generator().manual_seed(1))


def made(architecture, dtype=torch.float32, **changes):
    config = ARCHITECTURES[architecture]()
    config.initializer_range = config.init_std = 0.3
    for name, value in changes.items():
        setattr(config, name, value)
    torch.manual_seed(0)
    return FrozenLM(transformers.AutoModelForCausalLM.from_config(config).to(dtype))


def check(lm, tolerance, ids=None):
    """Every cut of varied prompts, after every position and after the last alone."""
    ids = token_ids() if ids is None else ids
    cache = lm.prefix_cache(ids)
    sequences = torch.tensor([3, 0, 0, 4, 2, 1, 3])
    others = token_ids(8)[1:]
    with torch.no_grad():
        for cut in CUTS:
            whole = torch.cat([ids[sequences, :cut], others[:, cut:]], 1)
            expected = lm.features(lm.embed(whole), every=True)
            found = lm.features_after(cache, sequences, cut, lm.embed(others[:, cut:]), every=True)
            assert found.dtype == expected.dtype
            scale = float(expected.abs().max())
            assert float((found - expected[:, cut:]).abs().max()) <= tolerance * scale, cut
            last = lm.features_after(cache, sequences, cut, lm.embed(others[:, cut:]))
            assert float((last - expected[:, -1]).abs().max()) <= tolerance * scale, cut


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_cached_features_are_the_whole_ones(architecture):
    lm = made(architecture)
    check(lm, 1e-5)
    assert lm.caches_prefixes(LENGTH)


@pytest.mark.parametrize("folder", [EMBEDDED_LLAMA, EMBEDDED_GPT2])
def test_cached_features_of_the_embedded_lms(folder):
    lm = FrozenLM(load_causal_lm(str(folder), LMOptions()))
    check(lm, 1e-5)
    assert lm.caches_prefixes(LENGTH)


@pytest.mark.parametrize(
    ("architecture", "attention"),
    [*((name, "eager") for name in SLIDING), *((name, "sdpa") for name in SLIDING if name != "gemma2")],
)
def test_a_window_shorter_than_the_prompt(architecture, attention):
    lm = made(architecture, _attn_implementation=attention, **SLIDING[architecture])
    wide = made(architecture, _attn_implementation=attention)
    embeddings = lm.embed(token_ids())
    with torch.no_grad():
        assert (lm.features(embeddings) - wide.features(embeddings)).abs().max() > 1e-2  # the window is in force
    check(lm, 1e-5)
    assert lm.caches_prefixes(LENGTH)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gemma3"])
def test_half_precision_agrees_to_its_roundings(architecture, dtype):
    lm = made(architecture, dtype)
    check(lm, 16 * torch.finfo(dtype).eps)
    assert lm.caches_prefixes(LENGTH)


def test_float64_agrees_in_float64():
    check(made("gpt2", torch.float64), 1e-12)


def test_few_sequences_and_single_tokens():
    lm = made("llama")
    ids = token_ids(1)
    cache = lm.prefix_cache(ids)
    found = lm.features_after(cache, torch.tensor([0]), LENGTH - 1, lm.embed(ids[:, -1:]))
    assert found.shape == (1, lm.embedding_dim)
    with torch.no_grad():
        assert torch.allclose(found, lm.features(lm.embed(ids)), atol=1e-5)


def test_a_cache_goes_on_as_often_as_asked():
    lm = made("llama")
    ids = token_ids()
    cache, sequences = lm.prefix_cache(ids), torch.arange(5)
    first = lm.features_after(cache, sequences, 4, lm.embed(ids[:, 4:]))
    lm.features_after(cache, sequences, 9, lm.embed(ids[:, :9]))
    assert torch.equal(lm.features_after(cache, sequences, 4, lm.embed(ids[:, 4:])), first)


def test_bytes_per_position_are_those_of_all_layers():
    cache = made("llama").prefix_cache(token_ids())
    assert cache.bytes_per_position() == 2 * 2 * 2 * 8 * 4  # layers, keys and values, heads, size, float32


@pytest.mark.parametrize("positions", [1, 2, 3])
def test_the_shortest_prompts(positions):
    assert made("llama").caches_prefixes(positions) == (positions > 1)  # a single token has no beginning


UNCACHED = {
    "mamba": lambda: transformers.MambaConfig(
        vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2, state_size=4, use_mambapy=False
    ),
    "rwkv": lambda: transformers.RwkvConfig(
        vocab_size=VOCABULARY, hidden_size=32, attention_hidden_size=32, num_hidden_layers=2, context_length=64
    ),
    "lfm2": lambda: transformers.Lfm2Config(
        vocab_size=VOCABULARY, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, layer_types=["conv", "full_attention"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", UNCACHED)
def test_an_lm_without_such_a_cache_is_noticed(name):
    torch.manual_seed(0)
    lm = FrozenLM(transformers.AutoModelForCausalLM.from_config(UNCACHED[name]()))
    assert not lm.caches_prefixes(LENGTH)
