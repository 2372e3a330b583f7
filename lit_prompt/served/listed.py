"""What a server lists of a next-token distribution."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    """A token that a server lists.

    Attributes:
        token_id: its id; None where the server tells texts alone.
        text: its text, as far as the server tells it.
        log_prob: its log-probability, nats.
        drawn: whether it may be listed for no other reason than that the server has drawn it.
    """

    token_id: int | None
    text: str
    log_prob: float
    drawn: bool = False


@dataclass(frozen=True)
class Listed:
    """The likeliest next tokens after a text, the likeliest first.

    Attributes:
        entries: the tokens.
        read: how many tokens the server has read for them; None where it does not tell.
    """

    entries: list[Entry]
    read: int | None = None

    def by_token(self) -> dict[int | str, float]:
        """Log-probabilities by token id, or by text where ids are not told; of equal texts the likeliest counts."""
        return {
            entry.text if entry.token_id is None else entry.token_id: entry.log_prob for entry in reversed(self.entries)
        }

    def by_text(self) -> dict[int | str, float]:
        """Log-probabilities by text; of equal texts the likeliest counts."""
        return {entry.text: entry.log_prob for entry in reversed(self.entries)}

    @property
    def last(self) -> float:
        """The smallest listed log-probability, nats: none that is not listed is larger.

        That of a token which may be listed because it was drawn alone does not count.
        """
        sure = self.entries[:-1] if self.entries[-1].drawn else self.entries
        return sure[-1].log_prob if sure else 0.0

    @property
    def least(self) -> float:
        """The smallest listed probability."""
        return math.exp(self.last)

    @property
    def rest(self) -> float:
        """What the listed ones leave of 1."""
        return max(0.0, 1.0 - math.fsum(math.exp(entry.log_prob) for entry in self.entries))
