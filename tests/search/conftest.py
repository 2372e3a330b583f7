"""Token problems on tiny LMs."""

import pytest
import torch

from lit_prompt.lm import AllowedTokens, FrozenLM, LMOptions, Vocabulary, load_causal_lm
from lit_prompt.lm.round_trip import RoundTrip
from lit_prompt.search import BestSoFar, ChunkSearch, MicroBatch, Part, TokenProblem, random_starts


@pytest.fixture(scope="session")
def loaded(make_lm):
    """Loads (once) a tiny LM and its vocabulary."""
    known = {}

    def load(architecture="llama"):
        if architecture not in known:
            folder, options = str(make_lm(architecture)), LMOptions()
            known[architecture] = FrozenLM(load_causal_lm(folder, options)), Vocabulary.load(folder, options)
        return known[architecture]

    return load


@pytest.fixture(scope="session")
def make_problem(loaded):
    """A problem of some random targets, named by their numbers."""

    def make(
        targets=(0, 1, 2), length=4, architecture="llama", before="", after="", allow=None, seed=0, fluency=0.0,
        readable=True, scale=3.0,
    ):  # fmt: skip
        lm, vocabulary = loaded(architecture)
        logits = [torch.randn(lm.vocab_size, generator=torch.Generator().manual_seed(i)) for i in targets]
        log_probs = (scale * torch.stack(logits)).log_softmax(-1)
        entropy = -(log_probs.double().exp() * log_probs.double()).sum(-1)
        return TokenProblem(
            lm,
            vocabulary.encode(before),
            vocabulary.encode(after),
            [f"t{i}" for i in targets],
            log_probs,
            entropy,
            length,
            torch.tensor(AllowedTokens(allow=allow).ids(vocabulary)),
            MicroBatch(),
            seed,
            fluency,
            RoundTrip(vocabulary, before, after) if readable else None,
        )

    return make


@pytest.fixture(scope="session")
def find():
    """Searches a problem; returns the bests."""

    def run(searcher, problem, steps, starts=None):
        slots = torch.arange(len(problem))
        best = BestSoFar(torch.zeros(len(problem), problem.length, dtype=torch.long), 0.0, None)
        search = ChunkSearch(searcher, [Part(problem, slots)], best)
        search.begin([starts or random_starts(problem)], 0.0)
        for _ in range(steps):
            if not best.running.any():
                break
            search.step()
        return best

    return run
