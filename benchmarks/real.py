"""A real LM: floors and sphere points, soft and hard search, side by side with what they have to beat, in one run.

1. Floors and sphere points of random targets, entropies over the whole range: seconds and evaluations of the head for a
   target; and the evaluations that projected gradient steps (Birgin, Martínez and Raydan, SIAM J. Optim. 10(4), 2000)
   need for the same gap on some of them.
2. A step of the soft search, against the bare LM's own forward and backward pass over as many embeddings.
3. Candidates a second of GCG and of the default search, and the share of the time in which the LM itself computes;
   where the processor computes in bfloat16, with candidates ranked so, too.

    python benchmarks/real.py --lm data/lms/SmolLM2-135M-Instruct.Q4_1.gguf [--targets 24] [--steps 5]
"""

import argparse
import math
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

os.environ.setdefault("MKL_CBWR", "AUTO")  # as the command sets it

import torch
from floor import timed_floors
from torch import Tensor

from lit_prompt.data import TargetSet
from lit_prompt.data.families import EntropyMatched
from lit_prompt.functional import OutputHead, kl_floor
from lit_prompt.functional.output_head import TargetTerms
from lit_prompt.lm import (
    AllowedTokens,
    FrozenLM,
    LMOptions,
    Vocabulary,
    computes_in_half,
    load_causal_lm,
    output_geometry,
)
from lit_prompt.objectives import ForwardKL
from lit_prompt.scoring import Contexts, LMScorer, Member, MicroBatch, Slots
from lit_prompt.search import GCG, Screening, Searcher, SharedSearch, TokenProblem
from lit_prompt.search.starts import random_starts

GAP = 1e-3
SOFT_LENGTH, HARD_LENGTH = 5, 10
_HARD_TARGETS = 4
_ROWS = 64  # prompts whose distributions are held at once


