"""Which kind of move a search tries next: those that have brought the most."""

import torch
from torch import Tensor

from lit_prompt.functional.precision import double

# share of the candidates that is spread evenly, so that no move is ever given up
_EXPLORED = 0.1
# candidates' worth of belief that a move does as well as the moves do on average
_BELIEF = 32.0
# what an earlier step counts for beside the next one
_MEMORY = 0.98


class Bandit:
    """Draws moves for each slot by what they have brought, per candidate, in the steps so far.

    A slot that knows little of a move believes what its group knows; where slots are alone, each is a group. All that
    is known are two tensors of the search's state, so that it resumes exactly.

    Args:
        gained: decayed sums of what the candidates of each move have brought, ``[slot, move]``, float64.
        tried: decayed numbers of these candidates, ``[slot, move]``, float64.
        group: number of each slot's group, ``[slot]``; None where slots are alone.
    """

    def __init__(self, gained: Tensor, tried: Tensor, group: Tensor | None = None) -> None:
        self.gained = gained
        self.tried = tried
        self._group = torch.arange(len(gained)) if group is None else group

    @classmethod
    def new(cls, slots: int, moves: int) -> "Bandit":
        """One that knows nothing."""
        return cls(torch.zeros(slots, moves, dtype=torch.float64), torch.zeros(slots, moves, dtype=torch.float64))

    def shares(self) -> Tensor:
        """The probability of each move, ``[slot, move]``; rows sum to 1."""
        gained, tried = (torch.zeros_like(x).index_add(0, self._group, x) for x in (self.gained, self.tried))
        mean = gained.sum(1, keepdim=True) / tried.sum(1, keepdim=True).clamp_min(1.0)
        believed = ((gained + _BELIEF * mean) / (tried + _BELIEF))[self._group]
        rate = (self.gained + _BELIEF * believed) / (self.tried + _BELIEF)
        total = rate.sum(1, keepdim=True)
        even = torch.full_like(rate, 1.0 / rate.shape[1])
        return torch.where(total > 0, _EXPLORED * even + (1.0 - _EXPLORED) * rate / total.clamp_min(1e-300), even)

    def choose(self, slots: Tensor, u: Tensor) -> Tensor:
        """The moves of candidates of some slots, from a uniform random number of each: ``[candidate]``, all three."""
        cumulative = self.shares().cumsum(1)[slots]
        found = torch.searchsorted(cumulative, double(u).unsqueeze(1)).squeeze(1)
        return found.clamp_max(cumulative.shape[1] - 1)  # rounding may leave the last sum below 1

    def learn(self, slots: Tensor, moves: Tensor, gains: Tensor) -> None:
        """Takes in what candidates, each of a slot and a move, ``[candidate]``, have brought: ``[candidate]``."""
        seen = slots.unique()
        self.gained[seen] *= _MEMORY
        self.tried[seen] *= _MEMORY
        self.gained.index_put_((slots, moves), double(gains), accumulate=True)
        self.tried.index_put_((slots, moves), torch.ones_like(gains, dtype=torch.float64), accumulate=True)
