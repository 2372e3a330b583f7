"""The final norm and head of real architectures, and floors that no prompt gets below."""

import math

import pytest
import torch
import transformers

from lit_prompt.errors import InputError
from lit_prompt.functional import kl_divergence, kl_floor, kl_on_sphere
from lit_prompt.lm import FrozenLM, LMOptions, load_causal_lm, output_geometry
from tests.conftest import ARCHITECTURES, EMBEDDED_GPT2, VOCABULARY

WITH_GEOMETRY = [name for name in ARCHITECTURES if name != "gemma2"]
DTYPES = ["float32", "bfloat16", "float16", "float64"]
_SIZES = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "initializer_range": 0.3,
    "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0,
}  # fmt: skip


def frozen(folder, dtype="float32"):
    return FrozenLM(load_causal_lm(str(folder), LMOptions(dtype=dtype)))


def from_config(config, change=lambda model: None):
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config)
    change(model)
    return FrozenLM(model.eval())


def spread_norms(model):
    """Gains and biases that differ, as in a trained LM."""
    for name, parameter in model.named_parameters():
        if "norm" in name or "ln_" in name:
            parameter.data += 0.3 * torch.randn_like(parameter)


def extreme_targets(lm, count=16):
    """Near uniform to near one-hot, one-hot on tokens of all kinds, two tokens, and what the LM says."""
    z = torch.randn(count, lm.vocab_size, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    z *= torch.logspace(-2, 2, count).double().unsqueeze(1)
    sparse = torch.full((4, lm.vocab_size), -math.inf, dtype=torch.float64)
    # the token with the shortest row of the head is the least likely to be on top of anything
    shortest = lm.head()[0].norm(dim=1).argsort()[:2] if lm.is_linear else torch.tensor([0, 1])
    sparse[0, shortest[0]] = sparse[1, -1] = 0.0
    sparse[2, shortest] = math.log(0.5)
    sparse[3, ::2] = -math.log(len(range(0, lm.vocab_size, 2)))
    own = lm.next_token_logits(lm.embed(torch.arange(6).view(2, 3))).double()
    return torch.cat([z.log_softmax(1), sparse, own.log_softmax(1)])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("architecture", WITH_GEOMETRY)
@torch.no_grad()
def test_no_prompt_gets_below_the_floor(architecture, dtype, make_lm):
    lm = frozen(make_lm(architecture), dtype)
    head = output_geometry(lm)
    log_p = extreme_targets(lm)
    terms = head.terms(log_p)
    floor = kl_floor(head, terms)
    sphere = kl_on_sphere(head, terms, floor)
    least = torch.full((len(log_p),), math.inf, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    width = lm.embedding_dim
    for length in (1, 2, 5):
        ids = torch.randint(lm.vocab_size, (400, length), generator=generator)
        soft = torch.randn(400, length, width, generator=generator) * torch.logspace(-3, 3, 400).view(-1, 1, 1)
        # the very solutions, and their neighbourhood
        aimed = torch.cat([sphere.point, floor.point]).float()[:, :width]
        aimed = aimed + 0.05 * torch.randn(len(aimed), width, generator=generator)
        aimed = torch.cat([scale * aimed for scale in (1.0, 10.0, 100.0)]).unsqueeze(1).expand(-1, length, -1)
        for prompts in (lm.embed(ids), soft, aimed):
            features = lm.features(prompts)
            assert head.contains(features).all()
            q = lm.logits(features).double()
            kl = torch.cat([kl_divergence(log_p.unsqueeze(1), part.unsqueeze(0)) for part in q.split(200)], 1)
            least = torch.minimum(least, kl.nan_to_num(nan=math.inf).amin(1))
    assert (floor.lower <= (least - 1e-6).clamp_min(0.0)).all()


@pytest.mark.parametrize("hidden", [False, True], ids=["seen", "one gain zero"])
@pytest.mark.parametrize("dtype", DTYPES)
@torch.no_grad()
def test_a_prompt_that_breaks_a_layer_norms_arithmetic_is_told_from_the_others(dtype, hidden):
    lm = frozen(EMBEDDED_GPT2, dtype)
    if hidden:
        lm.model.transformer.ln_f.weight[0] = 0.0
    head = output_geometry(lm)
    generator = torch.Generator().manual_seed(0)
    # all embeddings nearly the same number: the norm has to find a small spread under a huge mean
    means = torch.logspace(0, 15, 61).repeat_interleave(8).view(-1, 1, 1)
    prompts = means * (1.0 + 0.05 * torch.rand(means.shape, generator=generator)) * torch.ones(lm.embedding_dim)
    prompts[1::2] += torch.randn(len(prompts) // 2, 1, lm.embedding_dim, generator=generator)
    features = lm.features(prompts)
    features = features[features.isfinite().all(1)]
    reached = lm.logits(features).double().log_softmax(1)
    floor, contained = kl_floor(head, head.terms(reached)).lower, head.contains(features)
    assert floor[contained].amax() <= 1e-6
    if dtype in ("float32", "bfloat16"):
        assert floor[~contained].amax() > 0.01
    assert not head.contains(torch.full_like(features[:1], math.nan)).any()


@pytest.mark.parametrize("architecture", WITH_GEOMETRY)
def test_a_search_does_not_get_below_the_floor(architecture, make_lm):
    lm = frozen(make_lm(architecture))
    head = output_geometry(lm)
    log_p = extreme_targets(lm)
    floor = kl_floor(head, head.terms(log_p))
    prompts = torch.randn(len(log_p), 3, lm.embedding_dim, generator=torch.Generator().manual_seed(0)).requires_grad_()
    adam = torch.optim.Adam([prompts], lr=0.1)
    for _ in range(150):
        kl = kl_divergence(log_p, lm.next_token_logits(prompts).double())
        assert (floor.lower <= (kl - 1e-6).clamp_min(0.0)).all()
        adam.zero_grad()
        kl.sum().backward()
        adam.step()


@pytest.mark.parametrize("architecture", [name for name in WITH_GEOMETRY if name not in ("opt", "post_norm")])
@torch.no_grad()
def test_norms_of_trained_models_are_found(architecture):
    config = ARCHITECTURES[architecture]()
    config.initializer_range = config.init_std = 0.3
    lm = from_config(config, spread_norms)
    head = output_geometry(lm)
    log_p = extreme_targets(lm)
    terms = head.terms(log_p)
    sphere = kl_on_sphere(head, terms, kl_floor(head, terms))
    # one soft token far out gives the state on the sphere: gain, shift, centring and radius are all right
    lifted = kl_divergence(log_p, lm.next_token_logits(1e4 * sphere.point.float().unsqueeze(1)).double())
    assert (lifted - sphere.kl).abs().max() < 1e-3


@pytest.mark.parametrize(
    "config",
    [
        transformers.CohereConfig(logit_scale=0.25, **_SIZES),
        transformers.GraniteConfig(logits_scaling=3.0, **_SIZES),
        transformers.OlmoConfig(**_SIZES),
        transformers.StableLmConfig(**_SIZES),
    ],
    ids=lambda config: config.model_type,
)
@torch.no_grad()
def test_other_norms_and_scaled_logits(config):
    lm = from_config(config)
    head = output_geometry(lm)
    log_p = extreme_targets(lm)
    terms = head.terms(log_p)
    sphere = kl_on_sphere(head, terms, kl_floor(head, terms))
    lifted = kl_divergence(log_p, lm.next_token_logits(1e4 * sphere.point.float().unsqueeze(1)).double())
    assert (lifted - sphere.kl).abs().max() < 1e-3


def test_soft_capped_logits_are_refused(make_lm):
    with pytest.raises(InputError, match="no certified floor and no lift: its logits are not a linear"):
        output_geometry(frozen(make_lm("gemma2")))


def test_an_lm_without_a_final_norm_is_refused():
    def drop(model):
        model.model.norm = torch.nn.Identity()

    lm = from_config(ARCHITECTURES["llama"](), drop)
    with pytest.raises(InputError, match="does not come from a LayerNorm or an RMSNorm"):
        output_geometry(lm)


def test_a_norm_in_name_only_is_refused():
    class Doubling(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(32))

        def forward(self, x):
            return self.weight * x.tanh()

    def replace(model):
        model.model.norm = Doubling()

    with pytest.raises(InputError, match="does not come from a LayerNorm or an RMSNorm"):
        output_geometry(from_config(ARCHITECTURES["llama"](), replace))
