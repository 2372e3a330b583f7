"""Adam on numbers that a search keeps for each slot."""

import torch
from torch import Tensor, nn

from lit_prompt.search.searcher import SearchState


def adam_state(values: Tensor) -> SearchState:
    """What :func:`adam_step` changes: the values ``[slot, ...]`` and the averages of their gradients."""
    return {"values": values, "mean": torch.zeros_like(values), "square": torch.zeros_like(values)}


def adam_step(
    state: SearchState, which: Tensor, gradient: Tensor, number: int, lr: float, weight_decay: float = 0.0
) -> None:
    """Makes a step of AdamW (Loshchilov and Hutter, 2019, arXiv 1711.05101; Adam without weight decay), in place.

    It moves the values of some slots ``[which]``, at which the gradient ``[which, ...]`` was taken. ``number`` counts
    steps from 0; these slots have made all steps before it.
    """
    which = which.to(state["values"].device)
    values = nn.Parameter(state["values"][which])
    values.grad = gradient
    optimizer = torch.optim.AdamW([values], lr=lr, weight_decay=weight_decay)
    averages = {"exp_avg": state["mean"][which], "exp_avg_sq": state["square"][which]}
    optimizer.state[values] = {"step": torch.tensor(float(number)), **averages}
    optimizer.step()
    state["values"][which] = values.detach()
    state["mean"][which], state["square"][which] = averages["exp_avg"], averages["exp_avg_sq"]
