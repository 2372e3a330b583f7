"""FrozenLM against transformers itself, in every supported architecture."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from lit_prompt.errors import InputError
from lit_prompt.functional import entropy, kl_divergence, kl_from_moments
from lit_prompt.lm import FrozenLM, LMOptions, load_causal_lm
from tests.conftest import ARCHITECTURES, EMBEDDED_GPT2, EMBEDDED_LLAMA, VOCABULARY

MakeLM = Callable[..., Path]
every_architecture = pytest.mark.parametrize("architecture", ARCHITECTURES)


def frozen(folder: Path, **options: Any) -> FrozenLM:
    return FrozenLM(load_causal_lm(str(folder), LMOptions(**options)))


def reference(folder: Path, dtype: torch.dtype = torch.float32) -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()


def token_ids(items: int = 3, length: int = 6) -> Tensor:
    return torch.randint(VOCABULARY, (items, length), generator=torch.Generator().manual_seed(1))


def targets(size: int) -> Tensor:
    """A one-hot, a uniform and a random distribution, log-probabilities in float64."""
    log_p = torch.full((3, size), -torch.inf, dtype=torch.float64)
    log_p[0, 7] = 0.0
    log_p[1] = 0.0
    log_p[2] = 3 * torch.randn(size, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    return log_p.log_softmax(-1)


def search_kl(lm: FrozenLM, inputs_embeds: Tensor, log_p: Tensor) -> Tensor:
    """The KL as the search computes it: from moments, features and the head."""
    moments, offset = lm.moments(log_p)
    features = lm.features(inputs_embeds)
    return kl_from_moments(lm.logits(features), features, moments, offset, entropy(log_p).to(moments))


def largest_error(value: Tensor, expected: Tensor) -> float:
    """Relative to the largest entry."""
    return float((value - expected).detach().abs().max() / expected.detach().abs().max())


class AllInDouble(TorchFunctionMode):
    """Raises the float32 islands of a float64 LM (transformers computes RMSNorm and softmax in float32) to float64."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is Tensor.float:
            func = Tensor.double
        args = tuple(torch.float64 if value is torch.float32 else value for value in args)
        kwargs = {k: torch.float64 if value is torch.float32 else value for k, value in (kwargs or {}).items()}
        return func(*args, **kwargs)


@every_architecture
def test_logits_after_embedded_ids_are_those_of_transformers(architecture: str, make_lm: MakeLM) -> None:
    folder, ids = make_lm(architecture), token_ids()
    with torch.no_grad():
        expected = reference(folder)(input_ids=ids).logits[:, -1]
        lm = frozen(folder)
        logits = lm.next_token_logits(lm.embed(ids))
    assert logits.dtype == torch.float32
    assert logits.shape == (3, lm.vocab_size) == expected.shape
    assert largest_error(logits, expected) < 1e-4


@every_architecture
def test_head_is_linear_but_for_soft_capping(architecture: str, make_lm: MakeLM) -> None:
    assert frozen(make_lm(architecture)).is_linear == (architecture != "gemma2")


def test_soft_capping_is_noticed_where_logits_are_too_small_to_show_it() -> None:
    config = ARCHITECTURES["gemma2"]()
    config.initializer_range = 1e-3
    assert not FrozenLM(transformers.AutoModelForCausalLM.from_config(config)).is_linear


@every_architecture
def test_sizes_are_those_of_the_model(architecture: str, make_lm: MakeLM) -> None:
    folder = make_lm(architecture)
    lm, embeddings = frozen(folder), reference(folder).get_input_embeddings().weight
    assert (lm.vocab_size, lm.embedding_dim) == embeddings.shape
    assert lm.max_length == 64
    assert lm.features(lm.embed(token_ids())).shape == lm.moments(targets(lm.vocab_size))[0].shape


@every_architecture
def test_kl_from_moments_is_the_full_kl_in_float64(architecture: str, make_lm: MakeLM) -> None:
    folder, ids = make_lm(architecture), token_ids()
    lm = frozen(folder)
    log_p = targets(lm.vocab_size)
    with torch.no_grad():
        expected = kl_divergence(log_p, reference(folder, torch.float64)(input_ids=ids).logits[:, -1].double())
        kl = search_kl(lm, lm.embed(ids), log_p.float())
    assert kl.shape == (3,)
    assert (kl - expected).abs().max() < 1e-4


def test_bias_of_the_head_counts(make_lm: MakeLM) -> None:
    model = load_causal_lm(str(make_lm("phi")), LMOptions())
    model.get_output_embeddings().bias.normal_(std=3.0, generator=torch.Generator().manual_seed(5))
    lm, ids = FrozenLM(model), token_ids()
    assert lm.is_linear
    log_p = targets(lm.vocab_size)
    with torch.no_grad():
        logits = model(input_ids=ids).logits[:, -1]
        assert largest_error(lm.next_token_logits(lm.embed(ids)), logits) < 1e-4
        kl = search_kl(lm, lm.embed(ids), log_p.float())
    assert (kl - kl_divergence(log_p, logits.double())).abs().max() < 1e-4


