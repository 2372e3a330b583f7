"""Kinds of servers of an LM: llama.cpp's own protocol, and that of OpenAI's completions."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Literal, Protocol

from lit_prompt.errors import InputError
from lit_prompt.served.all_tokens import ALL, AllTokens
from lit_prompt.served.connection import Connection, NoJSON, Refused
from lit_prompt.served.listed import Entry, Listed
from lit_prompt.served.lists import Lists, checked, read_lists, understood

Kind = Literal["llama.cpp", "openai", "chat"]
#: How many tokens OpenAI-like servers are asked to list: as many as they do.
_ASKED = (100, 20, 5, 1)
#: Prompts of a request to OpenAI-like servers.
_BATCH = 8
#: LMs of a server that a message names.
_NAMED = 5
_ANY_CHAT = ({"role": "user", "content": "Yes or no?"},)

Messages = Sequence[dict[str, str]]
#: A text, token ids, or the messages of a chat.
Prompt = str | Sequence[int] | Messages


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

    def written(self, messages: Messages) -> str | None:
        """The text of a chat up to its reply, by the LM's template; None where the server does not tell."""


def connect(
    url: str | Connection, kind: Kind | None = None, most: int | None = None, model: str | None = None,
    chats: bool = False,
) -> Server:  # fmt: skip
    """Finds out what kind of server answers at an address, unless it is told.

    Args:
        url: the address, or a connection to it.
        kind: of the server.
        most: tokens that it is asked to list; None for as many as it does.
        model: name of the LM, where the server has several.
        chats: whether it is asked to go on from chats.

    Raises:
        InputError: if nothing answers, or nothing that is known, or it has no such LM.
    """
    connection = url if isinstance(url, Connection) else Connection(url)
    if kind == "llama.cpp" or (kind is None and _props(connection) is not None):
        server = LlamaCpp(connection, most or ALL)
        if model not in (None, server.name):
            raise InputError(f"{connection.where} serves {server.name}, not {model}")
        if kind is not None or not chats or server.written(_ANY_CHAT) is not None:
            return server
    if kind is None and chats:
        kind = "chat"
    name = _model(connection, model)
    asked = [count for count in _ASKED if most is None or count < most]
    if most is not None:
        asked.insert(0, most)
    return ChatLike(connection, name, asked) if kind == "chat" else OpenAILike(connection, name, asked)


def _model(connection: Connection, model: str | None) -> str:
    """The name of the LM that a server is asked for: the one that is told, or the only one that it has."""
    models = connection.get("v1/models")
    names = [str(one["id"]) for one in models["data"]] if isinstance(models, dict) and models.get("data") else []
    if model is not None and (model in names or not names):
        return model
    if not names:
        raise InputError(
            f"{connection.where} is neither llama.cpp's server (/props) nor one like OpenAI's (/v1/models)"
        )
    listed = ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
    if model is not None:
        raise InputError(f"{connection.where} has no {model}; it has {listed}")
    if len(names) > 1:
        raise InputError(f"{connection.where} has several LMs ({listed}); name one as model")
    return names[0]


class LlamaCpp:
    """llama.cpp's own ``/completion``, which lists as many tokens as it is asked for, with their ids."""

    kind: Kind = "llama.cpp"
    batch = 1

    def __init__(self, connection: Connection, most: int = ALL) -> None:
        self._connection, self._most = connection, most
        self._all = AllTokens(lambda prompt: self._listed(prompt, ALL))
        props = _props(connection) or {}
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
        return None if self._most >= ALL else self._all.log_prob(prompt, token)

    def written(self, messages: Messages) -> str | None:
        """As the template of the file writes it; what is put in front of every text is left out."""
        answer = self._connection.post("apply-template", {"messages": list(messages)})
        return None if answer is None else str(answer["prompt"])

    def _listed(self, prompt: Prompt, count: int) -> Listed:
        text = prompt if isinstance(prompt, str) else list(prompt)
        question = {"prompt": text, "n_predict": 1, "temperature": 0.0, "cache_prompt": True, "n_probs": count,
                    "response_fields": ["completion_probabilities", "tokens_evaluated"]}  # fmt: skip
        answer = self._connection.post("completion", question)
        with understood(self._connection):
            (first,) = answer["completion_probabilities"][:1]
            entries = [Entry(int(e["id"]), str(e["token"]), float(e["logprob"])) for e in first["top_logprobs"]]
            return checked(entries, answer.get("tokens_evaluated"))


