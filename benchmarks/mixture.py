"""What a mixture of few prompts reaches where one does not, with no search at all: KL against the number of components.

The bank is windows of tokens of a text and as many random sequences; every prompt is scored once for all targets. For
each entropy: mean KL of the best single prompt, of greedy mixtures of at most 2, 4, 8 and 16, and of the best weights
of the whole bank, which are certified; beside it the floor that holds for a single prompt of any kind.

    python benchmarks/mixture.py [--lm data/lms/tales-llama] [--prompts 1000] [--length 10] [--targets 4]
"""

import argparse
import os
import time
from pathlib import Path

os.environ.setdefault("MKL_CBWR", "AUTO")  # as the command sets it

import torch
from torch import Tensor

from lit_prompt.data.families import EntropyMatched
from lit_prompt.data.target import Target
from lit_prompt.functional import kl_floor
from lit_prompt.functional.mixture import greedy_mixture, mixture_weights
from lit_prompt.functional.precision import double
from lit_prompt.lm import FrozenLM, LMOptions, Vocabulary, output_geometry

COMPONENTS = (1, 2, 4, 8, 16)
HEADER = f"| entropy | {' | '.join(map(str, COMPONENTS))} | all | certified gap of all | floor of one |\n|" + "---|" * 9
_AT_ONCE = 64


def bank(lm: FrozenLM, vocabulary: Vocabulary, text: str, count: int, length: int) -> Tensor:
    """Probabilities after each prompt ``[prompt, token]``, float64."""
    ids = torch.tensor(vocabulary.encode(text))
    windows = ids.unfold(0, length, max(1, (len(ids) - length) // (count // 2)))[: count // 2]
    generator = torch.Generator().manual_seed(0)
    ordinary = torch.tensor(vocabulary.ordinary_ids)
    random = ordinary[torch.randint(len(ordinary), (count - len(windows), length), generator=generator)]
    front = torch.tensor(vocabulary.front_ids, dtype=torch.long)
    found = []
    for part in torch.cat([windows, random]).split(_AT_ONCE):
        whole = torch.cat([front.expand(len(part), -1), part], 1)
        with torch.no_grad():
            found.append(double(lm.next_token_logits(lm.embed(whole))).softmax(-1))
    return torch.cat(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lm", default="data/lms/tales-llama")
    parser.add_argument("--prompts", type=int, default=1000)
    parser.add_argument("--length", type=int, default=10)
    parser.add_argument("--targets", type=int, default=4)
    parser.add_argument("--entropies", type=float, nargs="+", default=[1, 2, 3, 4, 5, 6, 7])
    options = parser.parse_args()
    torch.manual_seed(0)
    lm, vocabulary = FrozenLM.load(options.lm, LMOptions()), Vocabulary.load(options.lm, LMOptions())
    text = Path("data/lms/heldout.txt").read_text(encoding="utf-8")
    began = time.perf_counter()
    q = bank(lm, vocabulary, text, options.prompts, options.length)
    print(
        f"{Path(options.lm).name}: {len(q)} prompts of {options.length} tokens, {time.perf_counter() - began:.1f} s\n"
    )
    print(HEADER)
    head = output_geometry(lm)
    for entropy in options.entropies:
        family = EntropyMatched(entropies=[entropy], per_entropy=options.targets)
        made = (target for target in family.targets(vocabulary) if isinstance(target, Target))
        log_p = torch.stack([target.dense(lm.vocab_size) for target in made])
        p = double(log_p).softmax(-1)
        kl = torch.tensor([[greedy_mixture(one, q, most)[1].kl for most in COMPONENTS] for one in p])
        whole = [mixture_weights(one, q) for one in p]
        floor = float(kl_floor(head, head.terms(log_p)).lower.mean())
        shown = [f"{value:.2f}" for value in kl.mean(0).tolist()]
        every = sum(found.kl for found in whole) / len(whole)
        gap = max(found.gap for found in whole)
        print(f"| {entropy:g} | {' | '.join(shown)} | {every:.2f} | {gap:.0e} | {floor:.2f} |", flush=True)


if __name__ == "__main__":
    main()
