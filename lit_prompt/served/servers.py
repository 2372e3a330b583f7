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
#: How many tokens llama.cpp is asked to list: enough for all of most vocabularies.
_ALL = 2**20
#: Prompts of a request to OpenAI-like servers.
_BATCH = 8

#: A text, token ids, or the messages of a chat.
Prompt = str | Sequence[int] | Sequence[dict[str, str]]


class Server(Protocol):
    """A server of an LM.

    Attributes:
        kind: its protocol.
        name: of the LM, as the server tells it.
        batch: prompts of a request.
    """

    kind: Kind
    name: str
    batch: int

    def tokens(self, text: str, start: bool) -> list[int] | None:
        """Token ids of a text, with what stands in front at a ``start``; None where the server does not tell."""

    def after(self, prompt: Prompt) -> Listed:
        """The next tokens after a prompt, as many as the server lists."""

    def after_each(self, prompts: Sequence[Prompt]) -> list[Listed]:
        """The same of :attr:`batch` prompts at most, in one request."""

    def log_prob(self, prompt: Prompt, token: int | str) -> float | None:
        """The log-probability of a given next token; None where the server does not score given tokens."""


def connect(url: str | Connection, kind: Kind | None = None, most: int | None = None) -> Server:
    """Finds out what kind of server answers at an address, unless it is told.

    Args:
        url: the address, or a connection to it.
        kind: of the server.
        most: tokens that it is asked to list; None for as many as it does.

    Raises:
        InputError: if nothing answers, or nothing that is known.
    """
    connection = url if isinstance(url, Connection) else Connection(url)
    if kind == "llama.cpp" or (kind is None and isinstance(connection.get("props"), dict)):
        return LlamaCpp(connection, most or _ALL)
    models = connection.get("v1/models")
    names = [model["id"] for model in models["data"]] if isinstance(models, dict) and models.get("data") else []
    if not names:
        raise InputError(
            f"{connection.where} is neither llama.cpp's server (/props) nor one like OpenAI's (/v1/models)"
        )
    asked = [count for count in _ASKED if most is None or count < most]
    if most is not None:
        asked.insert(0, most)
    return ChatLike(connection, names[0], asked) if kind == "chat" else OpenAILike(connection, names[0], asked)


class LlamaCpp:
    """llama.cpp's own ``/completion``, which lists as many tokens as it is asked for, with their ids."""

    kind: Kind = "llama.cpp"
    batch = 1

    def __init__(self, connection: Connection, most: int = _ALL) -> None:
        self._connection, self._most = connection, most
        props = connection.get("props") or {}
        self.name = str(props.get("model_alias") or props.get("model_path") or "unnamed")

    def tokens(self, text: str, start: bool) -> list[int] | None:
        """Token ids of a text, special tokens where it spells them."""
        question = {"content": text, "add_special": start, "parse_special": True}
        answer = self._connection.post("tokenize", question)
        return None if answer is None else [int(i) for i in answer["tokens"]]

    def after(self, prompt: Prompt) -> Listed:
        """The likeliest next tokens, as many as were asked for."""
        return self._listed(prompt, self._most)

    def after_each(self, prompts: Sequence[Prompt]) -> list[Listed]:
        """Of one prompt: the server's slots keep the states of their last ones, each by itself."""
        return [self.after(prompt) for prompt in prompts]

    def log_prob(self, prompt: Prompt, token: int | str) -> float | None:
        """That of a token among all, where not all were listed."""
        if self._most >= _ALL:
            return None
        listed = self._listed(prompt, _ALL)
        known = listed.by_text() if isinstance(token, str) else listed.by_token()
        return known.get(token)

    def _listed(self, prompt: Prompt, count: int) -> Listed:
        text = prompt if isinstance(prompt, str) else list(prompt)
        question = {"prompt": text, "n_predict": 1, "temperature": 0.0, "cache_prompt": True, "n_probs": count,
                    "response_fields": ["completion_probabilities", "tokens_evaluated"]}  # fmt: skip
        answer = self._connection.post("completion", question)
        with _understood(self._connection):
            (first,) = answer["completion_probabilities"][:1]
            entries = [Entry(int(e["id"]), str(e["token"]), float(e["logprob"])) for e in first["top_logprobs"]]
            return _checked(entries, answer.get("tokens_evaluated"))


class _Lists:
    """Lists of the likeliest tokens, as long as a server gives them: found out at the first question."""

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
            with _understood(self._connection):
                choices = sorted(answer["choices"], key=lambda choice: choice.get("index", 0))
                read = (answer.get("usage") or {}).get("prompt_tokens")
                each = None if read is None else -(-int(read) // len(choices))
                return [_checked(_entries(choice["logprobs"]), each) for choice in choices]


class OpenAILike:
    """``/v1/completions`` with logprobs, as vLLM, SGLang, llama.cpp and hosted APIs have it."""

    kind: Kind = "openai"
    batch = _BATCH

    def __init__(self, connection: Connection, name: str, asked: Sequence[int] = _ASKED) -> None:
        self._connection, self.name = connection, name
        self._lists = _Lists(connection, asked)
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
        return self.after_each([prompt])[0]

    def after_each(self, prompts: Sequence[Prompt]) -> list[Listed]:
        """The same of several prompts, in one request."""
        texts = [prompt if isinstance(prompt, str) else list(prompt) for prompt in prompts]
        asked: Any = texts if len(texts) > 1 else texts[0]
        found = self._lists.most(lambda count: self._complete(asked, logprobs=count))
        with _understood(self._connection):
            if len(found) != len(prompts):
                raise ValueError(f"{len(found)} answers to {len(prompts)} prompts")
        return found

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
            raise InputError(f"{self._connection.where} has no /v1/completions; for chats name it with --kind chat")
        return answer


class ChatLike:
    """``/v1/chat/completions`` with logprobs: the server writes the chat template, and tells texts of tokens."""

    kind: Kind = "chat"
    batch = 1

    def __init__(self, connection: Connection, name: str, asked: Sequence[int] = _ASKED) -> None:
        self._connection, self.name = connection, name
        self._lists = _Lists(connection, [count for count in asked if count < _ASKED[0]] or asked)

    def tokens(self, text: str, start: bool) -> list[int] | None:
        """None: what the template writes is not told."""
        return None

    def after(self, prompt: Prompt) -> Listed:
        """The likeliest first tokens of the reply to a chat, as many as the server lists."""
        return self._lists.most(lambda count: self._reply(prompt, count))[0]

    def after_each(self, prompts: Sequence[Prompt]) -> list[Listed]:
        """Of one chat: the protocol has no more in a request."""
        return [self.after(prompt) for prompt in prompts]

    def _reply(self, prompt: Prompt, count: int) -> Any:
        question = {"model": self.name, "messages": list(prompt), "max_tokens": 1, "temperature": 1.0,
                    "logprobs": True, "top_logprobs": count}  # fmt: skip
        answer = self._connection.post("v1/chat/completions", question)
        if answer is None:
            raise InputError(f"{self._connection.where} has no /v1/chat/completions")
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


def _checked(entries: list[Entry], read: Any = None) -> Listed:
    finite = [entry for entry in entries if math.isfinite(entry.log_prob)]
    if not finite or any(entry.log_prob > 1e-3 for entry in finite):
        raise ValueError("no log-probabilities")
    return Listed(sorted(finite, key=lambda entry: -entry.log_prob), None if read is None else int(read))


class _understood:
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
