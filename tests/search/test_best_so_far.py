"""Best-so-far and stop reasons of independent searches."""

import io

import pytest
import torch

from lit_prompt.search import BestSoFar, StopReason

INF, NAN = torch.inf, torch.nan


def prompts_at(step, slots=3):
    """Prompts that tell slot and step."""
    return torch.arange(slots).view(-1, 1, 1) * 100.0 + torch.full((slots, 2, 4), float(step))


def start(slots=3, kl_tolerance=0.0, patience=None):
    return BestSoFar(prompts_at(0, slots), kl_tolerance, patience)


def one(slots):
    """A forward pass for each slot."""
    return torch.ones(len(slots), dtype=torch.long)


def run(best, *kls):
    for step, kl in enumerate(kls, start=1):
        best.observe(torch.tensor(kl), prompts_at(step, len(kl)), one(kl))
    return best


def reasons(best):
    return [StopReason(r).name for r in best.reason.tolist()]


def steps_of_best(best):
    return [int(p[0, 0]) % 100 for p in best.prompts]


def test_nothing_was_seen_at_first():
    best = start()
    assert best.kl.tolist() == [INF] * 3
    assert best.running.all()
    assert reasons(best) == ["RUNNING"] * 3
    assert best.forward_passes.tolist() == [0] * 3


def test_keeps_the_lowest_kl_and_its_prompt():
    best = run(start(), [3.0, 1.0, 2.0], [2.0, 2.0, 2.5], [2.5, 0.5, 2.0])
    assert best.kl.tolist() == [2.0, 0.5, 2.0]
    assert steps_of_best(best) == [2, 3, 1]  # of equals the first
    assert torch.equal(best.prompts[1], prompts_at(3)[1])
    assert best.forward_passes.tolist() == [3, 3, 3]


def test_what_was_kept_does_not_change_with_the_prompts_in_place():
    best, prompts = start(), prompts_at(1)
    best.observe(torch.tensor([1.0, 1.0, 1.0]), prompts, one(best.kl))
    prompts.zero_()
    assert torch.equal(best.prompts, prompts_at(1))


@pytest.mark.parametrize("shape", [(4,), (4, 5), (4, 5, 6)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.long])
def test_prompts_of_any_shape_and_dtype(shape, dtype):
    prompts = torch.arange(torch.Size(shape).numel()).view(shape).to(dtype)
    best = BestSoFar(prompts, 0.0, None)
    best.observe(torch.tensor([1.0, NAN, 1.0, 1.0]), prompts, one(best.kl))
    assert best.prompts.dtype == dtype
    assert torch.equal(best.prompts[[0, 2, 3]], prompts[[0, 2, 3]])
    assert (best.prompts[1] == 0).all()


@pytest.mark.parametrize(("kl", "stops"), [(0.101, False), (0.1, True), (0.05, True), (0.0, True)])
def test_stops_at_the_tolerance(kl, stops):
    best = run(start(1, kl_tolerance=0.1), [kl])
    assert reasons(best) == ["KL_TOLERANCE" if stops else "RUNNING"]
    assert best.kl.item() == pytest.approx(kl)


@pytest.mark.parametrize("patience", [1, 2, 3])
def test_stops_after_as_many_stale_steps_as_patience(patience):
    best = run(start(1, patience=patience), [1.0], *[[2.0]] * (patience - 1))
    assert reasons(best) == ["RUNNING"]
    best.observe(torch.tensor([2.0]), prompts_at(9, 1), one(best.kl))
    assert reasons(best) == ["PATIENCE"]
    assert best.kl.item() == 1.0


def test_an_equal_kl_is_stale():
    assert reasons(run(start(1, patience=2), [1.0], [1.0], [1.0])) == ["PATIENCE"]


def test_the_best_prompt_seen_again_is_stale_whatever_its_last_digits():
    best, prompts = start(2, patience=2), prompts_at(1, 2)
    for step, kl in enumerate([[1.0, 1.0], [1 - 1e-7, 1 - 1e-7], [1 - 2e-7, 1 - 2e-7]]):
        prompts[1] = step  # the first stays
        best.observe(torch.tensor(kl), prompts, one(kl))
    assert reasons(best) == ["PATIENCE", "RUNNING"]
    assert torch.equal(best.kl, torch.tensor([1.0, 1 - 2e-7]))


def test_a_better_kl_starts_the_patience_again():
    best = run(start(1, patience=2), [3.0], [4.0], [2.0], [4.0], [1.0], [4.0])
    assert reasons(best) == ["RUNNING"]
    assert best.kl.item() == 1.0


