"""Kinds of variations that a search tries of a prompt."""

import random
from dataclasses import dataclass

import torch
from torch import Tensor

from lit_prompt.functional.precision import double
from lit_prompt.search.first_order import swap_choices
from lit_prompt.search.text_moves import Materials, character, corpus_word, deletion, exchange, insertion, mark
from lit_prompt.search.token_problem import TokenProblem

# moves of searches on texts of which there is no like among those of tokens
_OF_TEXTS = {move.__name__: move for move in (exchange, corpus_word, mark, insertion, deletion, character)}
_OF_TOKENS = ("first_order", "first_order_top", "alike", "likely", "wanted", "crossover")
#: Names of the moves, in the order of the bandit's columns.
MOVES = (*_OF_TOKENS, *_OF_TEXTS)
#: What they are believed to bring for what they cost, beside one another, before they are tried: changes of characters
#: mostly shift all tokens, and few of them are better than the prompt.
WEIGHTS = torch.tensor([1.0] * len(_OF_TOKENS) + [0.5, 0.25] + [0.03] * (len(_OF_TEXTS) - 2), dtype=torch.float64)
# replacements of a position that its kind draws from
_TOP = 16
_ALIKE = 32
_LIKELY = 64
_WANTED = 1024


@dataclass(frozen=True)
class Proposals:
    """Tokens that are proposed for each position of prompts; all on the CPU."""

    swaps: Tensor  #: by the gradient, best first, ``[prompt, length, k]``
    likely: Tensor  #: by the LM itself after what stands before, ``[prompt, length, k]``
    shares: Tensor  #: of the latter in their probability, ``[prompt, length, k]``; 0 where nothing stands before

    @classmethod
    def of(cls, problem: TokenProblem, prompts: Tensor, slots: Tensor, top_k: int) -> "Proposals":
        """Those for prompts ``[prompt, length]``, each of a slot: as many as ``top_k`` by the gradient."""
        likely, shares = problem.ranker.likely_tokens(prompts, slots, problem.allowed, _LIKELY)
        return cls(swap_choices(problem, prompts, slots, top_k), likely, shares)


@dataclass(frozen=True)
class Draws:
    """Random numbers of candidates, which decide everything about them; each slot's come from its own generator.

    All are ``[candidate]``; random numbers are uniform in [0, 1), float64.
    """

    base: Tensor  #: the running slot that each is made for
    move: Tensor  #: its number among :data:`MOVES`
    place: Tensor  #: the position that it changes; of a crossover, the first one of the second half
    token: Tensor  #: which of the tokens in question
    other: Tensor  #: which side of a crossover is taken from the other prompt, and which prompt that is


