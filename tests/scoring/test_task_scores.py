"""Scores of tasks, against the LM itself in float64, one sequence at a time."""

import math

import numpy as np
import pytest
import torch
import transformers
from scipy.special import rel_entr

from lit_prompt.functional.answer_tree import AnswerTree
from lit_prompt.lm import FrozenLM
from lit_prompt.objectives import ForwardKL, JensenShannon
from lit_prompt.scoring import Context, LMScorer, Member, MicroBatch, Slots
from tests.conftest import ARCHITECTURES, VOCABULARY

LENGTH = 4
CONTEXTS = [
    Context("", "", (3, 9), (7,), own=True),
    Context("", "", (), (11, 12, 13), own=True),
    Context("", "", (5,), (), own=True),
]
STRINGS = AnswerTree([[4, 8], [4, 9, 2], [10]], range(3), [0.5, 0.2, 0.3])
CELLS = AnswerTree([[4, 8], [4, 9, 2], [10], [12, 1]], [0, 1, 0, 1], [0.6, 0.4])
#: targets of each task: number of a distribution, of a context, weight, tree
TASKS = [
    [(0, 0, 0.25, None), (1, 1, 0.75, None)],
    [(2, 1, 0.5, None), (0, 0, 0.5, None)],
    [(1, 2, 1.0, None)],
    [(0, 0, 0.3, STRINGS), (1, 1, 0.7, None)],
    [(0, 2, 0.4, CELLS), (2, 1, 0.6, None)],
]


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def lms(request):
    config = ARCHITECTURES[request.param]()
    config.initializer_range = 0.3
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config)
    raw = transformers.AutoModelForCausalLM.from_config(config).double()
    raw.load_state_dict(model.state_dict())
    return FrozenLM(model), raw.eval()


