"""What has gone through an LM together."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Part:
    """Prompts that went through the LM together; all but prompts and features are on the CPU."""

    rows: Int[Tensor, " row"]  #: which rows of those that were given
    prompts: Tensor  #: the prompts
    line: Int[Tensor, " row"]  #: which of them stands in each row
    start: Int[Tensor, " row"]  #: position of each prompt
    leads: Bool[Tensor, " row"]  #: whether something stands before each prompt
    features: Float[Tensor, "..."]  #: ``[row, feature]`` of the last, or ``[row, position, feature]`` of each position
    first: int  #: the first position that was computed

    @property
    def last(self) -> Tensor:
        """Features of all rows' last positions, ``[row, feature]``."""
        return self.features if self.features.dim() == 2 else self.features[:, -1]

    def predicting(self, length: int) -> tuple[Tensor, Tensor]:
        """Where among the features the state stands that predicts each token of a prompt, and whether there is one.

        ``[row, length]`` both; nothing may stand before a first token, or what does was not computed.
        """
        places = torch.arange(length)
        columns = self.start.unsqueeze(1) + places - 1 - self.first
        return columns, (columns >= 0) & ((places > 0) | self.leads.unsqueeze(1))

    def at(self, rows: Tensor, back: Tensor) -> Tensor:
        """Features of some rows so many positions before their ends, ``[place]`` both: ``[place, feature]``.

        Those of all rows' last positions, in their order, are not copied.
        """
        features = self.last
        if len(rows) == len(self.rows) and not bool(back.any()) and bool((rows == torch.arange(len(rows))).all()):
            return features
        device = features.device
        if self.features.dim() == 2:
            return features[rows.to(device)]
        return self.features[rows.to(device), (self.features.shape[1] - 1 - back).to(device)]
