"""Where hard prompts start."""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from lit_prompt.data.texts import REGISTERS, TextSource
from lit_prompt.errors import InputError
from lit_prompt.search.token_problem import TokenProblem


@dataclass(frozen=True)
class TokenStart:
    """Where hard prompts start.

    Attributes:
        kind: ``bank``: the best of many prompts (see :class:`lit_prompt.search.PromptBank`). ``random``: random tokens.
            ``text``: a text's tokens, repeated or cut to the prompt's length. ``soft``: the tokens nearest to the
            embeddings that a soft run has found.
        text: the text for ``text``.
        soft_run: folder of the soft run for ``soft``; its search must have ended.
        shorter_run: folder of a run of shorter prompts, whose search has ended: a target starts from the prompt that
            this has found for it, made longer, where that is better than what ``kind`` gives; null for none.
        random_sequences: sequences of random tokens in the bank, one at least. Sequences have four times a prompt's
            length, or 64 tokens more than it if that is less. Of sequences of more than 64 tokens there are fewer, as
            many tokens as in so many of 64.
        sampled_texts: texts in the bank that the LM makes.
        drawn_sequences: sequences of tokens drawn from each target in the bank.
        texts: natural texts for the bank, by default a small collection of several kinds; null for none. The LM's
            states after them are kept, so that later runs have them at once.
        natural_texts: how many pieces of them, of 64 tokens; for prompts of more than 16, fewer and longer ones.
    """

    kind: Literal["bank", "random", "text", "soft"] = "bank"
    text: str = " x"
    soft_run: str | None = None
    shorter_run: str | None = None
    random_sequences: int = 32
    sampled_texts: int = 64
    drawn_sequences: int = 8
    texts: TextSource | None = REGISTERS
    natural_texts: int = 256

    def __post_init__(self) -> None:
        for name in ("random_sequences", "sampled_texts", "drawn_sequences", "natural_texts"):
            if getattr(self, name) < 0:
                raise InputError(f"model.start.{name} is {getattr(self, name)}; it must be 0 or more")

    def small(self) -> "TokenStart":
        """A bank of what is drawn from the targets, for one search of many: the whole takes as long as some steps."""
        return replace(self, random_sequences=1, sampled_texts=0, texts=None)


def random_starts(problem: TokenProblem, tries: int = 64) -> tuple[Tensor, Tensor]:
    """Random tokens for each slot, ``[slot, length]``, with their scores in nats, ``[slot]``.

    They survive as text where one of the ``tries`` draws of a slot does.
    """
    slots = torch.arange(len(problem))
    generators = [problem.generator(slot, "start") for slot in slots.tolist()]
    drawn = torch.stack([problem.random_ids(2 * problem.length, own) for own in generators for _ in range(tries)])
    ids = problem.readable.repaired(drawn, slots.repeat_interleave(tries)).unflatten(0, (-1, tries))
    order = torch.arange(tries).expand(len(ids), -1).float()
    first = problem.readable.first(ids, order, slots, 1)[:, 0].clamp_min(0)
    return scored(problem, ids[slots, first])


def text_starts(problem: TokenProblem, text_ids: list[int]) -> tuple[Tensor, Tensor]:
    """A text's tokens for every slot, repeated or cut to the prompt's length; see :func:`random_starts`.

    Raises:
        InputError: if the text has a token that a prompt may not hold.
    """
    if bool((problem.table.index(torch.tensor(text_ids)) < 0).any()):
        raise InputError("model.start.text holds a token that model.tokens does not allow")
    ids = torch.tensor(text_ids)[torch.arange(problem.length) % len(text_ids)]
    return scored(problem, ids.repeat(len(problem), 1))


def scored(problem: TokenProblem, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Prompts ``[slot, length]`` with the score of each for its own slot in nats, ``[slot]``."""
    return ids, problem.scorer.scores(ids, torch.arange(len(problem)))