@every_architecture
def test_gradient_is_the_slope_of_the_kl(architecture: str, make_lm: MakeLM) -> None:
    lm = frozen(make_lm(architecture), dtype="float64")
    log_p = targets(lm.vocab_size)
    x = lm.embed(token_ids()).clone().requires_grad_(True)
    step = 1e-5
    with AllInDouble():
        kl = search_kl(lm, x, log_p)
        (gradient,) = torch.autograd.grad(kl.sum(), x)
        for seed in range(3):
            direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed), dtype=x.dtype)
            with torch.no_grad():
                above, below = search_kl(lm, x + step * direction, log_p), search_kl(lm, x - step * direction, log_p)
            slope = (above - below) / (2 * step)
            torch.testing.assert_close((gradient * direction).sum((1, 2)), slope, rtol=1e-5, atol=0)
    assert kl.dtype == torch.float64


@every_architecture
def test_gradient_in_float32_is_that_in_float64(architecture: str, make_lm: MakeLM) -> None:
    gradients = []
    for dtype in ("float32", "float64"):
        lm = frozen(make_lm(architecture), dtype=dtype)
        x = lm.embed(token_ids()).clone().requires_grad_(True)
        (gradient,) = torch.autograd.grad(search_kl(lm, x, targets(lm.vocab_size).to(x)).sum(), x)
        assert torch.isfinite(gradient).all()
        assert gradient.abs().sum((1, 2)).min() > 0
        gradients.append(gradient.double())
    assert largest_error(*gradients) < 1e-4


@every_architecture
def test_use_leaves_the_lm_as_it_was(architecture: str, make_lm: MakeLM) -> None:
    lm = frozen(make_lm(architecture))
    before = {name: tensor.clone() for name, tensor in lm.model.state_dict().items()}
    x = lm.embed(token_ids()).clone().requires_grad_(True)
    search_kl(lm, x, targets(lm.vocab_size).float()).sum().backward()
    assert x.grad is not None
    for parameter in lm.parameters():
        assert not parameter.requires_grad
        assert parameter.grad is None
    after = lm.model.state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_model_from_elsewhere_is_frozen_too(make_lm: MakeLM) -> None:
    model = reference(make_lm("gpt2")).train()
    assert all(parameter.requires_grad for parameter in model.parameters())
    lm = FrozenLM(model)
    assert not any(parameter.requires_grad for parameter in lm.parameters())
    assert not any(module.training for module in lm.model.modules())


def test_embeddings_carry_no_gradient(tiny_lm: Path) -> None:
    assert not frozen(tiny_lm).embed(token_ids()).requires_grad


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_lm_stays_in_eval_mode(architecture: str, make_lm: MakeLM) -> None:
    lm = frozen(make_lm(architecture))
    nn.ModuleList([lm]).train()
    assert lm.train() is lm
    assert not any(module.training for module in lm.modules())
    x = lm.embed(token_ids())
    # GPT-2 has dropout
    assert torch.equal(lm.next_token_logits(x), lm.next_token_logits(x))


def test_lm_stays_out_of_checkpoints(tiny_lm: Path) -> None:
    lm = frozen(tiny_lm)
    assert not lm.state_dict()
    owner = nn.Module()
    owner.lm, owner.prompt = lm, nn.Parameter(torch.zeros(1))
    assert list(owner.state_dict()) == ["prompt"]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@every_architecture
def test_half_precision_lm_answers_in_float32(architecture: str, dtype: str, make_lm: MakeLM) -> None:
    folder, ids = make_lm(architecture), token_ids()
    lm, model = frozen(folder, dtype=dtype), reference(folder, getattr(torch, dtype))
    assert {parameter.dtype for parameter in lm.parameters()} == {getattr(torch, dtype)}
    x = lm.embed(ids).float().requires_grad_(True)
    features = lm.features(x)
    logits = lm.logits(features)
    (gradient,) = torch.autograd.grad(logits.logsumexp(-1).sum(), x)
    for value in (features, logits, gradient):
        assert value.dtype == torch.float32
        assert torch.isfinite(value).all()
    expected = model(input_ids=ids).logits[:, -1].float()
    assert largest_error(logits, expected) < 4 * torch.finfo(getattr(torch, dtype)).eps
    assert lm.is_linear == (architecture != "gemma2")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("architecture", [name for name in ARCHITECTURES if name != "gemma2"])
