"""Floors and lifts against gradient search: seconds for a target, side by side in one run.

On LMs: the floors alone; the lift (floors, sphere problem and scales, through Lightning); 500 Adam steps of the batched
soft search; and the obvious loop over one target at a time (see soft.py). The last two are timed over fewer steps and
extrapolated, but for the KLs, for which the whole search is made once.

On random heads without a transformer: floor and sphere problem against 500 Adam steps on the head alone, in float32.
Any LM with that head makes each of those steps longer, and leaves the first two as they are.

    python benchmarks/floor.py [--lms FOLDER ...] [--heads 4096x256 32000x1024 128256x2048] [--targets 64]
                               [--head-targets 16]
"""

import argparse
import math
import os
import resource
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

os.environ.setdefault("MKL_CBWR", "AUTO")  # as the command sets it

import torch
from soft import fit_seconds, loop_seconds, search_seconds

if TYPE_CHECKING:
    from lit_prompt.functional import OutputHead
    from lit_prompt.functional.floor import Floor
    from lit_prompt.functional.sphere import SpherePoint

STEPS = 500
_TIMED_STEPS = 25
_LOOP_TARGETS = 2


def timed_floors(head: "OutputHead", log_p: torch.Tensor) -> tuple["Floor", "SpherePoint", float, float]:
    """Floors and sphere points of targets ``[target, vocab]``, and the seconds that each of both takes."""
    from lit_prompt.functional import kl_floor, kl_on_sphere

    started = time.perf_counter()
    terms = head.terms(log_p)
    floor = kl_floor(head, terms)
    between = time.perf_counter()
    sphere = kl_on_sphere(head, terms, floor)
    return floor, sphere, between - started, time.perf_counter() - between


def time_lm(folder: str, count: int) -> None:
    """Prints a row for an LM."""
    from lit_prompt.data import TargetSet
    from lit_prompt.data.families import EntropyMatched
    from lit_prompt.lm import FrozenLM, LMOptions, Vocabulary, load_causal_lm, output_geometry
    from lit_prompt.models import PromptInit, SoftPrompt

    vocabulary = Vocabulary.load(folder, LMOptions())
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "targets"
        made = EntropyMatched(count, 1).targets(vocabulary)
        targets = TargetSet.write(path, made, vocabulary.size, vocabulary.fingerprint)
        log_p = targets.batch(range(len(targets))).log_probs
        head = output_geometry(FrozenLM(load_causal_lm(folder, LMOptions())))
        floor, sphere, floor_seconds, _ = timed_floors(head, log_p)
        lift = SoftPrompt(length=1, steps=1, init=PromptInit("lift"), lift_tolerance=1e-3)
        lift_seconds = fit_seconds(lift, folder, str(path))
        soft_seconds = search_seconds(folder, str(path), _TIMED_STEPS) * STEPS / _TIMED_STEPS
        loop = loop_seconds(folder, log_p[:: len(log_p) // _LOOP_TARGETS][:_LOOP_TARGETS], _TIMED_STEPS)
        loop *= STEPS / _TIMED_STEPS / _LOOP_TARGETS
        soft = SoftPrompt(steps=STEPS, kl_tolerance=0.0)
        fit_seconds(soft, folder, str(path))
    kl, other = lift.results.kl[:, 0], soft.results.kl[:, 0]
    seconds = [x / count for x in (floor_seconds, lift_seconds, soft_seconds)]
    steps = [float(found.steps.float().mean()) for found in (floor, sphere)]
    print(
        f"{Path(folder).name:12s}  {seconds[0]:7.4f} {steps[0]:6.0f}   {seconds[1]:7.4f} {sum(steps):6.0f}   "
        f"{seconds[2]:7.3f}  {loop:6.2f}   {seconds[2] / seconds[1]:8.1f}   {loop / seconds[1]:8.1f}  "
        f"{float(kl.mean()):7.4f}  {float(other.mean()):7.4f}  {int((kl <= other + 1e-5).sum())} of {count}",
        flush=True,
    )


def time_head(vocab: int, dim: int, count: int) -> None:
    """Prints a row for a random head."""
    from lit_prompt.functional import OutputHead, temperature_for_entropy

    generator = torch.Generator().manual_seed(0)
    # rows as long as those of trained LMs: logits of some units
    weight = torch.randn(vocab, dim, generator=generator) * (2.0 / dim**0.5)
    wanted = torch.linspace(0.5, 0.95 * math.log(vocab), count)
    log_p = temperature_for_entropy(torch.randn(count, vocab, generator=generator), wanted).log_softmax(-1).float()
    head = OutputHead(weight, None, torch.ones(dim), torch.zeros(dim), False, torch.finfo(torch.float32).eps)
    floor, sphere, floor_seconds, sphere_seconds = timed_floors(head, log_p)
    moments = head.terms(log_p).moments.float()
    state = torch.randn(count, dim, generator=generator).requires_grad_()
    adam = torch.optim.Adam([state], lr=0.1)
    timed = 3
    begun = time.perf_counter()
    for _ in range(timed):
        u = state * (dim**0.5 / state.norm(dim=1, keepdim=True))
        loss = ((u @ weight.T).logsumexp(1) - (moments * u).sum(1)).sum()
        adam.zero_grad()
        loss.backward()
        adam.step()
    adam_seconds = (time.perf_counter() - begun) * STEPS / timed
    ratio = adam_seconds / (floor_seconds + sphere_seconds)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"{vocab}x{dim}".ljust(12) + f"   {floor_seconds / count:7.3f} {float(floor.steps.float().mean()):6.0f}   "
        f"{sphere_seconds / count:7.3f} {float(sphere.steps.float().mean()):6.0f}   {adam_seconds / count:7.3f}   "
        f"{ratio:5.1f}   {float((floor.upper - floor.lower).max()):.1e}   {peak:6.2f}",
        flush=True,
    )


def main() -> None:
    """Measures and prints two tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--lms", nargs="*", default=[f"data/lms/{name}" for name in ("tales-llama", "tales-neox", "tales-gpt2")]
    )
    parser.add_argument("--heads", nargs="*", default=["4096x256", "32000x1024", "128256x2048"])
    parser.add_argument("--targets", type=int, default=64)
    parser.add_argument("--head-targets", type=int, default=16)
    arguments = parser.parse_args()
    print(f"{arguments.targets} targets, seconds a target, {torch.get_num_threads()} threads")
    print(
        "LM              floor  steps      lift  steps  Adam 500    loop  Adam/lift  loop/lift  KL lift  KL Adam  lower"
    )
    for lm in arguments.lms:
        time_lm(lm, arguments.targets)
    print(f"\n{arguments.head_targets} targets, seconds a target, heads alone")
    print("head           floor   steps   sphere  steps   Adam 500   ratio   widest gap   peak GiB")
    for head in arguments.heads:
        vocab, dim = (int(x) for x in head.split("x"))
        time_head(vocab, dim, arguments.head_targets)


if __name__ == "__main__":
    main()
