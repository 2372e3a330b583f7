"""One loop for every solver: many rows, each with its own end."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

State = tuple[Tensor, ...]


def go_on_always(left: int) -> bool:
    """Ends no row before its end, however many are left."""
    return True


def until_done(
    look: Callable[..., tuple[Tensor, State, State]],
    move: Callable[..., State],
    state: Sequence[Tensor],
    max_steps: int,
    go_on: Callable[[int], bool] = go_on_always,
) -> tuple[State, Tensor]:
    """Moves every row until it is done, ``max_steps`` times at most; no work is spent on rows that are done.

    ``look`` takes rows and their state, tensors ``[row, ...]``; it gives which are done ``[row]``, what each has found,
    and what ``move`` takes. ``move`` takes the number of the step, from 1, the rows, and what ``look`` gave for them;
    it gives their next state. ``go_on`` is told before each step how many rows are left; where it says no, they end as
    they are. Returns what each row had found at its end, and the steps it took ``[row]``.
    """
    row, ended = torch.arange(len(state[0]), device=state[0].device), []
    for number in range(max_steps + 1):
        done, found, ready = look(row, *state)
        done |= number == max_steps or not go_on(int((~done).sum()))
        if done.any() or not len(row):
            ended.append((row[done], torch.full_like(row[done], number), *(x[done] for x in found)))
            row, ready = row[~done], tuple(x[~done] for x in ready)
        if not len(row):
            break
        state = move(number + 1, row, *ready)
    left, *results = (torch.cat(parts) for parts in zip(*ended, strict=True))
    order = left.argsort()
    steps, *ends = (x[order] for x in results)
    return tuple(ends), steps


def bisect(too_high: Callable[[Tensor, Tensor], Tensor], low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Halves intervals until their ends ``[row]`` are adjacent floats, at most 100 times; returns the ends.

    ``too_high`` takes rows and a number for each, both ``[row]``, and tells whether what is sought lies below.
    """

    def look(_: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, State, State]:
        middle = (low + high) / 2
        return (middle == low) | (middle == high), (low, high), (low, high, middle)

    def move(_: int, row: Tensor, low: Tensor, high: Tensor, middle: Tensor) -> State:
        above = too_high(row, middle)
        return torch.where(above, low, middle), torch.where(above, middle, high)

    (low, high), _ = until_done(look, move, (low, high), 100)
    return low, high
