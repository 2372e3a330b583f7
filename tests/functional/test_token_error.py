import math

import pytest
import scipy.special
import torch

from lit_prompt.functional import kl_divergence, largest_errors, token_kl


def test_shares_sum_to_the_kl_and_equal_scipys():
    z = torch.randn(2, 3, 50, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 3
    log_p, log_q = z.log_softmax(-1)
    log_p[0, :10] = -math.inf
    shares = token_kl(log_p, log_q)
    assert torch.allclose(shares.sum(-1), kl_divergence(log_p, log_q), atol=1e-12)
    p = log_p.log_softmax(-1).exp()
    assert shares.numpy() == pytest.approx(scipy.special.kl_div(p.numpy(), log_q.exp().numpy()), abs=1e-12)


def test_largest_errors_are_missing_first_then_excess():
    p, q = torch.tensor([0.5, 0.3, 0.2, 0.0]), torch.tensor([0.1, 0.3, 0.25, 0.35])
    assert largest_errors(p, q) == [0, 3, 2]
    assert largest_errors(p, q, 1) == [0, 3]
    assert largest_errors(p, p) == []
