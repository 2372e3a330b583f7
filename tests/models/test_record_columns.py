"""Result records against scipy."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy as scipy_entropy

from lit_prompt.models.outcomes import target_outcomes
from lit_prompt.models.record_columns import divergence_columns, least_restart, top_tokens
from lit_prompt.objectives import ForwardKL
from lit_prompt.records.results import SCHEMA, result_table
from lit_prompt.search import SearchResults, StopReason
from tests.places import single_targets_batch

VOCAB, RESTARTS = 40, 3
INDEX = [4, 1, 2, 0]  # positions in a set of five targets
NUMBERS = ["kl", "prompt_entropy", "reverse_kl", "js", "tv", "top10_overlap", "kl_worst_restart", "kl_restart_std"]


def random_log_probs(seed, *shape, dtype=torch.float64):
    z = torch.randn(*shape, VOCAB, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 2
    return z.log_softmax(-1).to(dtype)


UNPROMPTED = random_log_probs(9, 4)


@pytest.fixture
def batch():
    """Dense, with zeros, one-hot, dense."""
    log_probs = random_log_probs(0, 4, dtype=torch.float32)
    log_probs[1, ::2] = -math.inf
    log_probs[1] = log_probs[1].log_softmax(-1)
    log_probs[2] = -math.inf
    log_probs[2, 7] = 0.0
    ids = [f"t{i}" for i in INDEX]
    entropy = torch.zeros(4, dtype=torch.float64)  # as stored; the record computes its own
    partners = [None, "t4", None, "t2"]
    return single_targets_batch(INDEX, ids, ["f", "f", "g", "g"], log_probs, entropy, partners)


@pytest.fixture
def reached():
    return random_log_probs(1, 4, RESTARTS)


@pytest.fixture
def bank():
    """Everything searched, with values of its own at every place."""
    bank = SearchResults(5, RESTARTS, (2, 3))
    bank.kl[:] = 9.0
    bank.steps[:] = torch.arange(5) + 10
    bank.forward_passes[:] = torch.arange(5) + 20
    bank.seconds[:] = torch.arange(5) / 4
    bank.reason[:] = StopReason.STEPS
    return bank


def columns_of(batch, reached, bank, unprompted):
    """The columns with the restart of least KL, which each target chooses for itself."""
    value = ForwardKL().divergence(target_outcomes(batch).unsqueeze(1), reached)
    best = [least_restart(*row) for row in zip(value, bank.kl[batch.index].isfinite(), strict=True)]
    columns, log_q = divergence_columns(batch, reached, bank, unprompted, value, torch.tensor(best))
    return columns | {"best_restart": best}, log_q


def normalised(log_probs):
    p = np.exp(log_probs.double().numpy())
    return p / p.sum(-1, keepdims=True)


def close(values, expected):
    np.testing.assert_allclose(np.array(values, dtype=float), expected, rtol=1e-10, atol=1e-12)


def test_numbers_equal_scipys(batch, reached, bank):
    columns, log_q = columns_of(batch, reached, bank, UNPROMPTED)
    p, every_q = normalised(batch.log_probs), normalised(reached)
    kl = scipy_entropy(p[:, None], every_q, axis=-1)
    best = kl.argmin(1)
    q = every_q[np.arange(4), best]
    assert len(set(best.tolist())) > 1
    assert columns["best_restart"] == best.tolist()
    close(columns["kl"], kl.min(1))
    close(columns["entropy"], scipy_entropy(p, axis=-1))
    close(columns["kl_uniform"], scipy_entropy(p, np.full_like(p, 1 / VOCAB), axis=-1))
    close(columns["prompt_entropy"], scipy_entropy(q, axis=-1))
    close(columns["reverse_kl"], scipy_entropy(q, p, axis=-1))
    close(columns["js"], jensenshannon(p, q, base=math.e, axis=-1) ** 2)
    close(columns["tv"], np.abs(p - q).sum(-1) / 2)
    close(columns["kl_worst_restart"], kl.max(1))
    close(columns["kl_restart_std"], kl.std(1))
    assert columns["reverse_kl"][2] == math.inf
    assert columns["restarts"] == [RESTARTS] * 4
    close(log_q.exp().numpy(), q)


def test_overlap_of_top_tokens(batch, reached, bank):
    columns, log_q = columns_of(batch, reached, bank, UNPROMPTED)
    for i in (0, 3):
        tops = [set(np.argsort(-x[i].numpy())[:10].tolist()) for x in (batch.log_probs, log_q)]
        assert columns["top10_overlap"][i] == pytest.approx(len(tops[0] & tops[1]) / 10)
    assert columns["top10_overlap"][2] == float(7 in np.argsort(-log_q[2].numpy())[:10])


def test_half_a_vocabulary_of_rounding_is_normalised_away(batch, reached, bank):
    first, _ = columns_of(batch, reached, bank, UNPROMPTED)
    batch.log_probs = batch.log_probs + 0.01
    second, _ = columns_of(batch, reached, bank, UNPROMPTED)
    np.testing.assert_allclose(second["kl"], first["kl"], rtol=1e-5)


def test_bookkeeping_is_the_banks_at_the_batchs_positions(batch, reached, bank):
    columns, _ = columns_of(batch, reached, bank, UNPROMPTED)
    assert columns["target_id"] == ["t4", "t1", "t2", "t0"]
    assert columns["family"] == ["f", "f", "g", "g"]
    assert columns["partner_of"] == [None, "t4", None, "t2"]
    assert columns["steps"] == [14, 11, 12, 10]
    assert columns["forward_passes"] == [24, 21, 22, 20]
    assert columns["seconds"] == [1.0, 0.25, 0.5, 0.0]


def test_the_stop_reason_is_the_best_restarts(batch, reached, bank):
    best = columns_of(batch, reached, bank, UNPROMPTED)[0]["best_restart"]
    for position, restart, reason in zip(INDEX, best, list(StopReason)[2:6], strict=True):
        bank.reason[position, restart] = reason
    columns, _ = columns_of(batch, reached, bank, UNPROMPTED)
    assert columns["stop_reason"] == ["steps", "kl_tolerance", "patience", "not_finite"]


def test_unprompted_is_each_targets_own(batch, reached, bank):
    unprompted = random_log_probs(9, 4)
    unprompted[2] = math.nan
    columns, _ = columns_of(batch, reached, bank, unprompted)
    expected = scipy_entropy(normalised(batch.log_probs), normalised(unprompted), axis=-1)
    assert columns["kl_unprompted"][2] is None
    close([columns["kl_unprompted"][i] for i in (0, 1, 3)], expected[[0, 1, 3]])


def test_the_search_kls_are_not_used(batch, reached, bank):
    first, _ = columns_of(batch, reached, bank, UNPROMPTED)
    bank.kl[:] = torch.rand(5, RESTARTS)
    second, _ = columns_of(batch, reached, bank, UNPROMPTED)
    assert first == second


def test_targets_that_were_not_searched_are_null(batch, reached, bank):
    bank.kl[[1, 0]] = math.inf
    bank.reason[[1, 0]] = StopReason.NOT_SEARCHED
    columns, log_q = columns_of(batch, reached, bank, UNPROMPTED)
    for name in NUMBERS:
        assert [v is None for v in columns[name]] == [False, True, False, True], name
    assert [s == "not_searched" for s in columns["stop_reason"]] == [False, True, False, True]
    assert log_q.isnan().all(-1).tolist() == [False, True, False, True]
    assert None not in columns["entropy"] + columns["kl_uniform"] + columns["kl_unprompted"]
    kl = result_table([columns])["kl"]
    assert kl.null_count == 2


def test_restarts_without_a_result_do_not_count(batch, reached, bank):
    bank.kl[:, 0] = math.inf
    reached[:, 0] = math.nan  # whatever their prompts give
    columns, log_q = columns_of(batch, reached, bank, UNPROMPTED)
    kl = scipy_entropy(normalised(batch.log_probs)[:, None], normalised(reached[:, 1:]), axis=-1)
    close(columns["kl"], kl.min(1))
    assert columns["best_restart"] == (kl.argmin(1) + 1).tolist()
    close(columns["kl_worst_restart"], kl.max(1))
    close(columns["kl_restart_std"], kl.std(1))
    assert log_q.isfinite().all()


def test_one_restart_has_no_spread(batch, reached):
    bank = SearchResults(5, 1, (2, 3))
    bank.kl[:] = 1.0
    columns, _ = columns_of(batch, reached[:, :1], bank, UNPROMPTED)
    assert columns["kl_restart_std"] == [0.0] * 4
    assert columns["kl_worst_restart"] == columns["kl"]


def test_columns_of_the_record_are_in_the_schema(batch, reached, bank):
    columns, _ = columns_of(batch, reached, bank, UNPROMPTED)
    assert set(columns) - set(SCHEMA.names) == {"best_restart"}


def test_top_tokens_of_either():
    p = torch.tensor([0.5, 0.3, 0.1, 0.1, 0.0])
    q = torch.tensor([0.0, 0.05, 0.05, 0.2, 0.7])
    assert top_tokens(p, q, 1) == [4, 0]
    assert top_tokens(p, q, 2) == [4, 0, 1, 3]
    assert sorted(top_tokens(p, q, 100)) == [0, 1, 2, 3, 4]


def test_what_fills_up_a_sparse_targets_top_tokens_is_none_of_them():
    p, q = torch.zeros(60), torch.full((60,), 0.01)
    p[20], q[30], q[40] = 1.0, 0.3, 0.12
    assert top_tokens(p, q, 2) == [20, 30, 40]
