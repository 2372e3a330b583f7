"""The fixed texts around a prompt, where no tokens of them are known."""

import json

from lit_prompt.data import TargetBatch, TargetSet
from lit_prompt.data.target import Texts
from lit_prompt.errors import InputError
from lit_prompt.scoring import Context
from lit_prompt.served.questions import filled
from lit_prompt.served.servers import Kind, Prompt


class ServedContexts:
    """The contexts of targets of a served LM: their own texts, and the module's where they have none.

    Args:
        before: the module's text before the prompt.
        after: the module's text after it.
        kind: of the server.
    """

    def __init__(self, before: str, after: str, kind: Kind) -> None:
        self.default = Context(before, after, (), (), own=False)
        self._kind = kind

    def of(self, texts: Texts, target_id: str = "a target") -> Context:
        """The context of a target whose texts, where it has its own, are these.

        Raises:
            InputError: if the server does not take such a context.
        """
        if texts.chat is None and self._kind == "chat":
            raise InputError(f"{target_id} is no chat, and the server takes no other; give its messages as chat")
        if texts.chat is not None:
            if self._kind != "chat":
                raise InputError(f"{target_id} is a chat, whose template a server writes: set kind of lm to chat")
            messages = json.loads(texts.chat)
            if messages[-1]["role"] == "assistant":
                raise InputError(f"{target_id}: its reply is begun, which a chat's server does not go on from")
        before = self.default.before if texts.before is None else texts.before
        after = self.default.after if texts.after is None else texts.after
        return Context(before, after, (), (), own=False, chat=texts.chat)

    def of_all(self, targets: TargetSet | TargetBatch) -> list[Context]:
        """The contexts of some targets, in their order."""
        return [self.of(*pair) for pair in zip(targets.texts, targets.target_id, strict=True)]

    def whole(self, context: Context, prompt: str) -> str:
        """The text that a prompt's text stands in; of a chat its messages as JSON."""
        if context.chat is not None:
            return json.dumps(filled(json.loads(context.chat), prompt), ensure_ascii=False)
        return f"{context.before}{prompt}{context.after}"

    def asked(self, context: Context, prompt: str) -> Prompt:
        """What a server is asked to go on from."""
        whole = self.whole(context, prompt)
        return whole if context.chat is None else json.loads(whole)
