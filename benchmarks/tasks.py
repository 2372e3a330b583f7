"""One task of many contexts against as many tasks of one: passes, seconds and peak memory, soft and hard.

Each search runs in a fresh process, both kinds in turn, and medians over rounds are compared, so that a machine that
slows down for a while slows both. A step of the task's search scores every prompt in all contexts; a step of the other
searches a prompt for each context. Answers of several tokens are timed beside first tokens.

    python benchmarks/tasks.py [--lm data/lms/tales-llama] [--contexts 50] [--steps 5] [--rounds 3]
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch

from lit_prompt.functional.answer_tree import AnswerTree
from lit_prompt.lm import AllowedTokens, FrozenLM, LMOptions, Vocabulary
from lit_prompt.objectives import ForwardKL
from lit_prompt.scoring import Context, LMScorer, Member, MicroBatch, Slots
from lit_prompt.search import BestSoFar, ChunkSearch, SharedSearch, TokenProblem, random_starts

LENGTH = 10
#: tokens of a context's text after the prompt
AFTER = 20
KINDS = ("one task", "tasks of one", "one task, answers of 3 tokens")


def slots_of(kind: str, contexts: int, vocab: int) -> Slots:
    """The tasks of a kind."""
    generator = torch.Generator().manual_seed(0)
    members = []
    for number in range(contexts):
        after = tuple(torch.randint(1, vocab, (AFTER,), generator=generator).tolist())
        answers = torch.randint(1, vocab, (4, 3), generator=generator).tolist()
        tree = AnswerTree(answers, range(4), [0.4, 0.3, 0.2, 0.1]) if "answers" in kind else None
        weight = 1.0 if kind == "tasks of one" else 1 / contexts
        members.append(Member(number, Context("", "", (), after, own=True), weight, tree))
    if kind == "tasks of one":
        return Slots([str(i) for i in range(contexts)], [[member] for member in members])
    return Slots(["task"], [members])


def search(lm: FrozenLM, vocabulary: Vocabulary, kind: str, soft: bool, contexts: int, steps: int) -> dict[str, float]:
    """Passes and seconds of a search, without its start."""
    slots = slots_of(kind, contexts, lm.vocab_size)
    logits = torch.randn(contexts, lm.vocab_size, generator=torch.Generator().manual_seed(1))
    log_probs = (3 * logits).log_softmax(-1)
    scorer = LMScorer(lm, slots, log_probs, LENGTH, ForwardKL(), MicroBatch())
    every = torch.arange(len(slots))
    if soft:
        prompts = torch.randn(len(slots), LENGTH, lm.embedding_dim, device=lm.device)
        scorer.gradient(prompts, every)  # kernels are prepared
        scorer.take_passes()
        started = time.perf_counter()
        for _ in range(steps):
            prompts -= 0.1 * scorer.gradient(prompts, every)[1].sign()
        return {"passes": float(scorer.take_passes().sum()), "seconds": time.perf_counter() - started}
    problem = TokenProblem(scorer, log_probs, torch.tensor(AllowedTokens().ids(vocabulary)), 0)
    best = BestSoFar(torch.zeros(len(slots), LENGTH, dtype=torch.long), 0.0, None)
    chunk = ChunkSearch(SharedSearch(), problem, best)
    chunk.init(*random_starts(problem, tries=1), 0.0)
    before = best.forward_passes.sum()
    started = time.perf_counter()
    for _ in range(steps):
        chunk.step()
    return {"passes": float(best.forward_passes.sum() - before), "seconds": time.perf_counter() - started}


def measured(options: argparse.Namespace, kind: str, soft: bool) -> dict[str, float]:
    """A search in a process of its own."""
    arguments = ["--lm", options.lm, "--contexts", str(options.contexts), "--steps", str(options.steps)]
    command = [sys.executable, __file__, *arguments, "--kind", kind, *(["--soft"] if soft else [])]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Prints a table; with ``--kind`` measures one search."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lm", default=str(Path(__file__).parents[1] / "data" / "lms" / "tales-llama"))
    parser.add_argument("--contexts", type=int, default=50)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kind", choices=KINDS)
    parser.add_argument("--soft", action="store_true")
    options = parser.parse_args()
    if options.kind is not None:
        lm = FrozenLM.load(options.lm, LMOptions())
        vocabulary = Vocabulary.load(options.lm, LMOptions())
        idle = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        found = search(lm, vocabulary, options.kind, options.soft, options.contexts, options.steps)
        found["memory"] = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - idle) / 1024
        print(json.dumps(found))
        return
    print(f"{options.contexts} contexts of {AFTER} tokens, prompts of {LENGTH}; a step; memory beyond the LM's, MiB\n")
    print("| search | passes | seconds | MiB |\n| --- | ---: | ---: | ---: |")
    for soft in (True, False):
        rounds = [{kind: measured(options, kind, soft) for kind in KINDS} for _ in range(options.rounds)]
        for kind in KINDS:
            middle = {
                name: statistics.median(r[kind][name] for r in rounds) for name in ("passes", "seconds", "memory")
            }
            name = f"{'soft' if soft else 'hard'}: {kind}"
            passes, seconds = middle["passes"] / options.steps, middle["seconds"] / options.steps
            print(f"| {name} | {passes:,.0f} | {seconds:.3f} | {middle['memory']:,.0f} |")


if __name__ == "__main__":
    main()
