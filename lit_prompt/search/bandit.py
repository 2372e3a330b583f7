"""Which kind of move a search tries next: those that have brought the most."""

import torch
from torch import Tensor

from lit_prompt.functional.precision import double

# share of the candidates that is spread as at first, so that no move is ever given up
_EXPLORED = 0.1
# candidates' worth of belief that a move does as well as the moves do on average
_BELIEF = 32.0
# what an earlier step counts for beside the next one
_MEMORY = 0.98


class Bandit:
    """Draws moves for each slot by what they have brought, for what they cost, in the steps so far.

    As much is spent on each move as it brings for what is spent, so that of two that bring the same for it the dearer
    one is drawn less often. A slot that knows little of a move believes what its group knows; where slots are alone,
    each is a group. All that is known are tensors of the search's state, so that it resumes exactly.

    Args:
        gained: decayed sums of what the candidates of each move have brought, ``[slot, move]``, float64.
        tried: decayed numbers of these candidates, ``[slot, move]``, float64.
        spent: decayed sums of what they have cost, ``[slot, move]``, float64; None where all cost the same.
        group: number of each slot's group, ``[slot]``; None where slots are alone.
        weights: what moves are believed to bring beside one another, ``[move]``, float64; None for all the same.
    """

    def __init__(
        self,
        gained: Tensor,
        tried: Tensor,
        spent: Tensor | None = None,
        group: Tensor | None = None,
        weights: Tensor | None = None,
    ) -> None:
        self.gained = gained
        self.tried = tried
        self.spent = tried.clone() if spent is None else spent
        weights = torch.ones(gained.shape[1], dtype=torch.float64) if weights is None else weights
        self._shares = weights / weights.sum()
        self._group = torch.arange(len(gained)) if group is None else group

    @classmethod
    def new(cls, slots: int, moves: int) -> "Bandit":
        """One that knows nothing."""
        return cls(torch.zeros(slots, moves, dtype=torch.float64), torch.zeros(slots, moves, dtype=torch.float64))

    def shares(self) -> Tensor:
        """The probability of each move, ``[slot, move]``; rows sum to 1."""
        known = self.gained, self.tried, self.spent
        gained, tried, spent = (torch.zeros_like(x).index_add(0, self._group, x) for x in known)
        mean = gained.sum(1, keepdim=True) / spent.sum(1, keepdim=True).clamp_min(1.0)
        first = mean * self._shares * len(self._shares)
        believed = ((gained + _BELIEF * first) / (spent + _BELIEF))[self._group]
        rate = (self.gained + _BELIEF * believed) / (self.spent + _BELIEF)
        total = rate.sum(1, keepdim=True)
        explored = _EXPLORED * self._shares + (1.0 - _EXPLORED) * rate / total.clamp_min(1e-300)
        believed = ((spent + _BELIEF) / (tried + _BELIEF))[self._group]
        cost = (self.spent + _BELIEF * believed) / (self.tried + _BELIEF)
        wanted = torch.where(total > 0, explored, self._shares) / cost
        return wanted / wanted.sum(1, keepdim=True)

    def choose(self, slots: Tensor, u: Tensor) -> Tensor:
        """The moves of candidates of some slots, from a uniform random number of each: ``[candidate]``, all three."""
        cumulative = self.shares().cumsum(1)[slots]
        found = torch.searchsorted(cumulative, double(u).unsqueeze(1)).squeeze(1)
        return found.clamp_max(cumulative.shape[1] - 1)  # rounding may leave the last sum below 1

    def learn(self, slots: Tensor, moves: Tensor, gains: Tensor, costs: Tensor | None = None) -> None:
        """Takes in what candidates, each of a slot and a move, ``[candidate]``, have brought: ``[candidate]``.

        ``costs`` says what they took, 1 on average, ``[candidate]``; 1 for all by default.
        """
        ones = torch.ones_like(double(gains))
        seen = slots.unique()
        for known, new in ((self.gained, gains), (self.tried, ones), (self.spent, ones if costs is None else costs)):
            known[seen] *= _MEMORY
            known.index_put_((slots, moves), double(new), accumulate=True)