class OpenAILike:
    """``/v1/completions`` with logprobs, as vLLM, SGLang, llama.cpp and hosted APIs have it."""

    kind: Kind = "openai"

    def __init__(self, connection: Connection, name: str, asked: Sequence[int] = _ASKED) -> None:
        self._connection, self.name = connection, name
        self._lists = Lists(connection, asked)
        self._scores_given = True
        self._all = _all_tokens(connection, lambda prompt: self._complete(prompt, logprobs=ALL))
        self.batch = _BATCH if self._all is None else 1  # of several prompts llama.cpp tells the tokens of one
        self._names: dict[str, Any] = {}  # has vLLM tell ids, not texts, which several tokens may have
        self._tells_ids: bool | None = None  # not known yet

    def tokens(self, text: str, start: bool) -> list[int] | None:
        """Token ids of a text, as vLLM's ``/tokenize`` tells them; of use where lists tell ids, too."""
        if self._tells_ids is False:
            return None
        answer = self._connection.post("tokenize", {"model": self.name, "prompt": text, "add_special_tokens": start})
        found = answer.get("tokens") if isinstance(answer, dict) else None
        if found is None or (text and not found):  # a server of another kind, which has not understood
            return None
        if self._tells_ids is None and found:
            self._names = {"return_tokens_as_token_ids": True}
            self._tells_ids = all(entry.token_id is not None for entry in self.after(text or found).entries)
            if not self._tells_ids:  # SGLang
                self._names = {}
                return None
        return [int(i) for i in found]

    def after(self, prompt: Prompt) -> Listed:
        """The likeliest next tokens, as many as the server lists."""
        return self.after_each([prompt])[0]

    def after_each(self, prompts: Sequence[Prompt]) -> list[Listed]:
        """The same of several prompts, in one request."""
        texts = [prompt if isinstance(prompt, str) else list(prompt) for prompt in prompts]
        asked: Any = texts if len(texts) > 1 else texts[0]
        found = self._lists.most(lambda count: self._complete(asked, logprobs=count))
        with understood(self._connection):
            if len(found) != len(prompts):
                raise ValueError(f"{len(found)} answers to {len(prompts)} prompts")
        return found

    def log_prob(self, prompt: Prompt, token: int | str) -> float | None:
        """That of the last token of a prompt that is echoed, or among all; None where the server tells neither."""
        if self._all is not None:
            return self._all.log_prob(prompt, token)
        if not self._scores_given or isinstance(prompt, str) != isinstance(token, str):
            return None
        whole: Any = prompt + token if isinstance(prompt, str) else [*prompt, token]  # type: ignore[operator]
        with suppress(Refused, KeyError, TypeError, IndexError):
            found = self._complete(whole, echo=True, logprobs=1)["choices"][0]["logprobs"]
            *echoed, _ = zip(found["tokens"], found["token_logprobs"], strict=False)  # the last one is new
            name, scored = echoed[-1]
            if isinstance(token, str) and name != token:  # of several tokens there, the last of which was told
                return None
            if scored is not None:
                return float(scored)
        self._scores_given = False
        return None

    def written(self, messages: Messages) -> str | None:
        """None: texts alone are gone on from."""
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
        self._lists = Lists(connection, asked)
        self._all = _all_tokens(connection, lambda prompt: self._reply(prompt, ALL))

    def tokens(self, text: str, start: bool) -> list[int] | None:
        """None: what the template writes is not told."""
        return None

    def written(self, messages: Messages) -> str | None:
        """None, too."""
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
        """That of a token among all; None where the server does not list all."""
        return None if self._all is None else self._all.log_prob(prompt, token)


def _props(connection: Connection) -> dict[str, Any] | None:
    """What llama.cpp says of itself; None of any other server, whatever it answers to a path that it does not know."""
    try:
        found = connection.get("props")
    except (NoJSON, Refused):
        return None
    return found if isinstance(found, dict) else None


def _all_tokens(connection: Connection, ask: Callable[[Prompt], Any]) -> AllTokens | None:
    """All tokens of llama.cpp by its other protocols; another server may break down where it is asked for so many."""
    if _props(connection) is None:
        return None
    return AllTokens(lambda prompt: read_lists(connection, ask(prompt), ALL)[0])
