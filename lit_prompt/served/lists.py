"""Lists of the likeliest tokens in the forms that servers like OpenAI's give them."""

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

from lit_prompt.errors import InputError
from lit_prompt.served.connection import Connection, Refused
from lit_prompt.served.listed import Entry, Listed

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_ESCAPED = re.compile(r"\\x([0-9A-Fa-f]{2})")


class Lists:
    """Lists that are as long as a server gives them, which is found out at the first question.

    Args:
        connection: for errors.
        counts: tokens that it is asked to list, in this order until it does not refuse.
    """

    def __init__(self, connection: Connection, counts: Sequence[int]) -> None:
        self._connection, self._counts = connection, tuple(counts)

    def most(self, ask: Callable[[int], Any]) -> list[Listed]:
        """What a server lists after each prompt of a request when it is asked for so many tokens."""
        while True:
            try:
                answer = ask(self._counts[0])
            except Refused as error:
                if error.status not in (400, 422) or len(self._counts) == 1:
                    raise
                self._counts = self._counts[1:]
                continue
            self._counts = self._counts[:1]
            return read_lists(self._connection, answer, self._counts[0])


def read_lists(connection: Connection, answer: Any, count: int) -> list[Listed]:
    """The lists of an answer of which ``count`` tokens were asked for, one a prompt.

    Raises:
        InputError: if it holds none.
    """
    with understood(connection):
        choices = sorted(answer["choices"], key=lambda choice: choice.get("index", 0))
        read = (answer.get("usage") or {}).get("prompt_tokens")
        each = None if read is None else -(-int(read) // len(choices))
        return [checked(_entries(choice["logprobs"]), each, count) for choice in choices]


def checked(entries: Sequence[Entry], read: Any = None, count: int | None = None) -> Listed:
    """The likeliest of some tokens, ``count`` at most.

    A server lists the token that it has drawn, too, however rare: beside the likeliest (OpenAI, vLLM), or in the place
    of the last of them (vLLM's chats).

    Raises:
        ValueError: if they have no log-probabilities.
    """
    finite = [entry for entry in entries if math.isfinite(entry.log_prob)]
    if not finite or any(entry.log_prob > 1e-3 for entry in finite):
        raise ValueError("no log-probabilities")
    return Listed(sorted(finite, key=lambda entry: -entry.log_prob)[:count], None if read is None else int(read))


def _entries(logprobs: Any) -> list[Entry]:
    if "top_logprobs" in logprobs:
        first, drawn = logprobs["top_logprobs"][0], (logprobs.get("tokens") or [None])[0]
    else:
        first, drawn = logprobs["content"][0]["top_logprobs"], logprobs["content"][0].get("token")
    if isinstance(first, dict):
        return [Entry(_id_in(name), _text(name), float(value), name == drawn) for name, value in first.items()]
    return [Entry(e.get("id"), _text_of(e), float(e["logprob"]), e["token"] == drawn) for e in first]


def _text_of(entry: dict[str, Any]) -> str:
    """Of a listed token; its bytes tell a space that its name may lack."""
    data = entry.get("bytes")
    return bytes(data).decode(errors="replace") if data else _text(str(entry["token"]))


def _text(name: str) -> str:
    """Of a token by its name; of part of a character a replacement character, however a server writes it."""
    if (byte := _BYTE_TOKEN.fullmatch(name)) is not None:
        return bytes([int(byte[1], 16)]).decode(errors="replace")
    if name.startswith("bytes:"):
        escaped = name.removeprefix("bytes:").encode().decode("latin-1")
        return _ESCAPED.sub(lambda found: chr(int(found[1], 16)), escaped).encode("latin-1").decode(errors="replace")
    return name


def _id_in(name: str) -> int | None:
    """The id in ``token_id:123``, as vLLM names tokens on request."""
    head, _, tail = name.partition(":")
    return int(tail) if head == "token_id" and tail.isdigit() else None


class understood:
    """Turns an answer of another form into one line."""

    def __init__(self, connection: Connection) -> None:
        self._where = connection.where

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, (KeyError, TypeError, ValueError, IndexError, AttributeError)):
            raise InputError(
                f"{self._where} lists no log-probabilities ({type(error).__name__}: {error}); it has to be "
                "asked for them when it is started, or is no server of this kind (--kind)"
            ) from error
