"""Carrying distributions from one LM's vocabulary to another's."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from lit_prompt.functional.precision import double
from lit_prompt.lm.vocabulary import Vocabulary


class Mapped(NamedTuple):
    """Distributions over the target's vocabulary, and what the way there cost; all float64."""

    probs: Tensor  #: ``[item, target_size]``, normalised; a row is NaN where all of its mass was lost
    lost: Tensor  #: probability that had no token to go to and was left out, ``[item]``
    moved: Tensor  #: probability that went to a token of other bytes than its own, ``[item]``


class VocabularyMap:
    """Where the probability of each token of one vocabulary goes in another.

    Tokens are compared as bytes. A token without bytes (special, unknown, padding) loses its probability, as does one
    for which the other vocabulary has no token; the rest is renormalised. Between two vocabularies of the same
    tokenizer the map goes by id instead, special tokens included, and loses only what lies on ids without a token.

    With ``shared_tokens`` a token's probability goes to the token of the same bytes; with ``first_piece`` to the first
    token in the target's encoding of these bytes, as they continue other text.

    Raises:
        InputError: if a tokenizer is of a kind whose bytes are not known.
    """

    def __init__(self, source: Vocabulary, target: Vocabulary, kind: Literal["shared_tokens", "first_piece"]) -> None:
        self.target_size = target.size
        found, moved = _by_id(source, target) or _by_bytes(source, target, kind)
        #: token of the target for each token of the source, -1 where there is none, ``[source_size]``
        self.token_ids = torch.tensor(found, dtype=torch.int64)
        self._moved = torch.tensor(moved, dtype=torch.int64)

    def map(self, probs: Tensor) -> Mapped:
        """Maps distributions ``[item, source_size]``, rows that sum to 1, from any device to the CPU."""
        probs = double(probs)
        kept = self.token_ids >= 0
        to = self.token_ids[kept].expand(len(probs), -1)
        mapped = probs.new_zeros(len(probs), self.target_size).scatter_add_(1, to, probs[:, kept])
        mapped /= _row_sums(mapped).unsqueeze(1)
        return Mapped(mapped, _row_sums(probs[:, ~kept]), _row_sums(probs[:, self._moved]))


def _row_sums(x: Tensor) -> Tensor:
    """Sums of rows, one at a time: a sum's rounding must not depend on how many rows there are."""
    return torch.stack([row.sum() for row in x]) if len(x) else x.new_zeros(0)


def _by_id(source: Vocabulary, target: Vocabulary) -> tuple[list[int], list[int]] | None:
    """For each token its own id where both vocabularies are of the same tokenizer; no token is moved."""
    tokens = source.tokenizer.get_vocab()
    if tokens != target.tokenizer.get_vocab():
        return None
    known = set(target.defined_ids)
    return [i if i in known else -1 for i in range(source.size)], []


def _by_bytes(source: Vocabulary, target: Vocabulary, kind: str) -> tuple[list[int], list[int]]:
    """For each token that of the target or -1, and the tokens that are moved to one of other bytes."""
    if kind == "shared_tokens":
        return [-1 if data is None else target.ids_by_bytes.get(data, -1) for data in source.token_bytes], []
    found, moved = [-1] * source.size, []
    for token_id, data in enumerate(source.token_bytes):
        pieces = target.continuation_ids(data) if data is not None else []
        if pieces:
            found[token_id] = pieces[0]
            if target.token_bytes[pieces[0]] != data:
                moved.append(token_id)
    return found, moved
