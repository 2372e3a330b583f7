"""Kinds of variations that a search tries of a prompt."""

from dataclasses import dataclass

import torch
from torch import Tensor

from lit_prompt.functional.precision import double
from lit_prompt.search.token_problem import TokenProblem

#: Names of the moves, in the order of the bandit's columns.
MOVES = ("first_order", "first_order_top", "alike", "likely", "wanted", "crossover")
# replacements of a position that its kind draws from
_TOP = 16
_ALIKE = 32
_LIKELY = 64
_WANTED = 1024


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

    Args:
        problem: what is searched.
        running: slots, ``[running]``.
        prompts: theirs, ``[running, length]``.
        choices: replacements by the gradient, best first, ``[running, length, k]``.
        elites: good prompts of each, best first, ``[running, elite, length]``.
        elite_count: how many of these there are, at least 1, ``[running]``.
    """

    def __init__(
        self,
        problem: TokenProblem,
        running: Tensor,
        prompts: Tensor,
        choices: Tensor,
        elites: Tensor,
        elite_count: Tensor,
    ) -> None:
        self._problem = problem
        self._running = running
        self._prompts = prompts
        self._choices = choices
        self._elites = elites
        self._elite_count = elite_count
        self._proposed: dict[int, tuple[Tensor, Tensor]] = {}  # likely tokens of running slots, and their shares

    def candidates(self, draws: Draws) -> Tensor:
        """The candidates that some random numbers stand for: ``[candidate, length]``."""
        found = self._prompts[draws.base]
        for number, name in enumerate(MOVES):
            mine = (draws.move == number).nonzero().flatten()
            if not len(mine):
                continue
            base, place, token = draws.base[mine], draws.place[mine], draws.token[mine]
            if name == "crossover":
                found[mine] = self._crossed(base, place, token, draws.other[mine])
            else:
                found[mine, place] = getattr(self, f"_{name}")(base, place, token)
        return found

    def _first_order(self, base: Tensor, place: Tensor, token: Tensor) -> Tensor:
        return self._choices[base, place, _index(token, self._choices.shape[2])]

    def _first_order_top(self, base: Tensor, place: Tensor, token: Tensor) -> Tensor:
        return self._choices[base, place, _index(token, min(_TOP, self._choices.shape[2]))]

    def _alike(self, base: Tensor, place: Tensor, token: Tensor) -> Tensor:
        found = self._problem.table.alike(self._prompts[base, place], _ALIKE)
        return found[torch.arange(len(base)), _index(token, found.shape[1])]

    def _likely(self, base: Tensor, place: Tensor, token: Tensor) -> Tensor:
        rows, row = base.unique(return_inverse=True)
        if len(asked := torch.tensor([own for own in rows.tolist() if own not in self._proposed])):
            found = self._problem.ranker.likely_tokens(
                self._prompts[asked], self._running[asked], self._problem.allowed, _LIKELY
            )
            self._proposed |= dict(zip(asked.tolist(), zip(*found, strict=True), strict=True))
        ids, mass = (torch.stack(x) for x in zip(*(self._proposed[own] for own in rows.tolist()), strict=True))
        # what nothing stands before has no likely tokens: it gets those that the gradient proposes
        known = mass.isfinite()
        k = min(_LIKELY, self._choices.shape[2])
        rank = torch.searchsorted(double(mass[row, place].nan_to_num()).cumsum(1).contiguous(), token.unsqueeze(1))
        likely = ids[row, place, rank.squeeze(1).clamp_max(ids.shape[2] - 1)]
        return torch.where(known[row, place, 0], likely, self._choices[base, place, _index(token, k)])

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


def _index(u: Tensor, count: int | Tensor) -> Tensor:
    """Positions among ``count`` that uniform random numbers stand for."""
    most = count - 1
    found = (u * count).long()
    return torch.minimum(found, most) if isinstance(most, Tensor) else found.clamp_max(most)
