"""Chats: messages around a prompt, as an LM's own chat template writes them."""

import json
import reprlib
from functools import cached_property
from typing import Any

from lit_prompt.errors import InputError
from lit_prompt.lm.hub import first_line
from lit_prompt.lm.vocabulary import Vocabulary

#: What stands for the prompt in a message.
PROMPT = "{prompt}"
_EXAMPLE = 'give a list such as [{"role": "system", "content": "{prompt}"}, {"role": "user", "content": "..."}]'


def chat_json(messages: Any, where: str) -> str:
    """Messages as the text that :class:`ChatTexts` reads; equal messages give equal texts.

    Args:
        messages: a list of objects with the texts ``role`` and ``content``, ``{prompt}`` once in all contents together.
            A last message of the assistant is the beginning of its reply, which the LM goes on from.
        where: file and line, named in the error.

    Raises:
        InputError: if they are not that.
    """
    if not isinstance(messages, list) or not messages:
        raise InputError(f'{where}: "chat" is {reprlib.repr(messages)}; {_EXAMPLE}')
    for number, message in enumerate(messages, start=1):
        if not isinstance(message, dict) or not all(isinstance(message.get(key), str) for key in ("role", "content")):
            raise InputError(
                f'{where}: message {number} in "chat" is {reprlib.repr(message)}, not an object with the texts "role" '
                'and "content"'
            )
        for key in message:
            if key not in ("role", "content"):
                raise InputError(
                    f'{where}: message {number} in "chat" has the key {key!r}; a message has "role" and "content" alone'
                )
    if messages[-1]["role"] == "assistant" and PROMPT in messages[-1]["content"]:
        raise InputError(
            f"{where}: {PROMPT} stands in the assistant's last message, which begins its reply; put it into an earlier "
            "message"
        )
    if (count := sum(message["content"].count(PROMPT) for message in messages)) != 1:
        raise InputError(
            f'{where}: {PROMPT} stands {count} times in "chat"; put it once into a message, where the prompt goes'
        )
    return json.dumps([{key: message[key] for key in ("role", "content")} for message in messages], ensure_ascii=False)


class ChatTexts:
    """What a tokenizer's chat template writes around a prompt, up to where the assistant's reply goes on.

    Nothing is to stand in front of these texts: the template writes BOS itself, where there is to be one. A template
    that writes the date writes that of the day.

    Args:
        vocabulary: of the LM whose template it is.
        chat: messages, as :func:`chat_json` gives them.

    Raises:
        InputError: if the tokenizer has no template, or the template does not take these messages.
    """

    def __init__(self, vocabulary: Vocabulary, chat: str) -> None:
        self._tokenizer = vocabulary.tokenizer
        self._name = vocabulary.lm or self._tokenizer.name_or_path or "the LM"
        self._messages: list[dict[str, str]] = json.loads(chat)
        self._reply = self._messages.pop()["content"] if self._messages[-1]["role"] == "assistant" else ""
        if not getattr(self._tokenizer, "chat_template", None):
            raise InputError(
                f"the tokenizer of {self._name} has no chat template; choose an LM that was tuned for chats, or give "
                'texts as "context" in place of "chat"'
            )
        _ = self._sides

    @property
    def before(self) -> str:
        """The text before the prompt, from the very start."""
        return self._sides[0]

    @property
    def after(self) -> str:
        """The text between the prompt and the answer."""
        return self._sides[1]

    def whole(self, prompt: str) -> str:
        """The text with a prompt's text in its place, as the template writes it: it may trim or change a message."""
        return self._rendered(prompt)

    @cached_property
    def _sides(self) -> tuple[str, str]:
        sides = self._rendered(PROMPT).split(PROMPT)
        if len(sides) != 2:
            raise InputError(
                f"the chat template of {self._name} writes the message with the prompt {len(sides) - 1} times, not "
                f"once; put {PROMPT} into a message of another role"
            )
        return sides[0], sides[1]

    def _rendered(self, prompt: str) -> str:
        filled = [message | {"content": message["content"].replace(PROMPT, prompt)} for message in self._messages]
        try:
            text = self._tokenizer.apply_chat_template(filled, tokenize=False, add_generation_prompt=True)
        except Exception as error:  # a template raises what it likes
            raise InputError(
                f"the chat template of {self._name} does not take these messages ({first_line(error)}); the "
                f"roles are {', '.join(message['role'] for message in self._messages)}"
            ) from error
        return str(text) + self._reply
