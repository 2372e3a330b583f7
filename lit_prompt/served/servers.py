"""Kinds of servers of an LM: llama.cpp's own protocol, and that of OpenAI's completions."""

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Literal, Protocol

from lit_prompt.errors import InputError
from lit_prompt.served.connection import Connection, Refused
from lit_prompt.served.listed import Entry, Listed

Kind = Literal["llama.cpp", "openai", "chat"]
#: How many tokens OpenAI-like servers are asked to list: as many as they do.
_ASKED = (100, 20, 5, 1)

#: A text, token ids, or the messages of a chat.
Prompt = str | Sequence[int] | Sequence[dict[str, str]]


class Server(Protocol):
    """A server of an LM.

    Attributes:
        kind: its protocol.
        name: of the LM, as the server tells it.
    """

    kind: Kind
    name: str

    def tokens(self, text: str, start: bool) -> list[int] | None:
        """Token ids of a text, with what stands in front at a ``start``; None where the server does not tell."""

    def after(self, prompt: Prompt) -> Listed:
        """The next tokens after a prompt, as many as the server lists."""

    def log_prob(self, prompt: Prompt, token: int | str) -> float | None:
        """The log-probability of a given next token; None where the server does not score given tokens."""


def connect(url: str, kind: Kind | None = None) -> Server:
    """Finds out what kind of server answers at an address, unless it is told.

    Raises:
        InputError: if nothing answers, or nothing that is known.
    """
    connection = Connection(url)
    if kind == "llama.cpp" or (kind is None and isinstance(connection.get("props"), dict)):
        return LlamaCpp(connection)
    models = connection.get("v1/models")
    names = [model["id"] for model in models["data"]] if isinstance(models, dict) and models.get("data") else []
    if not names:
        raise InputError(
            f"--server: {connection.url} is neither llama.cpp's server (/props) nor one like OpenAI's (/v1/models)"
        )
    return ChatLike(connection, names[0]) if kind == "chat" else OpenAILike(connection, names[0])


class LlamaCpp:
    """llama.cpp's own ``/completion``, which lists as many tokens as it is asked for, with their ids."""

    kind: Kind = "llama.cpp"

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        props = connection.get("props") or {}
        self.name = str(props.get("model_alias") or props.get("model_path") or "unnamed")

    def tokens(self, text: str, start: bool) -> list[int] | None:
        """Token ids of a text, special tokens where it spells them."""
        question = {"content": text, "add_special": start, "parse_special": True}
        answer = self._connection.post("tokenize", question)
        return None if answer is None else [int(i) for i in answer["tokens"]]

    def after(self, prompt: Prompt) -> Listed:
        """The likeliest next tokens: enough for all of most vocabularies."""
        return self._listed(prompt, n_probs=2**20)

    def log_prob(self, prompt: Prompt, token: int | str) -> float | None:
        """None: all tokens are listed anyway."""
        return None

    def _listed(self, prompt: Prompt, **options: Any) -> Listed:
        text = prompt if isinstance(prompt, str) else list(prompt)
        question = {"prompt": text, "n_predict": 1, "temperature": 0.0, "cache_prompt": True, **options}
        answer = self._connection.post("completion", question)
        with _understood(self._connection):
            (first,) = answer["completion_probabilities"][:1]
            return _checked([Entry(int(e["id"]), str(e["token"]), float(e["logprob"])) for e in first["top_logprobs"]])


class _Lists:
    """Lists of the likeliest tokens, as long as a server gives them: found out at the first question."""

    def __init__(self, connection: Connection, counts: Sequence[int]) -> None:
        self._connection, self._counts = connection, tuple(counts)

    def most(self, ask: Callable[[int], Any]) -> Listed:
        """What a server lists when it is asked for so many tokens."""
        while True:
            try:
                answer = ask(self._counts[0])
            except Refused as error:
                if error.status not in (400, 422) or len(self._counts) == 1:
                    raise
                self._counts = self._counts[1:]
                continue
            self._counts = self._counts[:1]
            with _understood(self._connection):
                return _checked(_entries(answer["choices"][0]["logprobs"]))


