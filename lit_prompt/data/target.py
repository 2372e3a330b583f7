"""A target: a distribution over an LM's vocabulary that a prompt is searched for."""

import math
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lit_prompt.data.answers import Answers
from lit_prompt.functional import entropy, normalize_log_probs, one_thread
from lit_prompt.functional.precision import double

#: The tokens of which any may have any of a target's probabilities, as chance has it: all that stand for a token, or
#: those that are not special. The others' probabilities are where they are.
Exchangeable = Literal["defined", "ordinary"]


class Texts(NamedTuple):
    """What stands around a target's prompt; None for the module's."""

    before: str | None  #: text before the prompt
    after: str | None  #: text between the prompt and the answer
    chat: str | None  #: in place of both, messages as JSON, in which ``{prompt}`` stands for the prompt


@dataclass
class Target:
    """One target distribution, dense or sparse.

    Its log-probabilities are float32, normalised in float64, ``-inf`` for probability zero: ``[vocab]``, or
    ``[listed]`` where ``token_ids`` says whose they are.
    """

    target_id: str  #: stable and unique in its set, such as ``random/H3.00/2``
    family: str  #: name of the family that made it
    log_probs: Tensor
    entropy: float  #: H in nats, computed in float64
    seed: int | None = None  #: seed it was made from; None where nothing random is in it
    #: further facts, such as the wanted entropy; values that JSON holds. ``note`` is shown to the user;
    #: ``first_tokens`` are the tokens that stand for texts of several, ``{text: id}``
    metadata: dict[str, Any] = field(default_factory=dict)
    token_ids: Tensor | None = None  #: the listed tokens of a sparse target, ``[listed]``, int64, rising
    rest_log_prob: float = -math.inf  #: of each token that a sparse target does not list
    partner_of: str | None = None  #: id of the target that this one is to be compared with
    before: str | None = None  #: text before the prompt; None for the module's
    after: str | None = None  #: text after the prompt; None for the module's
    chat: str | None = None  #: in place of both, messages as JSON, in which ``{prompt}`` stands for the prompt
    task: str | None = None  #: id of the task that it belongs to; None for one of its own
    weight: float = 1.0  #: its share in the task, beside the others'
    held_out: bool = False  #: whether it is only evaluated, never searched for
    #: where it is over answers; ``log_probs`` are then those of their first tokens
    answers: Answers | None = None
    exchangeable: Exchangeable | None = None  #: None where its tokens are not random

    @classmethod
    def from_logits(
        cls,
        target_id: str,
        family: str,
        logits: Tensor,
        seed: int | None = None,
        exchangeable: Exchangeable | None = None,
        **metadata: Any,
    ) -> "Target":
        """Makes a dense target from logits or log-probabilities ``[vocab]`` of any floating dtype."""
        with one_thread():
            log_probs = normalize_log_probs(double(logits)).float()
            h = float(entropy(double(log_probs)))
        return cls(target_id, family, log_probs, h, seed, metadata, exchangeable=exchangeable)

    @classmethod
    def from_weights(
        cls,
        target_id: str,
        family: str,
        token_ids: Tensor,
        weights: Tensor,
        vocab_size: int,
        rest: float = 0.0,
        seed: int | None = None,
        exchangeable: Exchangeable | None = None,
        **metadata: Any,
    ) -> "Target":
        """Makes a sparse target from weights ``[listed]`` of distinct tokens ``[listed]``.

        The weights are normalised in float64, together with ``rest``, the weight that all other tokens share evenly
        (nothing where there are no others).

        Raises:
            ValueError: if no distribution has these weights.
        """
        ids, order = np.unique(token_ids.numpy(), return_index=True)
        if len(ids) < len(token_ids) or (len(ids) and not 0 <= ids[0] <= ids[-1] < vocab_size):
            raise ValueError(f"{target_id}: token ids are not distinct ids below {vocab_size}")
        listed = double(weights).numpy()[order]
        unlisted = vocab_size - len(ids)
        rest = rest if unlisted else 0.0
        total = float(listed.sum()) + rest
        if not (total < math.inf and total > 0.0 and rest >= 0.0 and (listed >= 0.0).all()):
            raise ValueError(f"{target_id}: weights are negative, not finite or all zero")
        if rest == 0.0:  # a token of weight zero is then one of those that are not listed
            ids, listed = ids[listed > 0.0], listed[listed > 0.0]
        with np.errstate(divide="ignore"):
            log_probs = (np.log(listed) - math.log(total)).astype(np.float32)
            rest_log_prob = float(np.float32(np.log(rest) - math.log(total) - math.log(max(unlisted, 1))))
        h = _entropy_of_groups(np.append(log_probs, rest_log_prob), np.append(np.ones(len(ids)), unlisted))
        sparse_ids = torch.from_numpy(ids).long()
        return cls(
            target_id, family, torch.from_numpy(log_probs), h, seed, metadata, sparse_ids, rest_log_prob,
            exchangeable=exchangeable,
        )  # fmt: skip

    @classmethod
    def from_answers(
        cls, target_id: str, family: str, answers: Answers, vocab_size: int, seed: int | None = None
    ) -> "Target":
        """Makes a target over answers or cells of them; its entropy is that of the cells."""
        first = answers.first_tokens
        weights = torch.tensor([*first.values()], dtype=torch.float64)
        target = cls.from_weights(target_id, family, torch.tensor([*first]), weights, vocab_size, seed=seed)
        return replace(target, entropy=answers.tree.entropy, answers=answers)

    @property
    def texts(self) -> Texts:
        """What stands around its prompt."""
        return Texts(self.before, self.after, self.chat)

    def dense(self, vocab_size: int) -> Tensor:
        """Log-probabilities over the whole vocabulary, ``[vocab]``, float32."""
        return fill_log_probs(torch.empty(vocab_size), self.log_probs, self.token_ids, self.rest_log_prob)


def fill_log_probs(row: Tensor, log_probs: Tensor, token_ids: Tensor | None, rest_log_prob: float) -> Tensor:
    """Writes a target's log-probabilities, dense or sparse as in :class:`Target`, into a row ``[vocab]``."""
    if token_ids is None:
        return row.copy_(log_probs)
    row.fill_(rest_log_prob)
    row[token_ids.long()] = log_probs
    return row


def _entropy_of_groups(log_p: NDArray[np.floating[Any]], count: NDArray[np.floating[Any]]) -> float:
    """H in nats, normalised, where ``count[i]`` tokens have the log-probability ``log_p[i]`` each."""
    log_p = log_p.astype(np.float64)
    mass = count * np.exp(log_p)
    total = float(mass.sum())
    log_p[mass == 0.0] = 0.0
    return math.log(total) - float(mass @ log_p) / total


@dataclass
class Rejected:
    """A target that a family could not make as it should be; it is listed, never used."""

    target_id: str  #: the id that it would have had
    family: str
    reason: str  #: what is wrong with it, with numbers