class Moves:
    """Makes candidates out of the running slots' prompts, each by one move.

    - ``first_order``: one of the replacements that promise most by the gradient (HotFlip, Ebrahimi et al., 2018);
      ``first_order_top``: of the best few.
    - ``alike``: a token whose embedding is near that of the present one.
    - ``likely``: a token that the LM itself proposes after what stands before.
    - ``wanted``: a token drawn from the target.
    - ``crossover``: the beginning or the end of another good prompt of the slot.
    - The others change its text from a position on, as in a search on texts: two words in each other's place
      (``exchange``), a word of a corpus (``corpus_word``), a mark (``mark``), a piece of another good prompt
      (``insertion``), nothing in the place of a word or some characters (``deletion``; another good prompt's end then
      comes before all), another character (``character``). The last tokens of the text count.

    Args:
        problem: what is searched.
        running: slots, ``[running]``.
        prompts: theirs, ``[running, length]``.
        proposals: tokens for their positions.
        elites: good prompts of each, best first, ``[running, elite, length]``.
        elite_count: how many of these there are, at least 1, ``[running]``.
    """

    def __init__(
        self,
        problem: TokenProblem,
        running: Tensor,
        prompts: Tensor,
        proposals: Proposals,
        elites: Tensor,
        elite_count: Tensor,
    ) -> None:
        self._problem = problem
        self._running = running
        self._prompts = prompts
        self._choices = proposals.swaps
        self._likely_ids, self._shares = proposals.likely, proposals.shares
        self._elites = elites
        self._elite_count = elite_count

    def candidates(self, draws: Draws) -> Tensor:
        """The candidates that some random numbers stand for: ``[candidate, length]``."""
        found = self._prompts[draws.base]
        for number, name in enumerate(_OF_TOKENS):
            mine = (draws.move == number).nonzero().flatten()
            if not len(mine):
                continue
            base, place, token = draws.base[mine], draws.place[mine], draws.token[mine]
            if name == "crossover":
                found[mine] = self._crossed(base, place, token, draws.other[mine])
            else:
                found[mine, place] = getattr(self, f"_{name}")(base, place, token)
        mine = (draws.move >= len(_OF_TOKENS)).nonzero().flatten()
        if len(mine):
            found[mine] = self._rewritten(draws.move[mine], draws.base[mine], draws.place[mine], draws.token[mine])
        return found

    def _first_order(self, base: Tensor, place: Tensor, token: Tensor) -> Tensor:
        return self._choices[base, place, _index(token, self._choices.shape[2])]

    def _first_order_top(self, base: Tensor, place: Tensor, token: Tensor) -> Tensor:
        return self._choices[base, place, _index(token, min(_TOP, self._choices.shape[2]))]

    def _alike(self, base: Tensor, place: Tensor, token: Tensor) -> Tensor:
        found = self._problem.table.alike(self._prompts[base, place], _ALIKE)
        return found[torch.arange(len(base)), _index(token, found.shape[1])]

    def _likely(self, base: Tensor, place: Tensor, token: Tensor) -> Tensor:
        ids, shares = self._likely_ids[base, place], self._shares[base, place]
        rank = torch.searchsorted(double(shares).cumsum(1), token.unsqueeze(1))
        likely = ids.gather(1, rank.clamp_max(ids.shape[1] - 1)).squeeze(1)
        # what nothing stands before has no likely tokens: it gets those that the gradient proposes
        k = min(_LIKELY, self._choices.shape[2])
        return torch.where(shares[:, 0] > 0, likely, self._choices[base, place, _index(token, k)])

    def _wanted(self, base: Tensor, place: Tensor, token: Tensor) -> Tensor:
        return torch.cat(
            [
                self._problem.wanted(int(self._running[row]), token[base == row], _WANTED)
                for row in base.unique().tolist()
            ]
        )

    def _crossed(self, base: Tensor, place: Tensor, token: Tensor, other: Tensor) -> Tensor:
        mate = self._elites[base, _index(token, self._elite_count[base])]
        # the other prompt's end, or its beginning of at least one token
        end = other < 0.5
        cut = torch.where(end, place, place.clamp_min(1))
        before = torch.arange(self._prompts.shape[1]) < cut.unsqueeze(1)
        return torch.where(before == end.unsqueeze(1), self._prompts[base], mate)

    def _rewritten(self, move: Tensor, base: Tensor, place: Tensor, token: Tensor) -> Tensor:
        readable, slots = self._problem.readable, self._running[base]
        mates = self._elites[base, _index(token, self._elite_count[base])]
        seeds = (token * 2**53).long().tolist()
        moves = [_OF_TEXTS[MOVES[number]] for number in move.tolist()]

        def change(kept: str, rest: str, row: int) -> str:
            (mate,) = readable.texts(mates[[row]], slots[[row]]) if moves[row] in (insertion, deletion) else ("",)
            materials = Materials(self._problem.words, (), [mate] if mate else [])
            changed = kept + moves[row](rest, materials, random.Random(seeds[row]))
            return mate + changed if moves[row] is deletion else changed

        return readable.changed(self._prompts[base], slots, place, change)


def _index(u: Tensor, count: int | Tensor) -> Tensor:
    """Positions among ``count`` that uniform random numbers stand for."""
    most = count - 1
    found = (u * count).long()
    return torch.minimum(found, most) if isinstance(most, Tensor) else found.clamp_max(most)
