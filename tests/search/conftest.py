"""Token problems on tiny LMs."""

import pytest
import torch

from lit_prompt.data.target import Texts
from lit_prompt.lm import AllowedTokens, FrozenLM, LMOptions, Vocabulary, load_causal_lm
from lit_prompt.objectives import ForwardKL
from lit_prompt.scoring import Contexts, LMScorer, MicroBatch
from lit_prompt.search import BestSoFar, ChunkSearch, TokenProblem, random_starts
from tests.places import single_targets


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
        readable=True, scale=3.0, restarts=1, texts=None, screening=None, words=(),
    ):  # fmt: skip
        lm, vocabulary = loaded(architecture)
        around = Contexts(before, after, lm, vocabulary)
        contexts = [around.of(Texts(*own, None)) for own in texts or [(None, None)] * len(targets)]
        slots = single_targets([f"t{i}" for i in targets], contexts, restarts)
        logits = [torch.randn(lm.vocab_size, generator=torch.Generator().manual_seed(i)) for i in targets]
        log_probs = (scale * torch.stack(logits)).log_softmax(-1)
        scorer = LMScorer(lm, slots, log_probs, length, ForwardKL(), MicroBatch(), fluency)
        trips = [around.round_trip(slots.contexts_of(slot)) for slot in range(len(slots))] if readable else None
        half = None if screening is None else screening.half(lm, length)
        rough = None
        if half is not None:
            rough = LMScorer(half, slots, log_probs, length, ForwardKL(), MicroBatch(), fluency)
        allowed = torch.tensor(AllowedTokens(allow=allow).ids(vocabulary))
        return TokenProblem(scorer, log_probs, allowed, seed, trips, rough, words=words)

    return make


@pytest.fixture(scope="session")
def find():
    """Searches a problem; returns the bests."""

    def run(searcher, problem, steps, starts=None):
        best = BestSoFar(torch.zeros(len(problem), problem.length, dtype=torch.long), 0.0, None)
        search = ChunkSearch(searcher, problem, best)
        search.init(*(starts or random_starts(problem)), 0.0)
        for _ in range(steps):
            if not best.running.any():
                break
            search.step()
        return best

    return run
