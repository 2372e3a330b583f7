"""The fixed texts around a prompt, where no tokens of them are known."""

import json

from lit_prompt.data import TargetBatch, TargetSet
from lit_prompt.data.target import Texts
from lit_prompt.errors import InputError
from lit_prompt.scoring import Context
from lit_prompt.served.questions import filled
from lit_prompt.served.servers import Prompt, Server


class ServedContexts:
    """The contexts of targets of a served LM: their own texts, and the module's where they have none.

    Args:
        before: the module's text before the prompt.
        after: the module's text after it.
        server: that is asked.
    """

    def __init__(self, before: str, after: str, server: Server) -> None:
        self.default = Context(before, after, (), (), own=False)
        self._server = server

    def of(self, texts: Texts, target_id: str = "a target") -> Context:
        """The context of a target whose texts, where it has its own, are these.

        Raises:
            InputError: if the server does not take such a context.
        """
        kind = self._server.kind
        if texts.chat is None and kind == "chat":
            raise InputError(f"{target_id} is no chat, and the server takes no other; give its messages as chat")
        if texts.chat is not None:
            if kind == "openai":
                raise InputError(f"{target_id} is a chat, whose template a server writes: set kind of lm to chat")
            if kind == "chat" and json.loads(texts.chat)[-1]["role"] == "assistant":
                raise InputError(f"{target_id}: its reply is begun, which a chat's server does not go on from")
        before = self.default.before if texts.before is None else texts.before
        after = self.default.after if texts.after is None else texts.after
        return Context(before, after, (), (), own=False, chat=texts.chat)

    def of_all(self, targets: TargetSet | TargetBatch) -> list[Context]:
        """The contexts of some targets, in their order."""
        return [self.of(*pair) for pair in zip(targets.texts, targets.target_id, strict=True)]

    def whole(self, context: Context, prompt: str) -> str:
        """The text that a prompt's text stands in; of a chat whose template the server does not tell, messages as JSON.

        Raises:
            InputError: if the server tells of no template where it must.
        """
        if context.chat is None:
            return f"{context.before}{prompt}{context.after}"
        messages = filled(json.loads(context.chat), prompt)
        if self._server.kind == "chat":
            return json.dumps(messages, ensure_ascii=False)
        reply = messages.pop()["content"] if messages[-1]["role"] == "assistant" else ""
        if (text := self._server.written(messages)) is None:
            raise InputError(f"{self._server.name} writes no chats by its template (/apply-template): set kind to chat")
        return text + reply

    def asked(self, context: Context, prompt: str) -> Prompt:
        """What a server is asked to go on from."""
        whole = self.whole(context, prompt)
        return json.loads(whole) if context.chat is not None and self._server.kind == "chat" else whole
