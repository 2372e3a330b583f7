"""How much of what hard prompts lack against soft ones is due to the number of their tokens.

Random targets of several entropies on one LM. For each length of prompts, mean KL over the targets of an entropy:

- hard: what a search finds; of one token every prompt there is is scored, so that nothing lower exists.
- soft: the least KL found on the sphere, which one soft token reaches (the lift).
- floors: the certified floor, and the token floor of prompts of exactly that length, all claims of a run together but
  with a probability of one in a million.
- tails: the token floor with the most even tails of this LM that were seen: of one token after every prompt there is,
  so that it is as certain as the token floor; of more after ``--random`` random prompts, those that were found for the
  targets, and what searches for even distributions find, so that it is of all prompts whose tails are no more even.
- explained: how far the token floor, then that of the tails, is above the soft prompts' KL, as a share of how far the
  hard prompts' is (means over targets, none negative): so much of the gap no search can close.

Prompts may hold every token of the vocabulary and need not survive as text, so that no constraint is taken for a limit.

    python benchmarks/token_floor.py [--lm data/lms/tales-llama] [--lengths 1 2 5 10 20] [--steps 100]
                                     [--entropies 1 2 ...] [--targets 4] [--random 1000]
"""

import argparse
import math
import os
import tempfile
import time
from functools import reduce
from pathlib import Path

os.environ.setdefault("MKL_CBWR", "AUTO")  # as the command sets it

import numpy as np
import torch
from floor import timed_floors
from numpy.typing import NDArray
from real import logits_after, scorer_of
from soft import fit_seconds
from torch import Tensor

from lit_prompt.data import Target, TargetSet
from lit_prompt.data.families import EntropyMatched
from lit_prompt.functional import Tails, kl_floor_tails, kl_floor_tokens, prompt_information
from lit_prompt.lm import AllowedTokens, FrozenLM, LMOptions, Vocabulary, load_causal_lm, output_geometry
from lit_prompt.models import HardPrompt
from lit_prompt.objectives import Objective
from lit_prompt.results.text import number

HEADER = (
    "| tokens | entropy | hard | soft | certified floor | token floor | tails | explained | by tails |"
    "\n|---|---|---|---|---|---|---|---|---|"
)
_ALL_TOKENS = AllowedTokens("any", special=True)
#: prompts whose scores are held at once
_TOGETHER = 4096
#: powers that searches for even distributions are for, beside KL(uniform || LM)
_POWERS = (0.1, 0.3)


class Evenness(Objective):
    """The Rényi divergence of order 1 - b of the uniform distribution from the LM's, in nats."""

    name = "evenness"

    def __init__(self, power: float) -> None:
        self.power = power

    def divergence(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        """That divergence; the target is the uniform distribution."""
        size = math.log(log_q.shape[-1])
        return (size - (self.power * log_q).logsumexp(-1)) / self.power - size


def best_of_every_token(lm: FrozenLM, vocabulary: Vocabulary, log_p: Tensor, allowed: list[int]) -> NDArray[np.float64]:
    """The least KL of all prompts of one token, ``[target]``."""
    scorer = scorer_of(lm, vocabulary, log_p, 1)
    best = torch.full((len(log_p),), math.inf)
    for part in torch.tensor(allowed).unsqueeze(1).split(_TOGETHER):
        best = torch.minimum(best, scorer.table(part, torch.zeros(len(part), dtype=torch.long)).min(0).values)
    return best.double().numpy()


def searched(
    lm: str, targets: TargetSet, length: int, steps: int, objective: Objective | None = None
) -> tuple[NDArray[np.float64], Tensor]:
    """The KL that the default search finds with prompts of a length, ``[target]``, and the prompts."""
    model = HardPrompt(length, steps, tokens=_ALL_TOKENS, readable=False, kl_tolerance=0.0, objective=objective)
    fit_seconds(model, lm, str(targets.folder))
    return model.results.kl[:, 0].double().numpy(), model.results.prompts[:, 0]


def tails_after(lm: FrozenLM, vocabulary: Vocabulary, prompts: Tensor) -> Tails:
    """Tails of what the LM gives after prompts ``[prompt, length]``."""
    defined = torch.tensor(vocabulary.defined_ids)
    each = (Tails.of(logits.log_softmax(-1)[:, defined]) for logits in logits_after(lm, vocabulary, prompts))
    return reduce(Tails.with_prompts_of, each)


def even_prompts(lm: str, vocabulary: Vocabulary, folder: Path, length: int, steps: int) -> Tensor:
    """What searches for even distributions find, ``[prompt, length]``."""
    ids = torch.tensor(vocabulary.defined_ids)
    even = Target.from_weights("even", "even", ids, torch.ones(len(ids)), vocabulary.size)
    targets = TargetSet.write(folder, iter([even]), vocabulary.size, vocabulary.fingerprint)
    objectives = [None, *map(Evenness, _POWERS)]
    return torch.cat([searched(lm, targets, length, steps, each)[1] for each in objectives])


def row(length: int, entropy: str, hard: NDArray[np.float64], soft: NDArray[np.float64], *floors: object) -> str:
    """A row of the table, of some targets."""
    certified, tokens, tails = (np.asarray(floor) for floor in floors)
    gap = (hard - soft).clip(0).sum()
    values = " | ".join(number(float(x.mean())) for x in (hard, soft, certified, tokens, tails))
    for floor in (tokens, tails):
        explained = (np.minimum(floor, hard) - soft).clip(0).sum() / gap if gap > 0 else math.nan
        values += f" | {number(100 * explained, 0)} %"
    return f"| {length} | {entropy} | {values} |"


def main() -> None:
    """Searches and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lm", default="data/lms/tales-llama", help="folder, GGUF file or hub id")
    parser.add_argument("--lengths", type=int, nargs="+", default=[1, 2, 5, 10, 20])
    parser.add_argument("--steps", type=int, default=100, help="of the searches")
    parser.add_argument("--entropies", type=float, nargs="+", default=[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0])
    parser.add_argument("--targets", type=int, default=4, help="at each entropy")
    parser.add_argument("--random", type=int, default=1000, help="random prompts whose tails are measured")
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
        random = torch.Generator().manual_seed(0)
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
                seen = torch.tensor(allowed).unsqueeze(1)
            else:
                hard, prompts = searched(arguments.lm, targets, length, arguments.steps)
                drawn = torch.tensor(allowed)[torch.randint(len(allowed), (arguments.random, length), generator=random)]
                even = even_prompts(arguments.lm, vocabulary, Path(work) / f"even{length}", length, arguments.steps)
                seen = torch.cat([prompts, drawn, even])
            claim = torch.tensor([prompt_information(len(allowed), length, claims)], dtype=torch.float64)
            tails = kl_floor_tails(log_p[:, exchangeable[0]], tails_after(lm, vocabulary, seen), claim)[:, 0].numpy()
            columns = hard, sphere.kl.numpy(), floor.lower.numpy(), own, tails
            groups = {f"{entropy:g}": np.abs(h - entropy) < 0.01 for entropy in arguments.entropies}
            for entropy, group in {**groups, "all": np.full(len(h), True)}.items():
                print(row(length, entropy, *(x[group] for x in columns)), flush=True)
            for floor_name, values in (("token floor", own), ("floor of the tails", tails)):
                if below := int((hard < values).sum()):
                    print(f"{below} of {len(h)} KLs are below their {floor_name}", flush=True)


if __name__ == "__main__":
    main()