@contextmanager
def counted_evaluations(head: OutputHead) -> Iterator[list[int]]:
    """Gives a list of how many states each evaluation of a head takes."""
    rows: list[int] = []
    evaluate = head.kl_and_gradient

    def count(u: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
        rows.append(len(u))
        return evaluate(u, *rest)

    with patch.object(head, "kl_and_gradient", count):
        yield rows


def projected_gradient_evaluations(head: OutputHead, terms: TargetTerms, most: int) -> int:
    """Evaluations of spectral projected gradient descent to the gap, from state zero; ``most`` at most."""

    def project(u: Tensor) -> Tensor:
        u = head.centre(u)
        return u * min(1.0, head.radius / max(float(u.norm()), 1e-30))

    u = torch.zeros_like(terms.moments)
    (value, gradient), used = head.kl_and_gradient(u, terms, torch.float32), 1
    history, length = [float(value)], 1.0 / max(float(gradient.norm()), 1e-12)
    while used < most:
        gap = float((gradient * u).sum() + head.radius * gradient.norm())
        if min(gap, float(value)) <= GAP:
            break
        while used < most:
            after = project(u - length * gradient)
            new_value, new_gradient = head.kl_and_gradient(after, terms, torch.float32)
            used += 1
            if float(new_value) <= max(history[-8:]) + 1e-4 * float((gradient * (after - u)).sum()) + 1e-6:
                break
            length *= 0.25
        moved, turned = after - u, new_gradient - gradient
        curvature = float((moved * turned).sum())
        length = float((moved * moved).sum()) / curvature if curvature > 0 else 2.0 * length
        u, value, gradient = after, new_value, new_gradient
        history.append(float(value))
    return used


def floors(lm: FrozenLM, log_p: Tensor, entropies: list[float], references: int, most: int) -> None:
    """Prints seconds and evaluations of floors and sphere points."""
    head = output_geometry(lm)
    floor, sphere, floor_seconds, sphere_seconds = timed_floors(head, log_p)
    terms, count = head.terms(log_p), len(log_p)
    print(
        f"floor {floor_seconds / count:.2f} s a target, median {int(floor.steps.median())} steps; sphere "
        f"{sphere_seconds / count:.2f} s, median {int(sphere.steps.median())} steps; widest gap "
        f"{float((floor.upper - floor.lower).max()):.1e} nats",
        flush=True,
    )
    print("entropy   floor   sphere   evaluations   of projected gradients   ratio")
    ratios = []
    for i in range(0, count, max(1, count // references)):
        one = terms.rows(torch.tensor([i]))
        with counted_evaluations(head) as rows:
            kl_floor(head, one)
        ours, theirs = sum(rows), projected_gradient_evaluations(head, one, most)
        ratios.append(theirs / ours)
        more = "more than " if theirs >= most else ""
        print(
            f"{entropies[i]:7.2f} {float(floor.lower[i]):7.3f}  {float(sphere.kl[i]):7.3f}   {ours:11d}   "
            f"{more + str(theirs):>22s}   {theirs / ours:5.1f}",
            flush=True,
        )
    print(f"median ratio {statistics.median(ratios):.1f}")


def seconds_of(call: Callable[[], object], repeats: int) -> float:
    """Median seconds of a call, after one that does not count."""
    call()
    found = []
    for _ in range(repeats):
        started = time.perf_counter()
        call()
        found.append(time.perf_counter() - started)
    return statistics.median(found)


def scorer_of(lm: FrozenLM, vocabulary: Vocabulary, log_p: Tensor, length: int) -> LMScorer:
    """A scorer of prompts without texts around them."""
    contexts = Contexts("", "", lm, vocabulary)
    slots = Slots([str(i) for i in range(len(log_p))], [[Member(i, contexts.default)] for i in range(len(log_p))])
    return LMScorer(lm, slots, log_p, length, ForwardKL(), MicroBatch())


def logits_after(lm: FrozenLM, vocabulary: Vocabulary, prompts: Tensor) -> Iterator[Tensor]:
    """Logits after prompts ``[prompt, length]`` without texts around them, some at a time, ``[part, vocab]``."""
    front = torch.tensor(vocabulary.empty_text_ids, dtype=torch.long)
    for part in prompts.split(_ROWS):
        with torch.inference_mode():
            yield lm.next_token_logits(lm.embed(torch.cat([front.expand(len(part), -1), part], 1)))


def soft(lm: FrozenLM, vocabulary: Vocabulary, log_p: Tensor, steps: int) -> None:
    """Prints the seconds of a gradient of the soft search and of the bare LM."""
    scorer = scorer_of(lm, vocabulary, log_p, SOFT_LENGTH)
    prompts = torch.randn(len(log_p), SOFT_LENGTH, lm.embedding_dim)
    p, every = log_p.exp(), torch.arange(len(log_p))

    def bare() -> None:
        x = prompts.clone().requires_grad_()
        log_q = lm.model(inputs_embeds=x, use_cache=False, logits_to_keep=1).logits[:, -1].log_softmax(-1)
        (-(p * log_q).sum()).backward()

    ours, theirs = seconds_of(lambda: scorer.gradient(prompts, every), steps), seconds_of(bare, steps)
    print(
        f"soft, {len(log_p)} x {SOFT_LENGTH}: {ours:.2f} s a step, of the bare LM {theirs:.2f} s, {theirs / ours:.2f} x"
    )


def hard(
    lm: FrozenLM, vocabulary: Vocabulary, log_p: Tensor, searcher: Searcher, screening: Screening, steps: int
) -> None:
    """Prints the candidates a second of a searcher, the mean KL it reaches, and the LM's share."""
    half = screening.half(lm, HARD_LENGTH)
    scorer = scorer_of(lm, vocabulary, log_p, HARD_LENGTH)
    rough = None if half is None else scorer_of(half, vocabulary, log_p, HARD_LENGTH)
    allowed = torch.tensor(AllowedTokens().ids(vocabulary))
    problem = TokenProblem(scorer, log_p, allowed, 0, None, rough)
    every, inside = torch.arange(len(log_p)), list[float]()
    state = searcher.init(problem, *random_starts(problem))
    forward = type(lm.model.base_model).forward

    def timed(*args: Any, **options: Any) -> Any:
        started = time.perf_counter()
        found = forward(*args, **options)
        inside.append(time.perf_counter() - started)
        return found

    best = searcher.step(problem, state, 1, every).scores
    problem.take_passes()
    with patch.object(type(lm.model.base_model), "forward", timed):
        started = time.perf_counter()
        for number in range(2, 2 + steps):
            best = torch.minimum(best, searcher.step(problem, state, number, every).scores)
        seconds = time.perf_counter() - started
    tried = int((rough or scorer).take_passes().sum())
    print(
        f"{searcher.method}{', ranked in bfloat16' if half else ''}, {len(log_p)} targets, {HARD_LENGTH} tokens: "
        f"{tried / seconds:.0f} candidates a second, {sum(inside) / seconds:.0%} of the time in the LM's forward pass; "
        f"mean KL {float(best.mean()):.3f} after {steps + 1} steps",
        flush=True,
    )


def main() -> None:
    """Measures and prints everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lm", required=True, help="folder, GGUF file or hub id")
    parser.add_argument("--targets", type=int, default=24)
    parser.add_argument("--references", type=int, default=6, help="targets for which projected gradients run, too")
    parser.add_argument("--most", type=int, default=400, help="evaluations that they may make")
    parser.add_argument("--steps", type=int, default=5, help="timed steps of the searches")
    arguments = parser.parse_args()
    options = LMOptions()
    vocabulary = Vocabulary.load(arguments.lm, options)
    lm = FrozenLM(load_causal_lm(arguments.lm, options))
    print(f"{Path(arguments.lm).name}: {lm.vocab_size} tokens, {torch.get_num_threads()} threads", flush=True)
    highest = math.log(len(vocabulary.defined_ids)) - 0.1
    wanted = [0.1 + (highest - 0.1) * i / (arguments.targets - 1) for i in range(arguments.targets)]
    with tempfile.TemporaryDirectory() as work:
        made = EntropyMatched(wanted, 1).targets(vocabulary)
        targets = TargetSet.write(Path(work) / "targets", made, vocabulary.size, vocabulary.fingerprint)
        log_p = targets.batch(range(len(targets))).log_probs
        floors(lm, log_p, wanted, arguments.references, arguments.most)
        soft(lm, vocabulary, log_p, arguments.steps)
        few = log_p[:: max(1, len(log_p) // _HARD_TARGETS)][:_HARD_TARGETS]
        for searcher in (GCG(width=256), SharedSearch()):
            hard(lm, vocabulary, few, searcher, Screening("never", fixed_shapes=False), arguments.steps)
            if computes_in_half(lm.device):
                hard(lm, vocabulary, few, searcher, Screening("always", fixed_shapes=False), arguments.steps)


if __name__ == "__main__":
    main()
