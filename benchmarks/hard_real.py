"""Hard prompts of 10 tokens on a real LM: how close the default search comes, and how far its starts are already.

Sets of 16 targets, searched together: eight that the LM itself makes after contexts of children's stories, by the set's
seed, and eight random ones (entropies 1, 3, 5 and 7 nats, two of each), by its place among the sets. Passes and seconds
are those of a target, the bank's included; the project's natural texts in it take 102 of the passes, once for an LM
where a run keeps what it gave.

With ``--planted`` the targets are what the LM gives after ten random tokens, four each nearest to an entropy of 1, 3
and 5 nats: ten tokens reach a KL of 0, and what is found tells the search from what the LM cannot say.

    python benchmarks/hard_real.py --lm data/lms/SmolLM2-135M-Instruct.Q4_1.gguf [--steps 100] [--seeds 7 8]
                                   [--texts STORIES --pieces 2048] [--planted]
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

os.environ.setdefault("MKL_CBWR", "AUTO")  # as the command sets it

import torch
from hard import Bench, Recorder
from real import logits_after

from lit_prompt.cli.run import quiet
from lit_prompt.data import Target
from lit_prompt.data.contexts import ContextCut
from lit_prompt.data.families import EntropyMatched, FromLM
from lit_prompt.data.texts import TextSource
from lit_prompt.functional import entropy
from lit_prompt.lm import AllowedTokens
from lit_prompt.models import HardPrompt
from lit_prompt.scoring import Contexts
from lit_prompt.search import TokenStart

LENGTH, EACH = 10, 8
PLANTED, PLANTED_EACH, TRIED = (1.0, 3.0, 5.0), 4, 1500
CONTEXTS = TextSource("data/lms/heldout.txt")


def targets(bench: Bench, seed: int, number: int) -> list[Target]:
    """Targets that the LM makes, then random ones."""
    own = FromLM(contexts=CONTEXTS, cut=ContextCut(per_text=1), count=EACH, partners=False, name="LM-made", seed=seed)
    random = EntropyMatched([1.0, 3.0, 5.0, 7.0], EACH // 4, seed=number)
    made = [*own.targets(bench.vocabulary), *random.targets(bench.vocabulary)]
    return [target for target in made if isinstance(target, Target)]


def planted(bench: Bench, seed: int) -> list[Target]:
    """Targets that the LM makes after random prompts that survive as text."""
    vocabulary, lm = bench.vocabulary, bench.at_hand
    contexts = Contexts("", "", lm, vocabulary)
    trip = contexts.round_trip([contexts.default])
    generator = torch.Generator().manual_seed(seed)
    allowed = torch.tensor(AllowedTokens().ids(vocabulary))
    prompts: list[list[int]] = []
    while len(prompts) < TRIED:
        ids = allowed[torch.randint(len(allowed), (LENGTH,), generator=generator)].tolist()
        prompts += [ids] * trip.survives([ids])[0]
    logits = torch.cat([*logits_after(lm, vocabulary, torch.tensor(prompts))])
    h = entropy(logits)
    nearest = {wanted: (h - wanted).abs().argsort()[:PLANTED_EACH].tolist() for wanted in PLANTED}
    return [
        Target.from_logits(f"planted/H{wanted:.0f}/{row}", "planted", logits[row])
        for wanted, rows in nearest.items()
        for row in rows
    ]


def main() -> None:
    """Runs and prints everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lm", required=True)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--seeds", type=int, nargs="*", default=[7, 8], help="a set of targets each")
    parser.add_argument("--texts", help="a file of natural texts for the bank, in place of those of the project")
    parser.add_argument("--pieces", type=int, default=TokenStart.natural_texts, help="of them, of 64 tokens")
    parser.add_argument("--planted", action="store_true", help="targets that ten tokens reach, in their place")
    args = parser.parse_args()
    quiet()
    kinds = {"LM-made": slice(EACH), "random": slice(EACH, None)}
    if args.planted:
        kinds = {
            f"planted, {wanted:g} nats": slice(PLANTED_EACH * i, PLANTED_EACH * (i + 1))
            for i, wanted in enumerate(PLANTED)
        }
    print("| seed | targets | step | median KL | KL of each | passes | seconds |\n|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as work:
        bench = Bench(args.lm, Path(work), time.perf_counter)
        texts = TokenStart.texts if args.texts is None else TextSource(args.texts)
        start = TokenStart(texts=texts, natural_texts=args.pieces)
        for number, seed in enumerate(args.seeds):
            recorder = Recorder(time.perf_counter, float("inf"))
            model = HardPrompt(LENGTH, args.steps, start=start, kl_tolerance=0.0)
            made = planted(bench, seed) if args.planted else targets(bench, seed, number)
            bench.fit(made, model, recorder)
            for step in sorted({0, args.steps // 2, args.steps - 1}):
                for name, own in kinds.items():
                    kl = recorder.kl[step][own]
                    each = " ".join(f"{value:.2f}" for value in kl)
                    at = f"{recorder.passes[step]:.0f} | {recorder.seconds[step] / len(recorder.kl[0]):.1f}"
                    print(f"| {seed} | {name} | {step + 1} | {statistics.median(kl):.3f} | {each} | {at} |", flush=True)


if __name__ == "__main__":
    main()
