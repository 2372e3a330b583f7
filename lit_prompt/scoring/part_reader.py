"""What a scorer reads of the LM after prompts."""

from collections.abc import Iterator

import torch
from torch import Tensor

from lit_prompt.lm import FrozenLM
from lit_prompt.objectives import Objective
from lit_prompt.objectives.base import ALL
from lit_prompt.scoring.part import Part
from lit_prompt.scoring.readings import Readings, SharedReadings


class PartReader:
    """Reads divergences from targets, log-probabilities of answers' tokens, and fluency off prompts in contexts.

    Args:
        lm: the LM.
        log_probs: the targets, ``[target, vocab]``, on the CPU.
        objective: what is minimised.
        length: positions of a prompt.
        temperature: what the LM's logits are divided by, but for fluency.

    Attributes:
        lm: the LM at that temperature.
    """

    def __init__(self, lm: FrozenLM, log_probs: Tensor, objective: Objective, length: int, temperature: float) -> None:
        self._plain = lm
        self.lm = lm.tempered(temperature)
        self.length = length
        self._objective = objective
        self._targets = len(log_probs)
        self._prepared = objective.prepare(log_probs, self.lm)

    def read(
        self, part: Part, readings: Readings, rows: Tensor, known: Tensor | None = None
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """What is read for the tasks of a part's prompts: rows of the part, columns and values, ``[reading]`` each."""
        places = readings.places_of(rows[part.rows])
        features = self.lm.scaled(part.at(places.row, places.what))
        logits = self.lm.logits(features)
        for kind in readings.kinds:
            found = readings.of(kind, places.column)
            row, what = (x.to(logits.device) for x in (found.row, found.what))
            if kind == "target":
                every = len(found.row) == len(logits) and bool((found.row == torch.arange(len(logits))).all())
                own = (logits, features) if every else (logits[row], features[row])
                value = self._objective.pairs(*own, self._prepared, what)
            elif kind == "token":
                value = logits[row, what] - logits.logsumexp(-1)[row]
            else:
                value = -self.token_log_probs(part, known).mean(1)[places.row[found.row].to(logits.device)]
            yield places.row[found.row], found.column, value

    def read_all(self, part: Part, rows: Tensor, shared: SharedReadings, context: int, known: Tensor | None) -> Tensor:
        """What is read in some rows of a part, all in one context of a group, ``[row, column]``."""
        values = torch.zeros(len(rows), shared.width, device=self.lm.head_device, dtype=self.lm.score_dtype)
        for back, kinds in shared.read[context].items():
            features = self.lm.scaled(part.at(rows, torch.full_like(rows, back)))
            logits = self.lm.logits(features)
            for kind, (what, column) in kinds.items():
                if kind == "fluency":
                    read = -self.token_log_probs(part, known).mean(1, keepdim=True)[rows.to(logits.device)]
                else:
                    read = self.read_columns(kind, what, logits, features)
                values[:, column.to(values.device)] = read.to(values)
        return values

    def read_columns(self, kind: str, what: Tensor, logits: Tensor, features: Tensor) -> Tensor:
        """Divergences from targets, or log-probabilities of tokens, after all rows: ``[row, what]``."""
        if kind == "token":
            return logits[:, what.to(logits.device)] - logits.logsumexp(-1, keepdim=True)
        every = len(what) == self._targets and bool((what == torch.arange(self._targets)).all())
        return self._objective.table(logits, features, self._prepared, ALL if every else what.to(logits.device))

    def token_log_probs(self, part: Part, known: Tensor | None) -> Tensor:
        """Log-probability of each prompt token given what stands before it, ``[row, length]``.

        Zero for a first token that nothing stands before, and what is known for tokens that were not computed again.
        """
        columns, predicted = part.predicting(self.length)
        device = part.features.device
        begin = int(predicted.any(0).long().argmax()) if bool(predicted.any()) else self.length
        rows = torch.arange(len(columns)).unsqueeze(1).to(device)
        states = part.features[rows, columns[:, begin:].clamp_min(0).to(device)]
        logits = self._plain.logits(states.flatten(0, 1))
        chosen = part.prompts[part.line, begin:].flatten().to(logits.device)
        found = logits.gather(1, chosen.unsqueeze(1)).squeeze(1) - logits.logsumexp(-1)
        before = found.new_zeros(len(columns), self.length) if known is None else known.to(found)
        again = torch.cat([before[:, :begin], found.view(len(columns), -1)], 1)
        return torch.where(predicted.to(device), again, before)
