"""Answers of several tokens, against sums over all strings."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.special import rel_entr

from lit_prompt.functional.answer_tree import AnswerTree

ANSWERS = [[1, 2], [1, 3, 4], [1, 3, 5], [2], [3, 3]]
CELLS = [0, 1, 1, 2, 0]
VOCABULARY = 6


def random_lm(seed):
    """The next-token log-probabilities after any prefix of an LM that is a table."""
    table = {}
    generator = np.random.default_rng(seed)

    def after(prefix):
        if prefix not in table:
            table[prefix] = np.log(generator.dirichlet(np.ones(VOCABULARY)))
        return table[prefix]

    return after


def edges(tree, lm):
    values = [lm(tree.prefixes[n])[t] for n, t in zip(tree.node.tolist(), tree.token.tolist(), strict=True)]
    return torch.tensor(np.array(values))


def string_probability(lm, ids):
    return math.exp(sum(lm(tuple(ids[:k]))[ids[k]] for k in range(len(ids))))


@pytest.mark.parametrize("seed", range(3))
def test_the_kl_over_answers_is_that_of_whole_strings(seed):
    lm = random_lm(seed)
    probs = np.random.default_rng(10 + seed).dirichlet(np.ones(len(ANSWERS))).tolist()
    tree = AnswerTree(ANSWERS, range(len(ANSWERS)), probs)
    q = np.array([string_probability(lm, answer) for answer in ANSWERS])
    assert float(tree.kl(edges(tree, lm))) == pytest.approx(rel_entr(probs, q).sum(), abs=1e-12)
    outcomes = tree.outcomes(edges(tree, lm)).exp().numpy()
    assert outcomes == pytest.approx(np.append(q, 1 - q.sum()), abs=1e-12)


def test_the_kl_is_the_sum_over_nodes_of_their_kls():
    lm = random_lm(5)
    probs = [0.1, 0.2, 0.3, 0.15, 0.25]
    tree = AnswerTree(ANSWERS, range(5), probs)
    total = 0.0
    for prefix, mass, log_p in zip(tree.prefixes, tree.node_probs, tree.node_targets(VOCABULARY), strict=True):
        p = log_p.double().exp().numpy()
        through = sum(w for w, a in zip(probs, ANSWERS, strict=True) if tuple(a[: len(prefix)]) == prefix)
        assert float(mass) == pytest.approx(through)
        total += through * rel_entr(p, np.exp(lm(prefix))).sum()
    assert float(tree.kl(edges(tree, lm))) == pytest.approx(total, abs=1e-6)  # node targets are float32


@pytest.mark.parametrize("seed", range(3))
def test_the_kl_over_cells_sums_the_answers_of_each(seed):
    lm = random_lm(seed)
    probs = np.random.default_rng(seed).dirichlet(np.ones(3)).tolist()
    tree = AnswerTree(ANSWERS, CELLS, probs)
    q = np.zeros(3)
    for answer, cell in zip(ANSWERS, CELLS, strict=True):
        q[cell] += string_probability(lm, answer)
    assert not tree.is_additive
    assert float(tree.kl(edges(tree, lm))) == pytest.approx(rel_entr(probs, q).sum(), abs=1e-12)
    log_q = edges(tree, lm).requires_grad_()
    assert torch.autograd.gradcheck(tree.kl, log_q)


def test_an_answer_with_no_probability_may_be_impossible():
    tree = AnswerTree([[0], [1, 2]], [0, 1], [1.0, 0.0])
    log_q = torch.tensor([math.log(0.5), math.log(0.5), -math.inf], dtype=torch.float64)
    assert float(tree.kl(log_q)) == pytest.approx(math.log(2))
    assert tree.entropy == 0.0


@pytest.mark.parametrize("answers", [[[1], [1, 2]], [[1, 2], [1]], [[1], [1]], [[1], []]])
def test_an_answer_that_begins_another_is_refused(answers):
    with pytest.raises(ValueError, match="beginning"):
        AnswerTree(answers, range(2), [0.5, 0.5])


def test_any_order_of_the_answers_gives_the_same():
    lm = random_lm(1)
    probs = [0.1, 0.2, 0.3, 0.15, 0.25]
    kls = set()
    for order in itertools.islice(itertools.permutations(range(5)), 0, None, 17):
        tree = AnswerTree([ANSWERS[i] for i in order], range(5), [probs[i] for i in order])
        kls.add(round(float(tree.kl(edges(tree, lm))), 12))
    assert len(kls) == 1
