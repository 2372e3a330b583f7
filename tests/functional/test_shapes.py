"""The shapes and dtypes that annotations state are checked in every test."""

import pytest
import torch
from jaxtyping import TypeCheckError

from lit_prompt.functional import kl_divergence, match_entropy


@pytest.mark.parametrize(
    ("p", "q"),
    [
        (torch.zeros(2, 3), torch.zeros(2, 4)),
        (torch.zeros(2, 3), torch.zeros(4, 3)),
        (torch.zeros(2, 3), torch.zeros(2, 3, dtype=torch.long)),
    ],
)
def test_distributions_that_do_not_fit_are_refused(p, q):
    with pytest.raises(TypeCheckError):
        kl_divergence(p, q)


def test_float64_is_not_float32():
    with pytest.raises(TypeCheckError):
        match_entropy(torch.zeros(1, 3).double(), torch.ones(1))
