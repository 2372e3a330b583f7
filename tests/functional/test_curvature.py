"""The curvature model against the covariance of all rows of a head, and its algebra against dense matrices."""

import pytest
import torch

from lit_prompt.functional import OutputHead, kl_floor, kl_on_sphere, temperature_for_entropy
from lit_prompt.functional.curvature import Curvature
from lit_prompt.functional.low_rank import LowRankMatrix


def make_head(vocab, dim, centred, seed=0, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    weight = scale * torch.randn(vocab, dim, generator=generator)
    bias = torch.randn(vocab, generator=generator)
    gain = torch.rand(dim, generator=generator) + 0.5
    return OutputHead(weight, bias, gain, 0.3 * torch.randn(dim, generator=generator), centred, 1e-7)


def random_matrix(rows=3, dim=12, rank=4):
    generator = torch.Generator().manual_seed(1)
    draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    core = draw(rows, rank, rank)
    found = LowRankMatrix(draw(rows, dim).exp(), draw(rows, dim, rank), core + core.mT + 20 * torch.eye(rank).double())
    dense = torch.diag_embed(found.diagonal) - found.factor @ torch.linalg.inv(found.core) @ found.factor.mT
    return found, dense, draw


def test_low_rank_matrices_are_what_their_dense_forms_are():
    matrix, dense, draw = random_matrix()
    x, shift = draw(3, 12, 5), draw(3).exp()
    assert torch.allclose(matrix.times(x), dense @ x)
    shifted = dense + shift.view(3, 1, 1) * torch.eye(12)
    expected = torch.linalg.solve(shifted, x[:, :, 0])
    assert torch.allclose(matrix.inverse(shift)(x[:, :, 0]), expected)
    alone = LowRankMatrix(*(part[1:2] for part in matrix)).inverse(shift[1:2])(x[1:2, :, 0])
    assert torch.equal(alone[0], matrix.inverse(shift)(x[:, :, 0])[1])  # bit for bit


@pytest.mark.parametrize("centred", [False, True])
def test_the_model_is_the_hessian_where_the_top_tokens_are_all_tokens(centred):
    head = make_head(40, 8, centred)
    generator = torch.Generator().manual_seed(2)
    log_p = (6 * torch.randn(2, 40, generator=generator, dtype=torch.float64)).log_softmax(-1)
    terms = head.terms(log_p)
    curvature = Curvature(head, terms)
    # where q is far above the share of p that counts ahead of it
    u = curvature.from_basis(0.1 * torch.randn(2, 8 - centred, generator=generator, dtype=torch.float64))
    kl, gradient = head.kl_and_gradient(u, terms)
    model = curvature.at(torch.arange(2), curvature.to_basis(u), kl, curvature.to_basis(gradient))
    q = (head.features(u) @ head._weight.double().T + head._bias).softmax(-1)
    rows = head.centre(head._weight.double() * head._gain)
    for i in range(2):
        weight = torch.maximum(q[i], 0.2 * log_p[i].exp())
        deviation = (rows - q[i] @ rows) @ curvature.basis
        expected = (deviation.mT * weight) @ deviation + torch.diag(1e-3 * head.spectrum[0])
        found = torch.diag(model.diagonal[i]) + model.factor[i] @ model.factor[i].mT
        assert torch.allclose(found, expected, atol=1e-10)


@pytest.mark.parametrize("centred", [False, True])
def test_the_spectrum_is_that_of_the_rows_and_spans_the_states(centred):
    head = make_head(300, 10, centred)
    values, basis = head.spectrum
    assert basis.shape == (10, 10 - centred)
    assert torch.allclose(basis.T @ basis, torch.eye(10 - centred).double(), atol=1e-12)
    assert torch.allclose(head.centre(basis.T), basis.T, atol=1e-12)
    rows = head.centre(head._weight.double() * head._gain)
    covariance = basis.T @ torch.cov(rows.T, correction=0) @ basis
    raised = covariance.diagonal().mean() * 0.01
    assert torch.allclose(torch.diag(values - raised), covariance, atol=1e-10)


def test_few_evaluations_solve_the_problems_of_a_large_head():
    head = make_head(5000, 64, False, scale=0.3)
    wanted = torch.linspace(0.1, 8.4, 16)
    z = torch.randn(16, 5000, generator=torch.Generator().manual_seed(3))
    terms = head.terms(temperature_for_entropy(z, wanted).log_softmax(-1).float())
    floor = kl_floor(head, terms)
    assert (floor.upper - floor.lower <= 1e-3 + head.slack + 1e-9).all()
    assert float(floor.steps.float().median()) <= 25  # projected gradient steps: ten times as many
    assert float(kl_on_sphere(head, terms, floor).steps.float().median()) <= 60
