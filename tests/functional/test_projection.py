"""Nearest tokens, against scipy."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from lit_prompt.functional import projection
from lit_prompt.functional.projection import nearest_tokens


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("numbers", [1, 100, 2**26])
def test_nearest_is_nearest(monkeypatch, metric, numbers):
    monkeypatch.setattr(projection, "_NUMBERS_PER_PART", numbers)
    vectors, table = drawn(3, 7, 5), drawn(40, 5, seed=1) * torch.linspace(0.1, 3, 40).unsqueeze(1)
    expected = cdist(vectors.flatten(0, 1).numpy(), table.numpy(), metric).argmin(1)
    found = nearest_tokens(vectors, table, metric)
    assert found.shape == (3, 7)
    np.testing.assert_array_equal(found.flatten().numpy(), expected)


def test_metrics_differ_where_norms_do():
    table = torch.tensor([[1.0, 0.0], [8.0, 8.0]])
    vector = torch.tensor([0.7, 0.9])
    assert nearest_tokens(vector, table) == 1
    assert nearest_tokens(vector, table, "euclidean") == 0


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_an_embedding_is_nearest_to_itself(metric):
    table = drawn(64, 8).float()
    assert nearest_tokens(table.view(8, 8, 8), table, metric).flatten().tolist() == list(range(64))


def test_the_first_of_equals_is_taken():
    assert nearest_tokens(torch.ones(1, 2), torch.ones(5, 2)).item() == 0
