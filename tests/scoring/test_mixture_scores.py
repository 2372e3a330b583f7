"""What a prompt does for the KL of a mixture, against the definition in float64."""

import pytest
import torch

from lit_prompt.functional.answer_tree import AnswerTree
from lit_prompt.functional.mixture import gains
from lit_prompt.lm import FrozenLM, LMOptions
from lit_prompt.objectives import MixtureKL
from lit_prompt.scoring.mixture_tree import MixtureTree


@pytest.fixture(scope="module")
def lm(tiny_lm):
    return FrozenLM.load(str(tiny_lm), LMOptions())


def kl(p, m):
    return torch.where(p > 0, p * (p.clamp_min(1e-300).log() - m.log()), 0.0).sum(-1)


@pytest.fixture(params=[1.0, 6.0, 30.0], ids=["flat", "peaked", "nearly one-hot"])
def made(request):
    """Targets without some of the tokens, mixtures that hardly have some, and logits."""
    generator = torch.Generator().manual_seed(0)

    def draw(rows):
        return request.param * torch.randn(rows, 50, generator=generator, dtype=torch.float64)

    log_p, log_m = (draw(4).log_softmax(-1) for _ in range(2))
    log_p = log_p.index_fill(1, torch.tensor([3, 17]), -torch.inf).log_softmax(-1)
    return log_p, log_m, draw(6)


@pytest.mark.parametrize("share", [0.5, 0.125])
def test_scores_are_the_change_of_the_kl(made, lm, share):
    log_p, log_m, logits = made
    p, m, q = log_p.exp(), log_m.exp(), logits.softmax(-1)
    wanted = torch.stack([kl(p, (1 - share) * m + share * one) - kl(p, m) for one in q])
    objective = MixtureKL(log_m.float(), share)
    prepared = objective.prepare(log_p.float(), lm)
    table = objective.table(logits.float(), logits.float(), prepared)
    assert table == pytest.approx(wanted, abs=2e-5, rel=1e-5)
    some = objective.table(logits.float(), logits.float(), prepared, torch.tensor([2, 0]))
    assert torch.equal(some, table[:, [2, 0]])
    which = torch.arange(6) % 4
    pairs = objective.pairs(logits.float(), logits.float(), prepared, which)
    assert pairs == pytest.approx(wanted[torch.arange(6), which], abs=2e-5, rel=1e-5)
    every = MixtureKL(log_m, share).divergence(log_p, logits[:4].log_softmax(-1))
    assert every == pytest.approx(wanted[:4].diagonal(), abs=1e-9)


def test_a_score_below_zero_is_a_help_and_small_shares_give_the_gain(made):
    log_p, log_m, logits = made
    p, m, q = log_p.exp(), log_m.exp(), logits.softmax(-1)
    for row in range(4):
        slope = MixtureKL(log_m[row : row + 1], 1e-6).divergence(log_p[row : row + 1], q.log()) / 1e-6
        gained = gains(p[row], q, m[row])
        small = (q / m[row]).amax(1) < 1e3  # of the others a share of one in a million is much
        assert slope[small] == pytest.approx(1 - gained[small], abs=1e-2)
        assert ((slope >= 0) | (gained > 1)).all()


def test_gradients_are_those_of_the_definition(made, lm):
    log_p, log_m, logits = made
    p, m, which = log_p.exp(), log_m.exp(), torch.tensor([0, 3])
    wanted = logits[:2].clone().requires_grad_()
    kl(p[which], 0.5 * m[which] + 0.5 * wanted.softmax(-1)).sum().backward()
    found = logits[:2].float().requires_grad_()
    objective = MixtureKL(log_m.float(), 0.5)
    prepared = objective.prepare(log_p.float(), lm)
    objective.pairs(found, found, prepared, which).sum().backward()
    assert found.grad == pytest.approx(wanted.grad, abs=1e-5)


def test_answers_are_mixed_as_a_whole():
    """The KL over whole answers, of the sums of their probabilities; no sum over the nodes of the tree."""
    generator = torch.Generator().manual_seed(1)
    tree = AnswerTree([(1, 2), (1, 3), (4,)], [0, 1, 2], [0.5, 0.2, 0.3])
    edges, others = (torch.randn(5, len(tree.token), generator=generator).double() - 2 for _ in range(2))
    m = tree.log_cells(others)[0]
    found = MixtureTree(tree, m, 0.25)
    q, p = tree.log_cells(edges).exp(), tree.log_probs.exp()
    wanted = kl(p, 0.75 * m.exp() + 0.25 * q) - kl(p, m.exp())
    assert found.kl(edges) == pytest.approx(wanted, abs=1e-12)
    assert not found.is_additive
    assert tree.is_additive