def test_half_precision_head_is_a_float32_product(architecture: str, dtype: str, make_lm: MakeLM) -> None:
    folder = make_lm(architecture)
    head = reference(folder, getattr(torch, dtype)).get_output_embeddings()
    bias = torch.zeros(len(head.weight)) if head.bias is None else head.bias
    lm = frozen(folder, dtype=dtype)
    features = lm.features(lm.embed(token_ids()))
    expected = features.double() @ head.weight.double().T + bias.double()
    assert largest_error(lm.logits(features), expected) < 1e-6
    moments, offset = lm.moments(targets(lm.vocab_size).float())
    p = targets(lm.vocab_size).exp()
    assert moments.dtype == offset.dtype == torch.float32
    assert largest_error(moments, p @ head.weight.double()) < 1e-6
    assert (offset - p @ bias.double()).abs().max() < 1e-6


def slot_results(lm: FrozenLM, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Features, logits and the gradient of a loss that is a sum over slots."""
    x = x.clone().requires_grad_(True)
    features = lm.features(x, mask)
    logits = lm.logits(features)
    (gradient,) = torch.autograd.grad(logits.logsumexp(-1).sum() - features.sum(), x)
    return features.detach(), logits.detach(), gradient


def assert_slots_ignore_their_company(lm: FrozenLM, length: int) -> None:
    x = torch.randn(64, length, lm.embedding_dim, generator=torch.Generator().manual_seed(3))
    together = slot_results(lm, x)
    order = torch.randperm(64, generator=torch.Generator().manual_seed(4)).tolist()
    for rows in ([0], [41], [63], list(range(7)), list(range(57, 64)), order[:7], order):
        for name, all_slots, some in zip(
            ("features", "logits", "gradient"), together, slot_results(lm, x[rows]), strict=True
        ):
            assert torch.equal(all_slots[rows], some), f"{name} of slots {rows}"


@pytest.mark.parametrize("length", [1, 5])
@pytest.mark.parametrize("folder", [EMBEDDED_LLAMA, EMBEDDED_GPT2], ids=lambda folder: folder.name)
def test_embedded_lm_treats_a_slot_alike_in_any_company(folder: Path, length: int) -> None:
    assert_slots_ignore_their_company(frozen(folder), length)


@pytest.mark.parametrize("length", [1, 5])
@every_architecture
def test_tiny_lm_treats_a_slot_alike_in_any_company(architecture: str, length: int, make_lm: MakeLM) -> None:
    assert_slots_ignore_their_company(frozen(make_lm(architecture)), length)


LENGTHS = [1, 3, 17, 33, 40, 47]  # some beyond the sliding windows of 32


def padded(lm: FrozenLM) -> tuple[Tensor, Tensor]:
    """Random rows of several lengths, padded on the left to 48 positions, and their mask."""
    dtype = lm.model.get_input_embeddings().weight.dtype
    x = torch.randn(len(LENGTHS), 48, lm.embedding_dim, generator=torch.Generator().manual_seed(6), dtype=dtype)
    return x, torch.arange(48).unsqueeze(0) >= 48 - torch.tensor(LENGTHS).unsqueeze(1)


@every_architecture
def test_padded_row_gives_what_it_gives_alone(architecture: str, make_lm: MakeLM) -> None:
    lm = frozen(make_lm(architecture))
    x, mask = padded(lm)
    x.requires_grad_(True)
    features = lm.features(x, mask)
    (gradient,) = torch.autograd.grad(lm.logits(features).logsumexp(-1).sum(), x)
    assert torch.equal(lm.next_token_logits(x, mask), lm.logits(features))
    assert (gradient[~mask] == 0).all()
    for i, length in enumerate(LENGTHS):
        alone = x.detach()[i : i + 1, -length:].clone().requires_grad_(True)
        expected = lm.features(alone)
        (slope,) = torch.autograd.grad(lm.logits(expected).logsumexp(-1).sum(), alone)
        assert largest_error(features[i], expected[0]) < 1e-5
        assert largest_error(gradient[i, -length:], slope[0]) < 1e-5


@every_architecture
def test_padding_can_be_anything(architecture: str, make_lm: MakeLM) -> None:
    lm = frozen(make_lm(architecture))
    x, mask = padded(lm)
    other = torch.where(mask.unsqueeze(-1), x, 5 * x + 1)
    assert torch.equal(lm.features(x, mask), lm.features(other, mask))


@every_architecture
def test_mask_that_hides_nothing_changes_nothing(architecture: str, make_lm: MakeLM) -> None:
    lm = frozen(make_lm(architecture))
    x, _ = padded(lm)
    assert largest_error(lm.features(x, torch.ones(x.shape[:2], dtype=torch.bool)), lm.features(x)) < 1e-5


@pytest.mark.parametrize("attention", [None, "eager"])
@pytest.mark.parametrize("architecture", [*ARCHITECTURES, EMBEDDED_LLAMA, EMBEDDED_GPT2])
def test_padded_row_is_alike_in_any_company(architecture: str | Path, attention: str | None, make_lm: MakeLM) -> None:
    folder = architecture if isinstance(architecture, Path) else make_lm(architecture)
    lm = frozen(folder, attention=attention)
    x, mask = padded(lm)
    together = slot_results(lm, x, mask)
    for rows in ([0], [3], [5], [1, 2], [4, 2, 0]):
        for name, all_rows, some in zip(
            ("features", "logits", "gradient"), together, slot_results(lm, x[rows], mask[rows]), strict=True
        ):
            assert torch.equal(all_rows[rows], some), f"{name} of rows {rows}"


@pytest.mark.parametrize("folder", [EMBEDDED_LLAMA, EMBEDDED_GPT2], ids=lambda folder: folder.name)
def test_long_slot_is_alike_in_any_company_with_eager_attention(folder: Path) -> None:
    assert_slots_ignore_their_company(frozen(folder, attention="eager"), 48)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
@every_architecture
def test_padding_is_harmless_or_noticed_in_every_precision(architecture: str, dtype: str, make_lm: MakeLM) -> None:
    lm = frozen(make_lm(architecture), dtype=dtype)
    # eager attention takes its softmax in float32, where a row without any key is NaN under a float64 mask
    assert lm.takes_padding == ((architecture, dtype) != ("gemma2", "float64"))
    x, mask = padded(lm)
    assert lm.features(x, mask).isfinite().all() == lm.takes_padding


def test_lm_that_sees_padding_is_noticed() -> None:
    config = transformers.RecurrentGemmaConfig(
        **_scaled_sizes | {"lru_width": 32, "block_types": ("recurrent", "attention"), "num_key_value_heads": 1}
    )
    torch.manual_seed(0)
    assert not FrozenLM(transformers.AutoModelForCausalLM.from_config(config)).takes_padding


SCALED = {
    "cohere": lambda scale: transformers.CohereConfig(logit_scale=scale, **_scaled_sizes),
    "granite": lambda scale: transformers.GraniteConfig(logits_scaling=1 / scale, **_scaled_sizes),
}
_scaled_sizes: dict[str, Any] = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "initializer_range": 0.3,
    "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0,
}  # fmt: skip


@pytest.mark.parametrize("scale", [0.0625, 0.9, 1.0])
@pytest.mark.parametrize("architecture", SCALED)
def test_scale_of_logits_becomes_part_of_the_head(architecture: str, scale: float) -> None:
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(SCALED[architecture](scale)).eval()
    ids = token_ids()
    with torch.no_grad():
        expected = model(input_ids=ids).logits[:, -1]
        lm = FrozenLM(model)
        assert lm.is_linear
        assert largest_error(lm.next_token_logits(lm.embed(ids)), expected) < 1e-4
        log_p = targets(lm.vocab_size)
        kl = search_kl(lm, lm.embed(ids), log_p.float())
    assert (kl - kl_divergence(log_p, expected.double())).abs().max() < 1e-4


def test_weights_that_are_not_finite_are_refused(tiny_lm: Path) -> None:
    model = load_causal_lm(str(tiny_lm), LMOptions())
    model.get_output_embeddings().weight[5, 5] = torch.nan
    with pytest.raises(InputError, match="not finite"):
        FrozenLM(model)


def test_parts_of_the_lm_may_lie_on_several_devices(tiny_lm: Path) -> None:
    from accelerate import dispatch_model

    whole = frozen(tiny_lm)
    model = load_causal_lm(str(tiny_lm), LMOptions())
    parts = dict.fromkeys((*(f"model.layers.{k}" for k in range(len(model.model.layers))), "lm_head"), "cpu")
    places = {"model.embed_tokens": "cpu", "model.rotary_emb": "cpu", **parts, "model.norm": "cpu"}
    # a processor is one device to torch; accelerate hands states from part to part all the same
    spread = FrozenLM(dispatch_model(model, places, main_device="cpu", force_hooks=True))
    assert spread.dispatched
    assert not whole.dispatched
    assert all(hasattr(layer, "_hf_hook") for layer in spread.model.model.layers)
    assert spread.fingerprint == whole.fingerprint
    prompts = [lm.embed(token_ids()).clone().requires_grad_(True) for lm in (whole, spread)]
    logits = [lm.next_token_logits(prompt) for lm, prompt in zip((whole, spread), prompts, strict=True)]
    assert torch.equal(*logits)
    for found in logits:
        found.log_softmax(-1)[:, 7].sum().backward()
    assert torch.equal(prompts[0].grad, prompts[1].grad)
    spread.to(torch.bfloat16)  # as a trainer moves a module: they stay where and what they are
    assert {weight.dtype for weight in spread.model.parameters()} == {torch.float32}