def test_without_patience_nothing_stops():
    assert run(start(1), *[[1.0]] * 50).running.all()


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
def test_a_kl_that_is_not_finite_stops_and_is_not_kept(bad):
    best = run(start(2), [2.0, 2.0], [bad, 1.0])
    assert reasons(best) == ["NOT_FINITE", "RUNNING"]
    assert best.kl.tolist() == [2.0, 1.0]
    assert steps_of_best(best) == [1, 2]


def test_not_finite_at_once_leaves_no_result():
    best = run(start(1), [NAN])
    assert reasons(best) == ["NOT_FINITE"]
    assert best.kl.item() == INF


def test_not_finite_is_the_reason_even_where_patience_ends():
    assert reasons(run(start(1, patience=1), [1.0], [NAN])) == ["NOT_FINITE"]


def test_the_tolerance_is_the_reason_even_where_patience_ends():
    best = start(1, kl_tolerance=0.5, patience=1)
    best.kl_tolerance = 0.0
    best.observe(torch.tensor([0.4]), prompts_at(1, 1), one(best.kl))
    best.kl_tolerance = 0.5
    best.observe(torch.tensor([0.45]), prompts_at(2, 1), one(best.kl))
    assert reasons(best) == ["KL_TOLERANCE"]


def test_each_slot_stops_for_itself():
    best = run(
        start(4, kl_tolerance=0.1, patience=2), [1.0, 1.0, 1.0, 1.0], [0.05, NAN, 2.0, 0.9], [2.0, 0.5, 2.0, 0.8]
    )
    assert reasons(best) == ["KL_TOLERANCE", "NOT_FINITE", "PATIENCE", "RUNNING"]
    assert best.running.tolist() == [False, False, False, True]


def test_stopped_slots_are_left_as_they_are():
    best = run(
        start(4, kl_tolerance=0.1, patience=2), [1.0, 1.0, 1.0, 1.0], [0.05, NAN, 2.0, 0.9], [2.0, 0.5, 2.0, 0.8]
    )
    stopped = ~best.running
    names = ("kl", "prompts", "forward_passes", "reason", "steps")
    before = {name: getattr(best, name)[stopped].clone() for name in names}
    for step, kl in enumerate([0.0, NAN, 3.0, 0.01], start=4):
        best.observe(torch.full((4,), kl), prompts_at(step, 4), one(best.kl))
    best.finish()
    for name in names:
        assert torch.equal(getattr(best, name)[stopped], before[name]), name
    assert best.forward_passes.tolist() == [2, 2, 3, 4]


def test_finish_ends_only_what_runs():
    best = run(start(2, kl_tolerance=0.1), [0.05, 1.0])
    best.finish()
    assert reasons(best) == ["KL_TOLERANCE", "STEPS"]
    assert not best.running.any()


def test_slots_do_not_depend_on_each_other():
    kls = torch.rand(12, 5, generator=torch.Generator().manual_seed(0)) + torch.linspace(1, 0, 12).unsqueeze(1)
    together = run(start(5, kl_tolerance=0.2, patience=2), *kls.tolist())
    for slot in range(5):
        alone = start(1, kl_tolerance=0.2, patience=2)
        for step, kl in enumerate(kls[:, slot], start=1):
            alone.observe(kl.view(1), prompts_at(step, 5)[slot : slot + 1], one([0]))
        for name, value in alone.state_dict().items():
            if name != "stale":  # goes on counting after a stop
                assert torch.equal(value[0], together.state_dict()[name][slot]), name


def saved_and_loaded(state):
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


def test_a_resumed_search_ends_as_if_it_had_not_stopped():
    kls = [[1.0, 1.0, 1.0], [0.9, 2.0, NAN], [1.2, 3.0, 0.1], [1.1, 0.2, 0.1], [0.01, 0.1, 0.1]]
    options = {"kl_tolerance": 0.05, "patience": 3}
    whole = run(start(3, **options), *kls)
    first = run(start(3, **options), *kls[:2])
    first.steps += 2
    first.seconds += 0.25
    second = start(3, **options)
    second.load_state_dict(saved_and_loaded(first.state_dict()))
    assert second.steps.tolist() == [2, 2, 2]
    assert second.seconds.tolist() == [0.25] * 3
    for step, kl in enumerate(kls[2:], start=3):
        second.observe(torch.tensor(kl), prompts_at(step), one(kl))
    for name in ("kl", "prompts", "forward_passes", "stale", "reason"):
        assert torch.equal(getattr(second, name), getattr(whole, name)), name