def targets():
    logits = torch.randn(3, VOCABULARY, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    return (2 * logits).log_softmax(-1)


def scorer_of(lm, fluency=0.0, objective=None, tasks=TASKS, restarts=1):
    members = [[Member(t, CONTEXTS[c], w, tree) for t, c, w, tree in task] for task in tasks]
    slots = Slots([f"t{i}" for i in range(len(tasks))], members, restarts)
    return LMScorer(lm, slots, targets().float(), LENGTH, objective or ForwardKL(), MicroBatch(), fluency)


def log_probs(raw, ids):
    with torch.no_grad():
        return raw(torch.tensor([ids])).logits[0].log_softmax(-1)


def score(raw, ids, task, fluency=0.0):
    """The score of a task by its definition: whole answers by the probabilities of their strings."""
    total = 0.0
    for target, number, weight, tree in task:
        context = CONTEXTS[number]
        whole = [*context.before_ids, *ids, *context.after_ids]
        if tree is None:
            kl = rel_entr(targets()[target].exp().numpy(), log_probs(raw, whole)[-1].exp().numpy()).sum()
        else:
            strings, cells = ([[4, 8], [4, 9, 2], [10]], [0, 1, 2]) if tree is STRINGS else (
                [[4, 8], [4, 9, 2], [10], [12, 1]], [0, 1, 0, 1])  # fmt: skip
            q = np.zeros(len(tree))
            for answer, cell in zip(strings, cells, strict=True):
                log_q = log_probs(raw, whole + answer)
                places = range(len(whole) - 1, len(whole) + len(answer) - 1)
                q[cell] += math.exp(sum(float(log_q[p, t]) for p, t in zip(places, answer, strict=True)))
            kl = rel_entr(tree.log_probs.exp().numpy(), q).sum()
        log_q = log_probs(raw, [*context.before_ids, *ids])
        first = len(context.before_ids)
        own = [float(log_q[first + k - 1, t]) for k, t in enumerate(ids) if first + k > 0]
        total += weight * (kl - fluency * sum(own) / LENGTH)
    return total


def prompts(count=6, seed=1):
    return torch.randint(1, VOCABULARY, (count, LENGTH), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("fluency", [0.0, 0.5])
def test_scores_and_tables_are_the_weighted_sums_over_the_targets(lms, fluency):
    lm, raw = lms
    scorer = scorer_of(lm, fluency)
    ids = prompts(10)
    slots = torch.arange(10) % len(TASKS)
    wanted = torch.tensor(
        [[score(raw, own.tolist(), task, fluency) for task in TASKS] for own in ids], dtype=torch.float64
    )
    bases = scorer.bases(prompts(2, 5), torch.tensor([0, 1]))  # of one group: tasks 0 and 1 have the same contexts
    found = scorer.scores(ids, slots)
    assert (found - wanted[torch.arange(10), slots]).abs().max() <= 2e-5
    table = scorer.table(ids, slots)
    group = scorer.slots.group
    same = group[slots].unsqueeze(1) == group
    assert group.tolist() == [0, 0, 1, 2, 3]
    assert torch.equal(table.isfinite(), same)
    assert (table - wanted)[same].abs().max() <= 2e-5
    # variations of other prompts give the same
    near = prompts(2, 5).repeat_interleave(4, 0)
    near[torch.arange(8), torch.arange(8) % LENGTH] = prompts(8, 6)[:, 0]
    base, own = torch.arange(2).repeat_interleave(4), torch.tensor([0, 1, 0, 1, 1, 0, 1, 0])
    whole = scorer.scores(near, own)
    assert (scorer.scores(near, own, bases, base) - whole).abs().max() <= 2e-5
    tables = scorer.table(near, own, bases, base)
    assert (tables[torch.arange(8), own] - whole).abs().max() <= 2e-5
    assert (tables - scorer.table(near, own))[:, :2].abs().max() <= 2e-5


def test_gradients_are_those_of_the_scores(lms):
    lm, raw = lms
    scorer = scorer_of(lm)
    ids = prompts(5)
    slots = torch.arange(5)
    found, gradient = scorer.gradient(lm.embed(ids).float(), slots)
    wanted = torch.tensor([score(raw, own.tolist(), task) for own, task in zip(ids, TASKS, strict=True)])
    assert (found - wanted).abs().max() <= 2e-5
    direction = torch.randn(gradient.shape, generator=torch.Generator().manual_seed(0))
    embeddings = lm.embed(ids).float()
    for task in range(5):  # a soft prompt in float64, through the LM itself, by central differences
        own = slots == task
        step = 1e-3
        up, down = (scorer.scores(embeddings[own] + sign * step * direction[own], slots[own]) for sign in (1, -1))
        slope = float((gradient[own] * direction[own]).sum())
        assert slope == pytest.approx(float((up - down) / (2 * step)), rel=2e-2, abs=2e-2)


def test_gradients_of_cells_are_exact(lms):
    """Against automatic differentiation of the definition, in float64."""
    lm, raw = lms
    ids = prompts(1, 9)
    _, gradient = scorer_of(lm).gradient(lm.embed(ids).float(), torch.tensor([4]))
    table = raw.get_input_embeddings()
    x = table(ids).detach().requires_grad_()
    total = torch.zeros((), dtype=torch.float64)
    for target, number, weight, tree in TASKS[4]:
        context = CONTEXTS[number]

        def after(prefix, context=context):
            fixed = [table(torch.tensor([part], dtype=torch.long)) for part in (context.before_ids, context.after_ids)]
            end = table(torch.tensor([prefix], dtype=torch.long))
            whole = torch.cat([fixed[0], x, fixed[1], end], 1)
            return raw(inputs_embeds=whole).logits[0, -1].log_softmax(-1)

        if tree is None:
            log_p = targets()[target]
            total = total + weight * (log_p.exp() * (log_p - after([]))).sum()
        else:
            edges = [after(tree.prefixes[n])[t] for n, t in zip(tree.node.tolist(), tree.token.tolist(), strict=True)]
            total = total + weight * tree.kl(torch.stack(edges))
    (wanted,) = torch.autograd.grad(total, x)
    assert (gradient - wanted).abs().max() <= 1e-4 * wanted.abs().max()


def test_a_tasks_scores_do_not_depend_on_the_others(lms):
    lm, _ = lms
    ids = prompts(12)
    for number, task in enumerate(TASKS):
        alone = scorer_of(lm, tasks=[task]).scores(ids, torch.zeros(12, dtype=torch.long))
        among = scorer_of(lm).scores(ids, torch.full((12,), number))
        assert torch.equal(alone, among)
        _, one = scorer_of(lm, tasks=[task]).gradient(lm.embed(ids).float(), torch.zeros(12, dtype=torch.long))
        _, other = scorer_of(lm).gradient(lm.embed(ids).float(), torch.full((12,), number))
        assert torch.equal(one, other)


def test_other_objectives_are_weighted_too(lms):
    lm, raw = lms
    objective = JensenShannon()
    scorer = scorer_of(lm, objective=objective, tasks=TASKS[:3])
    ids, slots = prompts(6), torch.arange(6) % 3
    for own, slot, found in zip(ids.tolist(), slots.tolist(), scorer.scores(ids, slots).tolist(), strict=True):
        wanted = 0.0
        for target, number, weight, _ in TASKS[slot]:
            context = CONTEXTS[number]
            log_q = log_probs(raw, [*context.before_ids, *own, *context.after_ids])[-1]
            wanted += weight * float(objective.divergence(targets()[target], log_q))
        assert found == pytest.approx(wanted, abs=1e-5)
    table = scorer.table(ids, slots)
    assert (table[torch.arange(6), slots] - scorer.scores(ids, slots)).abs().max() <= 1e-6


def test_every_context_counts_as_a_pass(lms):
    lm, _ = lms
    scorer = scorer_of(lm)
    scorer.scores(prompts(3), torch.tensor([0, 2, 3]))
    # two contexts; one; the longer of the string target's beginnings of answers (the root lies on the way), and another
    assert scorer.take_passes().tolist() == [2, 0, 1, 2, 0]


def test_long_sequences_are_scored_in_every_context(lms):
    lm, raw = lms
    scorer = scorer_of(lm)
    ids = prompts(5, 7)
    for group in ([0, 1], [3], [4]):
        found = scorer.scan(ids, torch.tensor(group), True)[:, 0]
        for own, row in zip(ids.tolist(), found.tolist(), strict=True):
            assert row == pytest.approx([score(raw, own, TASKS[slot]) for slot in group], abs=2e-5)


def test_restarts_share_nothing(lms):
    lm, _ = lms
    scorer = scorer_of(lm, restarts=2)
    table = scorer.table(prompts(4), torch.tensor([0, 1, 2, 3]))  # task 0 twice, task 1 twice
    assert table.isfinite().tolist()[0] == [True, False, True, False] + [False] * 6
    assert table.isfinite().tolist()[1] == [False, True, False, True] + [False] * 6
