"""How much of what hard prompts lack against soft ones is due to the number of their tokens.

Random targets of several entropies on one LM. For each length of prompts, mean KL over the targets of an entropy:

- hard: what a search finds; of one token every prompt there is is scored, so that nothing lower exists.
- soft: the least KL found on the sphere, which one soft token reaches (the lift).
- floors: the certified floor, and the token floor of prompts of exactly that length, all claims of a run together but
  with a probability of one in a million.
- explained: how far the token floor is above the soft prompts' KL, as a share of how far the hard prompts' is (means
  over targets, none negative): so much of the gap no search can close.

Prompts may hold every token of the vocabulary and need not survive as text, so that no constraint is taken for a limit.

    python benchmarks/token_floor.py [--lm data/lms/tales-llama] [--lengths 1 2 5 10 20] [--steps 100]
                                     [--entropies 1 2 ...] [--targets 4]
"""

import argparse
import math
import os
import tempfile
import time
from pathlib import Path

os.environ.setdefault("MKL_CBWR", "AUTO")  # as the command sets it

import numpy as np
import torch
from floor import timed_floors
from numpy.typing import NDArray
from real import scorer_of
from soft import fit_seconds
from torch import Tensor

from lit_prompt.data import TargetSet
from lit_prompt.data.families import EntropyMatched
from lit_prompt.functional import kl_floor_tokens, prompt_information
from lit_prompt.lm import AllowedTokens, FrozenLM, LMOptions, Vocabulary, load_causal_lm, output_geometry
from lit_prompt.models import HardPrompt
from lit_prompt.results.text import number

HEADER = "| tokens | entropy | hard | soft | certified floor | token floor | explained |\n|---|---|---|---|---|---|---|"
_ALL_TOKENS = AllowedTokens("any", special=True)
#: prompts whose scores are held at once
_TOGETHER = 4096


def best_of_every_token(lm: FrozenLM, vocabulary: Vocabulary, log_p: Tensor, allowed: list[int]) -> NDArray[np.float64]:
    """The least KL of all prompts of one token, ``[target]``."""
    scorer = scorer_of(lm, vocabulary, log_p, 1)
    best = torch.full((len(log_p),), math.inf)
    for part in torch.tensor(allowed).unsqueeze(1).split(_TOGETHER):
        best = torch.minimum(best, scorer.table(part, torch.zeros(len(part), dtype=torch.long)).min(0).values)
    return best.double().numpy()


def searched(lm: str, targets: TargetSet, length: int, steps: int) -> NDArray[np.float64]:
    """The KL that the default search finds with prompts of a length, ``[target]``; NaN where it makes no step."""
    if steps == 0:
        return np.full(len(targets), np.nan)
    model = HardPrompt(length, steps, tokens=_ALL_TOKENS, readable=False, kl_tolerance=0.0)
    fit_seconds(model, lm, str(targets.folder))
    return model.results.kl[:, 0].double().numpy()


def row(length: int, entropy: str, hard: NDArray[np.float64], soft: NDArray[np.float64], *floors: object) -> str:
    """A row of the table, of some targets."""
    certified, tokens = (np.asarray(floor) for floor in floors)
    gap = (hard - soft).clip(0).sum()
    explained = (np.minimum(tokens, hard) - soft).clip(0).sum() / gap if gap > 0 else math.nan
    values = " | ".join(number(float(x.mean())) for x in (hard, soft, certified, tokens))
    return f"| {length} | {entropy} | {values} | {number(100 * explained, 0)} % |"


def main() -> None:
    """Searches and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lm", default="data/lms/tales-llama", help="folder, GGUF file or hub id")
    parser.add_argument("--lengths", type=int, nargs="+", default=[1, 2, 5, 10, 20])
    parser.add_argument("--steps", type=int, default=100, help="of the searches; 0: floors alone")
    parser.add_argument("--entropies", type=float, nargs="+", default=[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0])
    parser.add_argument("--targets", type=int, default=4, help="at each entropy")
    arguments = parser.parse_args()
    options = LMOptions()
    vocabulary = Vocabulary.load(arguments.lm, options)
    lm = FrozenLM(load_causal_lm(arguments.lm, options))
    allowed = _ALL_TOKENS.ids(vocabulary)
    with tempfile.TemporaryDirectory() as work:
        made = EntropyMatched(arguments.entropies, arguments.targets).targets(vocabulary)
        targets = TargetSet.write(Path(work) / "targets", made, vocabulary.size, vocabulary.fingerprint)
        log_p, h = targets.batch(range(len(targets))).log_probs, targets.entropy.numpy()
        floor, sphere, *_ = timed_floors(output_geometry(lm), log_p)
        exchangeable = torch.zeros(log_p.shape, dtype=torch.bool)
        exchangeable[:, torch.tensor(vocabulary.defined_ids)] = True
        claims = len(targets) * len(arguments.lengths)
        information = [prompt_information(len(allowed), length, claims) for length in arguments.lengths]
        started = time.perf_counter()
        tokens = kl_floor_tokens(log_p, exchangeable, torch.tensor(information, dtype=torch.float64)).numpy()
        seconds = time.perf_counter() - started
        print(
            f"{Path(arguments.lm).name}: {len(h)} random targets, {len(allowed)} tokens, {arguments.steps} steps; "
            f"{seconds / len(targets):.3f} s for the token floors of a target\n\n{HEADER}",
            flush=True,
        )
        for length, own in zip(arguments.lengths, tokens.T, strict=True):
            if length == 1:
                hard = best_of_every_token(lm, vocabulary, log_p, allowed)
            else:
                hard = searched(arguments.lm, targets, length, arguments.steps)
            columns = hard, sphere.kl.numpy(), floor.lower.numpy(), own
            groups = {f"{entropy:g}": np.abs(h - entropy) < 0.01 for entropy in arguments.entropies}
            for entropy, group in {**groups, "all": np.full(len(h), True)}.items():
                print(row(length, entropy, *(x[group] for x in columns)), flush=True)
            if below := int((hard < own).sum()):
                print(f"{below} of {len(h)} KLs are below their token floor", flush=True)


if __name__ == "__main__":
    main()
