"""All next tokens after a prompt, where a server lists them on demand."""

from collections.abc import Callable
from typing import Any

from lit_prompt.served.listed import Listed

#: How many tokens llama.cpp is asked to list: enough for all of most vocabularies.
ALL = 2**20


class AllTokens:
    """Tells the log-probabilities of given tokens, whatever they are; the last list is kept for the next token.

    Args:
        ask: for the tokens after a prompt, :data:`ALL` of them.
    """

    def __init__(self, ask: Callable[[Any], Listed]) -> None:
        self._ask = ask
        self._last: tuple[str, Listed] | None = None

    def log_prob(self, prompt: Any, token: int | str) -> float | None:
        """That of a token, by its id or by its text; None where it is none of the LM's."""
        if self._last is None or self._last[0] != str(prompt):
            self._last = str(prompt), self._ask(prompt)
        listed = self._last[1]
        return (listed.by_text() if isinstance(token, str) else listed.by_token()).get(token)
