"""GBDA: gradients through a Gumbel-softmax."""

from dataclasses import dataclass

import torch
from torch import Tensor

from lit_prompt.search.adam import adam_state, adam_step
from lit_prompt.search.samples import best_sample
from lit_prompt.search.searcher import Found, Searcher, SearchState
from lit_prompt.search.token_problem import TokenProblem

# numbers in the relaxed prompts that are held at once
_NUMBERS_PER_PART = 2**26


@dataclass(eq=False)
class GBDA(Searcher):
    """Gradient-based distributional attack (Guo et al., 2021, arXiv 2104.13733).

    Each position has a distribution over the allowed tokens. Relaxed samples of it, by the Gumbel-softmax, mix the
    tokens' embeddings, and the gradient of their KL moves its logits by Adam. Now and then prompts are drawn from it;
    the best of them counts, or the one that the tokenizer makes of its text. The state holds three numbers for each
    slot, position and allowed token.

    Args:
        lr: learning rate.
        temperature: of the Gumbel-softmax.
        initial_logit: logit of the start's tokens; all others begin with 0.
        relaxed: relaxed samples whose gradients are averaged in a step.
        sample_every: steps from one drawing of prompts to the next.
        samples: prompts that are drawn then; the first holds the most likely tokens.
    """

    method = "gbda"
    on_device = ("values", "mean", "square")

    lr: float = 0.3
    temperature: float = 1.0
    initial_logit: float = 15.0
    relaxed: int = 10
    sample_every: int = 10
    samples: int = 32

    def __post_init__(self) -> None:
        self.require_at_least(lr=0, temperature=1e-3, initial_logit=0, relaxed=1, sample_every=1, samples=1)

    def init(self, problem: TokenProblem, ids: Tensor, scores: Tensor) -> SearchState:
        """Logits that favour each slot's start."""
        index = problem.table.index(ids).unsqueeze(2)
        logits = torch.zeros(*ids.shape, len(problem.allowed))
        known = (index >= 0) * self.initial_logit
        return adam_state(logits.scatter_(2, index.clamp_min(0), known.to(logits)).to(problem.lm.device))

    def step(self, problem: TokenProblem, state: SearchState, number: int, running: Tensor) -> Found:
        """Moves each slot's logits; draws prompts every ``sample_every`` steps."""
        row = problem.length * len(problem.allowed)
        for part in running.split(max(1, _NUMBERS_PER_PART // (self.relaxed * row))):
            adam_step(state, part, self._gradient(problem, state["values"][part], part, number), number, self.lr)
        if (number + 1) % self.sample_every:
            nothing = running.new_zeros(len(running), problem.length)
            return Found.of(len(problem), running, nothing, torch.full_like(running, torch.inf, dtype=torch.float32))
        drawn = [self._drawn(problem, state["values"][slot], slot, number) for slot in running.tolist()]
        return best_sample(problem, problem.allowed[torch.stack(drawn).cpu()], running)

    def _gradient(self, problem: TokenProblem, logits: Tensor, own: Tensor, number: int) -> Tensor:
        """Gradient of the score at the logits ``[slot, length, allowed]``, averaged over relaxed samples."""
        noise = [self._gumbel(problem, slot, logits.shape[1:], self.relaxed, number) for slot in own.tolist()]
        table = problem.table.embeddings
        logits = logits.detach().requires_grad_()
        with torch.enable_grad():
            relaxed = (logits.unsqueeze(1) + torch.stack(noise).to(logits.device)) / self.temperature
            mixed = relaxed.softmax(-1).flatten(0, 2) @ table
            embeddings = mixed.view(-1, problem.length, table.shape[1])
            _, gradient = problem.scorer.gradient(embeddings.detach(), own.repeat_interleave(self.relaxed))
            (change,) = torch.autograd.grad(embeddings, logits, gradient / self.relaxed)
        return change

    def _drawn(self, problem: TokenProblem, logits: Tensor, slot: int, number: int) -> Tensor:
        """Places of tokens that are drawn from logits ``[length, allowed]``: ``[sample, length]``."""
        others = [self._gumbel(problem, slot, logits.shape, 1, number, i)[0] for i in range(1, self.samples)]
        return torch.stack([logits.argmax(1), *[(logits + noise.to(logits.device)).argmax(1) for noise in others]])

    def _gumbel(self, problem: TokenProblem, slot: int, shape: torch.Size, count: int, *parts: object) -> Tensor:
        """Gumbel noise on the CPU, ``[count, *shape]``."""
        exponential = torch.empty(count, *shape).exponential_(generator=problem.generator(slot, *parts))
        return -exponential.clamp_min(torch.finfo(exponential.dtype).tiny).log()
