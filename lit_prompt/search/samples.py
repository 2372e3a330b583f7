"""Token prompts of a continuous search, as they are and as the tokenizer reads their texts."""

import torch
from torch import Tensor

from lit_prompt.search.candidates import CONFIRMED
from lit_prompt.search.searcher import Found
from lit_prompt.search.token_problem import TokenProblem


def best_sample(problem: TokenProblem, samples: Tensor, running: Tensor) -> Found:
    """The best of prompts ``[running, sample, length]`` for the running slots, and of what the tokenizer makes of them.

    Few prompts of a continuous search survive as text; those that their texts are encoded to mostly do. Where
    candidates are screened, many samples are ranked first.
    """
    slots = running.repeat_interleave(samples.shape[1])
    # a text may give fewer tokens than it was made of; written twice it gives enough
    again = problem.readable.repaired(samples.flatten(0, 1).repeat(1, 2), slots).view_as(samples)
    pool = torch.cat([samples, again], 1)
    wanted = torch.cat([torch.ones_like(samples[:, :, 0]), (again != samples).any(2)], 1).bool()
    rows, places = wanted.nonzero(as_tuple=True)
    screened = samples.shape[1] > CONFIRMED
    found = (problem.ranker if screened else problem.scorer).scores(pool[rows, places], running[rows])
    scores = found.new_full(pool.shape[:2], torch.inf)
    scores[rows, places] = found
    if screened and problem.rough is not None:
        first = problem.readable.first(pool, scores, running, CONFIRMED)
        rows, rank = (first >= 0).nonzero(as_tuple=True)
        places = first[rows, rank]
        scores = torch.full_like(scores, torch.inf)
        scores[rows, places] = problem.scorer.scores(pool[rows, places], running[rows])
    best, score = problem.readable.best(pool, scores, running)
    return Found.of(len(problem), running, pool[torch.arange(len(running)), best], score)
