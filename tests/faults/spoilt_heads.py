"""Random LMs of every architecture whose output heads are as bad as can be, and targets for them."""

import math
from collections.abc import Callable

import torch
import transformers
from torch import Tensor, nn

from lit_prompt.data import TargetBatch
from lit_prompt.functional import entropy, match_entropy
from lit_prompt.functional.precision import double
from lit_prompt.lm import FrozenLM
from tests.conftest import ARCHITECTURES, VOCABULARY
from tests.places import single_targets_batch


def _scaled(by: float) -> Callable[[Tensor], Tensor]:
    return lambda weight: by * weight


def _power(low: float, high: float) -> float:
    """A random number between powers of ten."""
    return float(10.0 ** torch.empty(()).uniform_(low, high))


def _rank_deficient(weight: Tensor) -> Tensor:
    u, s, v = torch.linalg.svd(weight, full_matrices=False)
    return u[:, :3] * s[:3] @ v[:3]


def _equal_rows(weight: Tensor) -> Tensor:
    return torch.cat([weight[:1].expand(len(weight) // 2, -1), weight[len(weight) // 2 :]])


def _huge_rows(weight: Tensor) -> Tensor:
    return torch.cat([_power(2, 6) * weight[:4], weight[4:]])


def _zero_rows(weight: Tensor) -> Tensor:
    return torch.cat([0.0 * weight[: len(weight) // 4], weight[len(weight) // 4 :]])


HEADS: dict[str, Callable[[Tensor], Tensor]] = {
    "as made": _scaled(1.0),
    "times 1e-4": _scaled(1e-4),
    "times 1e-2": _scaled(1e-2),
    "times 1e2": _scaled(1e2),
    "times 1e4": _scaled(1e4),
    "rank 3": _rank_deficient,
    "equal rows": _equal_rows,
    "huge rows": _huge_rows,
    "zero rows": _zero_rows,
    "large bias": _scaled(1.0),
}


def spoilt_lm(architecture: str, head: str, dtype: torch.dtype) -> FrozenLM:
    """A random LM, with gains and biases that differ, and a head of its own."""
    config = ARCHITECTURES[architecture]()
    config.initializer_range = config.init_std = 0.3
    model = transformers.AutoModelForCausalLM.from_config(config)
    for name, parameter in model.named_parameters():
        if "norm" in name or "ln_" in name:
            parameter.data += 0.3 * torch.randn_like(parameter)
    output = model.get_output_embeddings()
    output.weight = nn.Parameter(HEADS[head](output.weight.detach()))
    if head == "large bias":
        output.bias = nn.Parameter(_power(1, 3) * torch.randn(VOCABULARY))
    return FrozenLM(model.to(dtype))


def some_targets(lm: FrozenLM) -> TargetBatch:
    """One-hot, of a wanted entropy, uniform over some tokens, and what the LM gives after tokens and embeddings."""
    some = torch.full((4, VOCABULARY), -math.inf)
    for row, size in zip(some, (1, 1, 2, 64), strict=True):
        row[torch.randperm(VOCABULARY)[:size]] = 0.0
    matched = match_entropy(torch.randn(2, VOCABULARY), torch.tensor([1.0, 4.0]))
    tokens, soft = lm.embed(torch.randint(VOCABULARY, (1, 3))), torch.randn(1, 3, lm.embedding_dim)
    own = torch.cat([lm.next_token_logits(x) for x in (tokens, soft)])
    log_p = torch.cat([double(x).log_softmax(1) for x in (some, matched, own)]).float()
    names = [
        "one-hot",
        "one-hot",
        "two tokens",
        "64 tokens",
        "entropy 1",
        "entropy 4",
        "after tokens",
        "after embeddings",
    ]
    h = entropy(double(log_p))
    return single_targets_batch([*range(len(names))], names, names, log_p, h)