class OpenAILike:
    """``/v1/completions`` with logprobs, as vLLM, SGLang, llama.cpp and hosted APIs have it."""

    kind: Kind = "openai"

    def __init__(self, connection: Connection, name: str) -> None:
        self._connection, self.name = connection, name
        self._lists = _Lists(connection, _ASKED)
        self._scores_given = True
        self._names: dict[str, Any] = {}  # has vLLM tell ids, not texts, which several tokens may have

    def tokens(self, text: str, start: bool) -> list[int] | None:
        """Token ids of a text, as vLLM's ``/tokenize`` tells them."""
        answer = self._connection.post("tokenize", {"model": self.name, "prompt": text, "add_special_tokens": start})
        found = answer.get("tokens") if isinstance(answer, dict) else None
        if text and not found:  # a server of another kind, which has not understood
            return None
        if found is not None:
            self._names = {"return_tokens_as_token_ids": True}
        return None if found is None else [int(i) for i in found]

    def after(self, prompt: Prompt) -> Listed:
        """The likeliest next tokens, as many as the server lists."""
        return self._lists.most(lambda count: self._complete(prompt, logprobs=count))

    def log_prob(self, prompt: Prompt, token: int | str) -> float | None:
        """That of the last token of a prompt that is echoed; None where the server does not echo."""
        if not self._scores_given:
            return None
        with suppress(Refused, KeyError, TypeError, IndexError):
            if isinstance(prompt, str) != isinstance(token, str):
                return None
            whole: Any = prompt + token if isinstance(prompt, str) else [*prompt, token]  # type: ignore[operator]
            found = self._complete(whole, echo=True, logprobs=1)["choices"][0]["logprobs"]
            size = len(found["tokens"])
            scored = found["token_logprobs"][size - 2] if size >= 2 else None  # the last one is new
            if scored is not None:
                return float(scored)
        self._scores_given = False
        return None

    def _complete(self, prompt: Prompt, **options: Any) -> Any:
        text = prompt if isinstance(prompt, str) else list(prompt)
        question = {"model": self.name, "prompt": text, "max_tokens": 1, "temperature": 1.0, **self._names, **options}
        answer = self._connection.post("v1/completions", question)
        if answer is None:
            raise InputError(
                f"--server: {self._connection.url} has no /v1/completions; for chats name it with --kind chat"
            )
        return answer


class ChatLike:
    """``/v1/chat/completions`` with logprobs: the server writes the chat template, and tells texts of tokens."""

    kind: Kind = "chat"

    def __init__(self, connection: Connection, name: str) -> None:
        self._connection, self.name = connection, name
        self._lists = _Lists(connection, _ASKED[1:])

    def tokens(self, text: str, start: bool) -> list[int] | None:
        """None: what the template writes is not told."""
        return None

    def after(self, prompt: Prompt) -> Listed:
        """The likeliest first tokens of the reply to a chat, as many as the server lists."""
        return self._lists.most(lambda count: self._reply(prompt, count))

    def _reply(self, prompt: Prompt, count: int) -> Any:
        question = {"model": self.name, "messages": list(prompt), "max_tokens": 1, "temperature": 1.0,
                    "logprobs": True, "top_logprobs": count}  # fmt: skip
        answer = self._connection.post("v1/chat/completions", question)
        if answer is None:
            raise InputError(f"--server: {self._connection.url} has no /v1/chat/completions")
        return answer

    def log_prob(self, prompt: Prompt, token: int | str) -> float | None:
        """None: given tokens are not scored."""
        return None


def _entries(logprobs: Any) -> list[Entry]:
    first = logprobs["top_logprobs"][0] if "top_logprobs" in logprobs else logprobs["content"][0]["top_logprobs"]
    if isinstance(first, dict):
        return [Entry(_id_in(text), text, float(value)) for text, value in first.items()]
    return [Entry(e.get("id"), _text(e), float(e["logprob"])) for e in first]


def _text(entry: dict[str, Any]) -> str:
    """Of a listed token; its bytes tell a space that its name may lack."""
    data = entry.get("bytes")
    try:
        return bytes(data).decode() if data else str(entry["token"])
    except ValueError:  # part of a character
        return str(entry["token"])


def _id_in(text: str) -> int | None:
    """The id in ``token_id:123``, as vLLM names tokens on request."""
    head, _, tail = text.partition(":")
    return int(tail) if head == "token_id" and tail.isdigit() else None


def _checked(entries: list[Entry]) -> Listed:
    finite = [entry for entry in entries if math.isfinite(entry.log_prob)]
    if not finite or any(entry.log_prob > 1e-3 for entry in finite):
        raise ValueError("no log-probabilities")
    return Listed(sorted(finite, key=lambda entry: -entry.log_prob))


class _understood:
    """Turns an answer of another form into one line."""

    def __init__(self, connection: Connection) -> None:
        self._url = connection.url

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, (KeyError, TypeError, ValueError, IndexError, AttributeError)):
            raise InputError(
                f"--server: {self._url} lists no log-probabilities ({type(error).__name__}: {error}); it has to be "
                "asked for them when it is started, or is no server of this kind (--kind)"
            ) from error
