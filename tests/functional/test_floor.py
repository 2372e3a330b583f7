"""Floor and sphere problem against scipy, and what must hold of them whatever the head."""

import math

import numpy as np
import pytest
import scipy.optimize
import torch

from lit_prompt.functional import OutputHead, entropy, kl_divergence, kl_floor, kl_on_sphere, output_head

VOCAB, DIM = 30, 6


def make_head(seed=0, vocab=VOCAB, dim=DIM, centred=False, bias=False, features=None, scale=1.0, rounding=1.2e-7):
    generator = torch.Generator().manual_seed(seed)
    weight = scale * torch.randn(vocab, features or dim, generator=generator)
    gain = torch.rand(dim, generator=generator) + 0.5 if features is None else torch.randn(
        features, dim, generator=generator
    )  # fmt: skip
    shift = 0.3 * torch.randn(features or dim, generator=generator)
    return OutputHead(weight, torch.randn(vocab, generator=generator) if bias else None, gain, shift, centred, rounding)


def targets(vocab=VOCAB, seed=0):
    """Near uniform to near one-hot, one-hot, uniform, and mass on two tokens."""
    z = torch.randn(9, vocab, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    z *= torch.tensor([0.01, 0.3, 1.0, 2.0, 4.0, 8.0, 20.0, 60.0, 0.0]).double().unsqueeze(1)
    extreme = torch.full((2, vocab), -math.inf, dtype=torch.float64)
    extreme[0, 3] = 0.0
    extreme[1, [1, 4]] = math.log(0.5)
    return torch.cat([z.log_softmax(1), extreme])


def logits(head, u):
    z = head.features(u) @ head._weight.double().T
    return z + head._bias


KINDS = {
    "rms": {},
    "layer": {"centred": True, "bias": True},
    "projected": {"features": 4, "centred": True},
    "weak": {"scale": 0.05},
}


@pytest.mark.parametrize("kind", KINDS)
def test_objective_is_the_kl_and_its_gradient_autograds(kind):
    head, log_p = make_head(**KINDS[kind]), targets()
    u = head.centre(torch.randn(len(log_p), DIM, dtype=torch.float64)).requires_grad_()
    expected = kl_divergence(log_p, logits(head, u))
    (gradient,) = torch.autograd.grad(expected.sum(), u)
    kl, found = head.kl_and_gradient(u.detach(), head.terms(log_p))
    assert torch.allclose(kl, expected, atol=1e-12)
    assert torch.allclose(found, head.centre(gradient), atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_ball_problem_equals_scipys(kind):
    head, log_p = make_head(**KINDS[kind]), targets()
    terms = head.terms(log_p)
    floor = kl_floor(head, terms, 1e-6)
    for i in range(len(log_p)):
        one = terms.rows(torch.tensor([i]))

        def value(u, one=one):
            kl, gradient = head.kl_and_gradient(head.centre(torch.tensor(u).unsqueeze(0)), one)
            return float(kl), gradient[0].numpy()

        inside = {"type": "ineq", "fun": lambda u: head.radius**2 - u @ u, "jac": lambda u: -2 * u}
        best = min(
            scipy.optimize.minimize(
                value, start, jac=True, method="SLSQP", constraints=[inside], options={"maxiter": 500, "ftol": 1e-12}
            ).fun
            for start in (np.zeros(DIM), 0.5 * np.ones(DIM))
        )
        assert floor.upper[i] <= best + 2e-6
        assert best - 2e-6 - head.slack <= floor.lower[i] <= best + 1e-9 or floor.lower[i] == 0.0


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_in_the_ball_is_below_the_floor(kind):
    head, log_p = make_head(**KINDS[kind]), targets()
    floor = kl_floor(head, head.terms(log_p))
    assert (floor.upper - floor.lower <= 1e-3 + head.slack + 1e-12).all()
    assert (floor.point.norm(dim=1) <= head.radius * (1 + 1e-12)).all()
    u = head.centre(torch.randn(5000, DIM, dtype=torch.float64))
    u *= head.sphere_radius / u.norm(dim=1, keepdim=True) * torch.rand(5000, 1).double() ** (1 / DIM)
    near = head.centre(floor.point.repeat(50, 1) + 0.1 * torch.randn(50 * len(log_p), DIM).double())
    near *= (head.radius / near.norm(dim=1, keepdim=True)).clamp_max(1.0)
    for points in (u, near):
        kl = kl_divergence(log_p.unsqueeze(1), logits(head, points).unsqueeze(0))
        assert (kl.amin(1) >= floor.lower).all()


@pytest.mark.parametrize("kind", KINDS)
def test_sphere_is_solved_as_well_as_by_many_starts_of_scipy(kind):
    head, log_p = make_head(**KINDS[kind]), targets()
    terms = head.terms(log_p)
    floor = kl_floor(head, terms)
    sphere = kl_on_sphere(head, terms, floor, tolerance=1e-5)
    assert torch.allclose(sphere.point.norm(dim=1), torch.tensor(head.sphere_radius).double())
    assert torch.allclose(sphere.kl, kl_divergence(log_p, logits(head, sphere.point)), atol=1e-10)
    assert (sphere.kl >= floor.lower).all()
    within = floor.point.norm(dim=1) < head.radius * (1 - 1e-6)
    assert (sphere.kl - floor.lower)[~within].abs().max() <= 1.1e-3
    rng = np.random.default_rng(0)
    for i in range(0, len(log_p), 2):
        one = terms.rows(torch.tensor([i]))

        def value(v, one=one):
            v = torch.tensor(v).unsqueeze(0).requires_grad_()
            u = head.centre(v)
            u = u * (head.sphere_radius / u.norm())
            kl, gradient = head.kl_and_gradient(u.detach(), one)
            (gradient,) = torch.autograd.grad(u, v, gradient)
            return float(kl), gradient[0].numpy()

        best = min(scipy.optimize.minimize(value, rng.normal(size=DIM), jac=True, tol=1e-9).fun for _ in range(4))
        assert sphere.kl[i] <= best + 1e-5


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("gain", ["all seen", "one hidden", "wide", "tall"])
def test_features_are_contained_where_a_state_of_the_ball_gives_them(gain, centred):
    generator = torch.Generator().manual_seed(1)
    matrix = torch.diag(torch.rand(DIM, generator=generator).double() + 0.5)
    if gain == "one hidden":
        matrix[2, 2] = 0.0
    elif gain != "all seen":
        matrix = torch.randn({"wide": 4, "tall": 9}[gain], DIM, generator=generator, dtype=torch.float64)
    shift = torch.randn(len(matrix), generator=generator, dtype=torch.float64)
    given = matrix.diagonal() if gain in ("all seen", "one hidden") else matrix
    head = OutputHead(torch.randn(VOCAB, len(matrix), generator=generator), None, given, shift, centred, 1e-7)
    u = torch.randn(2000, DIM, generator=generator, dtype=torch.float64)
    u[::2] -= u[::2].mean(1, keepdim=True)
    u *= torch.linspace(0.2, 2.0, 2000).double().unsqueeze(1)
    # the shortest state with these features, and with mean zero where the norm centres
    wanted = np.vstack([matrix.numpy(), np.ones((int(centred), DIM))])
    values = np.hstack([(u @ matrix.T).numpy(), np.zeros((len(u), int(centred)))])
    state = np.linalg.lstsq(wanted, values.T, rcond=None)[0].T
    exact = np.abs(state @ wanted.T - values).max(1) < 1e-9
    length = np.linalg.norm(state, axis=1) / head.sphere_radius
    clear = np.abs(length - 1) > 1e-3
    found = head.contains(u @ matrix.T + shift).numpy()
    assert (found == (exact & (length < 1)))[clear].all()
    assert 100 < found.sum() < 1900


def test_blocks_of_the_vocabulary_do_not_matter(monkeypatch):
    log_p = targets(700)
    whole = make_head(vocab=700, centred=True, bias=True)
    expected = kl_floor(whole, whole.terms(log_p), 1e-5)
    monkeypatch.setattr(output_head, "_BLOCK_BYTES", 1)
    parts = make_head(vocab=700, centred=True, bias=True)
    assert len(list(parts._blocks())) == 3
    assert parts.slack == pytest.approx(whole.slack)
    found = kl_floor(parts, parts.terms(log_p), 1e-5)
    assert (found.lower - expected.lower).abs().max() <= 1e-5
    u = torch.randn(len(log_p), DIM, dtype=torch.float64)
    for x, y in zip(
        whole.kl_and_gradient(u, whole.terms(log_p)), parts.kl_and_gradient(u, parts.terms(log_p)), strict=True
    ):
        assert torch.allclose(x, y, atol=1e-12)


def test_company_does_not_change_a_floor(monkeypatch):
    head, log_p = make_head(vocab=200, dim=24, centred=True), torch.cat([targets(200, seed) for seed in range(4)])
    terms = head.terms(log_p)
    together, sphere = kl_floor(head, terms), kl_on_sphere(head, terms, kl_floor(head, terms))
    monkeypatch.setattr(output_head, "_MOST_ITEMS", 16)
    for i in range(len(log_p)):
        alone = head.terms(log_p[i : i + 1])
        floor = kl_floor(head, alone)
        assert floor.lower[0] == together.lower[i]
        assert torch.equal(kl_on_sphere(head, alone, floor).point[0], sphere.point[i])


def test_a_solver_that_is_stopped_early_gives_a_lower_floor_not_a_wrong_one():
    head, terms = make_head(scale=3.0), make_head(scale=3.0).terms(targets())
    good = kl_floor(head, terms, 1e-6)
    for steps in (0, 1, 3):
        assert (kl_floor(head, terms, 1e-6, max_steps=steps).lower <= good.lower + 1e-6).all()


def test_a_value_below_the_tolerance_needs_no_gap():
    head = make_head(scale=3.0)
    u = torch.randn(6, DIM, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    terms = head.terms(logits(head, 0.9 * head.radius * u / u.norm(dim=1, keepdim=True)).log_softmax(-1))
    for tolerance in (0.05, 1e-3):
        floor, exact = kl_floor(head, terms, tolerance), kl_floor(head, terms, 1e-9)
        assert (floor.upper <= tolerance).all()
        assert (floor.lower == 0.0).all()
        assert (floor.steps < exact.steps).all()
        _, gradient = head.kl_and_gradient(floor.point, terms)
        frank_wolfe = (gradient * floor.point).sum(1) + head.radius * gradient.norm(dim=1)
        assert (frank_wolfe > tolerance).any()  # which alone would have taken more steps


def test_floors_that_are_cut_short_hold():
    head, calls = make_head(scale=3.0), []
    terms = head.terms(targets())
    good = kl_floor(head, terms, 1e-6)

    def go_on(left):
        calls.append(left)
        return len(calls) <= 4

    early = kl_floor(head, terms, 1e-6, go_on=go_on)
    assert calls[0] == len(terms.constant)
    assert (early.lower <= good.lower + 1e-6).all()
    assert (early.upper >= good.lower - 1e-6).all()
    assert (early.upper - early.lower > 1e-3).any()


def test_rounding_widens_the_ball():
    exact, half = make_head(rounding=1e-7), make_head(rounding=2**-7)
    floors = [kl_floor(head, head.terms(targets()), 1e-6).lower for head in (exact, half)]
    assert (floors[1] <= floors[0]).all()
    assert (floors[1] < floors[0] - 1e-3).any()


def test_uniform_target_of_a_uniform_head_is_reached():
    head = OutputHead(torch.zeros(VOCAB, DIM), None, torch.ones(DIM), torch.zeros(DIM), False, 1e-7)
    terms = head.terms(torch.zeros(1, VOCAB))
    floor = kl_floor(head, terms)
    assert float(floor.upper) == pytest.approx(0.0, abs=1e-12)
    assert float(kl_on_sphere(head, terms, floor).kl) == pytest.approx(0.0, abs=1e-12)
    assert float(entropy(torch.zeros(VOCAB))) == pytest.approx(math.log(VOCAB), abs=1e-6)
