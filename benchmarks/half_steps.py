"""Early gradients in bfloat16: what they save a soft search, and what they cost it.

The same random targets (entropies from 1 nat to 9), from the same starts, with several numbers of half steps. Worth
something where the processor computes in bfloat16 alone.

    python benchmarks/half_steps.py --lm data/lms/SmolLM2-135M-Instruct.Q4_1.gguf [--targets 12] [--steps 200]
"""

import argparse
import os
import statistics

os.environ.setdefault("MKL_CBWR", "AUTO")  # as the command sets it

from lit_prompt import find
from lit_prompt.data.families import EntropyMatched

SHARES = (0.0, 0.75)  # the latter is what a search does where it pays


def main() -> None:
    """Runs and prints everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lm", required=True, help="folder, GGUF file or hub id")
    parser.add_argument("--targets", type=int, default=12)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1], help="of the starts")
    args = parser.parse_args()
    entropies = [1.0 + 8.0 * i / max(1, args.targets - 1) for i in range(args.targets)]
    print("| seed | half steps | seconds | mean KL | median KL | KL of each |\n|---|---|---|---|---|---|")
    for seed in args.seeds:
        for share in SHARES:
            half = int(share * args.steps)
            found = find(
                args.lm, [EntropyMatched(entropies, 1)], "soft", progress=False,
                steps=args.steps, half_steps=half, kl_tolerance=0.0, seed=seed,
            )  # fmt: skip
            kl = [float(row["kl"]) for row in found.rows]
            seconds = sum(float(row["seconds"]) for row in found.rows)
            each = " ".join(f"{value:.2f}" for value in kl)
            means = f"{statistics.mean(kl):.3f} | {statistics.median(kl):.3f}"
            print(f"| {seed} | {half} | {seconds:.0f} | {means} | {each} |", flush=True)


if __name__ == "__main__":
    main()
