"""A server whose answers are kept, so that it is asked for nothing twice."""

from collections.abc import Callable, Sequence
from typing import Any

from lit_prompt.errors import InputError
from lit_prompt.served.listed import Entry, Listed
from lit_prompt.served.servers import Kind, Messages, Prompt, Server
from lit_prompt.served.store import AnswerStore


class KeptServer:
    """Asks a server for what is not kept, and keeps it.

    Args:
        server: that is asked; None for what is kept alone.
        kind: its protocol.
        name: of the LM.
        store: where answers are kept.
        listed: how many tokens it is asked to list.
        again: whether it is asked once more for what is kept; what it says then is kept beside that.
    """

    batch = 1

    def __init__(
        self, server: Server | None, kind: Kind, name: str, store: AnswerStore, listed: int, again: bool = False
    ) -> None:
        self.kind, self.name = kind, name
        self._server, self._store, self._count, self._again = server, store, listed, again
        self._told: dict[str, Any] = {}  # by this process, again

    def question(self, prompt: Prompt) -> list[Any]:
        """What a question for the next token is kept under."""
        return ["after", self._count, prompt if isinstance(prompt, str) else list(prompt)]

    def known(self, prompt: Prompt) -> tuple[Listed, int] | None:
        """What is kept of the next tokens after a prompt, and how many tokens were read for it."""
        found = self._store.find(self.question(prompt))
        return None if found is None else (_listed(found[0]), found[1])

    def keep(self, prompt: Prompt, listed: Listed) -> None:
        """Keeps the next tokens after a prompt."""
        self._store.keep(self.question(prompt), _plain(listed), tokens_read(prompt, listed))

    def tokens(self, text: str, start: bool) -> list[int] | None:
        """As of :class:`Server`; a tokenizer is asked once, whatever ``again`` says. None of what is not kept."""

        def ask() -> list[int] | None:
            return self._asked.tokens(text, start)

        question = ["tokens", text, start]
        if self._server is None and self._store.find(question) is None:
            return None
        found: list[int] | None = self._once(question, ask)
        return found

    def written(self, messages: Messages) -> str | None:
        """As of :class:`Server`; a template is asked for once, too."""
        found: str | None = self._once(["written", list(messages)], lambda: self._asked.written(messages))
        return found

    def _once(self, question: Any, ask: Callable[[], Any]) -> Any:
        """What is kept of a question that is asked once; a plain value."""
        if (found := self._store.find(question)) is not None:
            return found[0]
        value = ask()
        self._store.keep(question, value)
        return value

    def after(self, prompt: Prompt) -> Listed:
        """As of :class:`Server`."""

        def ask() -> tuple[Any, int]:
            listed = self._asked.after(prompt)
            return _plain(listed), tokens_read(prompt, listed)

        return _listed(self._kept(self.question(prompt), ask))

    def after_each(self, prompts: Sequence[Prompt]) -> list[Listed]:
        """As of :class:`Server`."""
        return [self.after(prompt) for prompt in prompts]

    def log_prob(self, prompt: Prompt, token: int | str) -> float | None:
        """As of :class:`Server`; None of what is not kept."""
        text = prompt if isinstance(prompt, str) else list(prompt)

        def ask() -> tuple[Any, int]:
            return None if self._server is None else self._server.log_prob(prompt, token), 0

        found: float | None = self._kept(["log_prob", text, token], ask)
        return found

    def _kept(self, question: list[Any], ask: Any) -> Any:
        """The answer to a question: what is kept, else what the server says, which then is."""
        again = ["again", *question]
        if not self._again or self._server is None:
            found = (self._store.find(again) if self._again else None) or self._store.find(question)
            if found is not None:
                return found[0]
            again = question
        elif str(again) in self._told:
            return self._told[str(again)]
        answer, read = ask()
        if self._server is not None:
            self._store.keep(again, answer, read)
        if self._again:
            self._told[str(again)] = answer
        return answer

    @property
    def _asked(self) -> Server:
        if self._server is None:
            raise InputError("--offline: what is needed here was never asked for; leave the option out")
        return self._server


def tokens_read(prompt: Prompt, listed: Listed) -> int:
    """How many tokens a server has read for an answer; where it does not tell, a quarter of the prompt's characters."""
    return listed.read or estimated_tokens(prompt)


def estimated_tokens(prompt: Prompt) -> int:
    """About how many tokens a prompt has."""
    if isinstance(prompt, str):
        return len(prompt) // 4 + 1
    return sum(len(part["content"]) // 4 + 1 if isinstance(part, dict) else 1 for part in prompt)


def _plain(listed: Listed) -> list[list[Any]]:
    return [[entry.token_id, entry.text, entry.log_prob, entry.drawn] for entry in listed.entries]


def _listed(plain: Any) -> Listed:
    return Listed([Entry(*entry) for entry in plain])
