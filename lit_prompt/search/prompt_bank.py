"""A bank of prompts, of which each target gets the best to start with."""

from collections.abc import Iterable
from itertools import islice

import torch
from torch import Tensor

from lit_prompt.functional.precision import double
from lit_prompt.lm import Vocabulary, sample_prompts
from lit_prompt.search.starts import TokenStart
from lit_prompt.search.token_problem import TokenProblem

_LENGTHS = 4  # a sequence has so many times a prompt's length
_RESCORED = 16


class PromptBank:
    """Random tokens, tokens drawn from the targets, texts that the LM makes, and natural texts.

    One pass over a long sequence gives the LM's next-token distribution after each of its positions, so that each is
    scored as if it were a prompt. The windows that end at the best positions are then scored as the prompts they are.

    Args:
        init: how much of each kind.
        vocabulary: the LM's vocabulary.
        share: let targets start with what was drawn from others.
    """

    def __init__(self, init: TokenStart, vocabulary: Vocabulary, share: bool) -> None:
        self._init = init
        self._vocabulary = vocabulary
        self._share = share

    def starts(self, problem: TokenProblem) -> tuple[Tensor, Tensor]:
        """The best prompt of the bank for each target.

        Args:
            problem: the targets.

        Returns:
            Ids, ``[target, length]``, and their scores in nats, ``[target]``.
        """
        common = torch.cat(list(self._common(problem)))
        targets = torch.arange(len(problem), device=problem.device)
        windows = self._best_windows(problem, common, targets)
        owner = targets.repeat_interleave(windows.shape[1])
        windows = windows.flatten(0, 1)
        if self._init.drawn_sequences:
            drawn = [self._best_windows(problem, self._drawn(problem, int(t)), t.view(1)) for t in targets]
            windows = torch.cat([windows, torch.cat(drawn).flatten(0, 1)])
            owner = torch.cat([owner, targets.repeat_interleave(drawn[0].shape[1])])
        windows = problem.readable.repaired(windows)
        if self._share:
            scores = problem.scores(windows)
        else:
            own = problem.scores(windows, owner)
            scores = own.new_full((len(windows), len(problem)), torch.inf)
            scores[torch.arange(len(windows)), owner] = own
        problem.count(targets, -(-len(windows) // len(problem)))
        best, score = problem.readable.best(windows.expand(len(problem), -1, -1), scores.T)
        return windows[best], score

    def _width(self, problem: TokenProblem) -> int:
        longest = problem.lm.max_length
        width = _LENGTHS * problem.length
        return width if longest is None else max(problem.length, min(width, longest - len(problem.before)))

    def _common(self, problem: TokenProblem) -> Iterable[Tensor]:
        """Sequences that depend on no target, ``[sequence, position]``."""
        width, init = self._width(problem), self._init
        generator = torch.Generator().manual_seed(problem.seed)
        yield problem.random_ids(max(init.random_sequences, 1) * width, generator).view(-1, width)
        if init.sampled_texts:
            ids = sample_prompts(problem.lm, self._vocabulary, init.sampled_texts, width, problem.seed)
            if ids is not None:
                yield self._only_allowed(problem, ids.to(problem.device), generator)
        if init.texts is not None:
            encoded = (self._vocabulary.encode(text) for text in init.texts.texts())
            long = list(islice((ids[:width] for ids in encoded if len(ids) >= width), init.natural_texts))
            if long:
                yield self._only_allowed(problem, torch.tensor(long, device=problem.device), generator)

    def _only_allowed(self, problem: TokenProblem, ids: Tensor, generator: torch.Generator) -> Tensor:
        """Puts random tokens in the place of those that are not allowed."""
        others = problem.random_ids(ids.numel(), generator).view(ids.shape)
        return torch.where(problem.places(ids) >= 0, ids, others)

    def _drawn(self, problem: TokenProblem, target: int) -> Tensor:
        generator = problem.generator(target, "bank")
        p = double(problem.log_probs[target]).exp()[problem.allowed.cpu()]
        p = p + 1e-3 * p.sum().clamp_min(1e-6) / len(p)  # a target of few tokens would repeat them only
        shape = (self._init.drawn_sequences, self._width(problem))
        places = torch.multinomial(p, shape[0] * shape[1], replacement=True, generator=generator)
        return problem.allowed[places.to(problem.device)].view(shape)

    def _best_windows(self, problem: TokenProblem, sequences: Tensor, targets: Tensor) -> Tensor:
        """What stands before the positions where each target's score is best, ``[target, window, position]``."""
        length = problem.length
        if len(problem.after):  # a position is followed by the sequence, not by that text
            sequences = sequences[:, : sequences.shape[1] // length * length].reshape(-1, length)
        scores = problem.scan(sequences)[:, :, targets]
        # where nothing is shared, a target's budget is not to depend on its company
        problem.count(targets, -(-sequences.numel() // length // (len(targets) if self._share else 1)))
        ends = scores.shape[1]
        best = scores.flatten(0, 1).topk(min(_RESCORED, len(scores) * ends), dim=0, largest=False).indices.T
        # some more than a prompt holds: its text may have fewer tokens
        span = torch.arange(-length // 2, length, device=sequences.device)
        positions = (best % ends).unsqueeze(-1) + span
        return sequences[(best // ends).unsqueeze(-1), positions.clamp_min(0)]
