"""The fixed texts around a prompt, a target's own or the module's."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Protocol, runtime_checkable

from lit_prompt.data.target import Texts
from lit_prompt.errors import InputError
from lit_prompt.lm import FrozenLM, RoundTrip, Vocabulary
from lit_prompt.lm.chat import ChatTexts
from lit_prompt.lm.round_trip import Surroundings


@contextmanager
def _named(where: str) -> Iterator[None]:
    try:
        yield
    except InputError as error:
        raise InputError(f"{where}: {error}") from error


@runtime_checkable
class _Targets(Protocol):
    """What has targets with texts around their prompts: a set of targets, or a batch."""

    target_id: list[str]
    texts: list[Texts]


@dataclass(frozen=True)
class Context:
    """The texts around a prompt and their token ids.

    Attributes:
        before: text before the prompt.
        after: text between the prompt and the predicted token.
        before_ids: what stands in front of every text, and its tokens.
        after_ids: its tokens.
        own: whether it is a target's own, of other tokens than the module's.
        chat: where the texts are a chat's, its messages as JSON.
        answer: how many of the tokens after the prompt are the beginning of an answer.
    """

    before: str
    after: str
    before_ids: tuple[int, ...]
    after_ids: tuple[int, ...]
    own: bool
    chat: str | None = None
    answer: int = 0

    @property
    def ids(self) -> tuple[int, ...]:
        """Tokens of both texts, what stands in front included."""
        return self.before_ids + self.after_ids

    @property
    def layout(self) -> dict[str, object]:
        """What an LM's states after prompts depend on: tokens, and whether they may be padded."""
        return {"before": self.before_ids, "after": self.after_ids, "own": self.own}


#: No text at all, which an LM does not take.
NOTHING = Context("", "", (), (), own=False)


class Contexts:
    """The contexts of targets: their own texts, and the module's where they have none.

    Args:
        before: the module's text before the prompt.
        after: the module's text after it.
        lm: the LM.
        vocabulary: its vocabulary.
    """

    def __init__(self, before: str, after: str, lm: FrozenLM, vocabulary: Vocabulary) -> None:
        self._lm = lm
        self._vocabulary = vocabulary
        with _named("model.before or model.after"):
            self.default = Context(before, after, *self._ids(before, after), own=False)
        self._known: dict[Texts, Context] = {}
        self._chats: dict[str, ChatTexts] = {}
        self._round_trips: dict[tuple[Context, ...], RoundTrip] = {}

    def _ids(self, before: str, after: str, front: bool = True) -> tuple[tuple[int, ...], tuple[int, ...]]:
        return tuple(self._vocabulary.encode_start(before, front)), tuple(self._vocabulary.encode_after(after))

    def of(self, texts: Texts) -> Context:
        """The context of a target whose texts, where it has its own, are these."""
        if texts not in self._known:
            self._known[texts] = self._of(texts)
        return self._known[texts]

    def _of(self, texts: Texts) -> Context:
        default = self.default
        if texts.chat is not None:
            chat = self._chat(texts.chat)
            ids = self._ids(chat.before, chat.after, front=False)
            return Context(chat.before, chat.after, *ids, own=True, chat=texts.chat)
        if texts.before is None and texts.after is None:
            return default
        before = default.before if texts.before is None else texts.before
        after = default.after if texts.after is None else texts.after
        ids = self._ids(before, after)
        return Context(before, after, *ids, own=ids != (default.before_ids, default.after_ids))

    def _chat(self, messages: str) -> ChatTexts:
        if messages not in self._chats:
            self._chats[messages] = ChatTexts(self._vocabulary, messages)
        return self._chats[messages]

    def of_all(self, targets: _Targets) -> list[Context]:
        """The contexts of some targets, in their order."""
        return [self.of(texts) for texts in targets.texts]

    def whole(self, context: Context, prompt: str) -> str:
        """The text that a prompt's text stands in."""
        if context.chat is not None:
            return self._chat(context.chat).whole(prompt)
        return f"{context.before}{prompt}{context.after}"

    def round_trip(self, contexts: Sequence[Context]) -> RoundTrip:
        """Asks whether prompts survive as text in all of some contexts; its answers are remembered."""
        key = tuple(dict.fromkeys(contexts))
        if key not in self._round_trips:
            self._round_trips[key] = RoundTrip(self._vocabulary, [self._surroundings(context) for context in key])
        return self._round_trips[key]

    def _surroundings(self, context: Context) -> Surroundings:
        whole = partial(self.whole, context)
        return Surroundings(context.before, context.before_ids, context.after_ids, context.chat is None, whole)

    def pasted(self, context: Context, prompt: str) -> Context:
        """A prompt's text in a context, encoded with all that stands around it: a context that needs no prompt."""
        (ids,) = self._vocabulary.encode_starts([self.whole(context, prompt)], context.chat is None)
        return Context("", "", tuple(ids), (), own=False)

    def check_lengths(self, targets: _Targets, prompt_length: int, lm_name: str) -> None:
        """Refuses contexts that the LM does not know, and prompts that are longer, with them, than it takes.

        Args:
            targets: all targets.
            prompt_length: positions of a prompt.
            lm_name: named in the error.

        Raises:
            InputError: names the first target whose own context is too long or unknown.
        """
        limit = self._lm.max_length
        fitting: set[Texts] = set()
        for target_id, texts in zip(targets.target_id, targets.texts, strict=True):
            if texts in fitting:
                continue
            with _named(target_id):
                context = self.of(texts)
            total = len(context.ids) + prompt_length
            if limit is not None and total > limit:
                own = texts != Texts(None, None, None)
                of_target = f"{target_id}: in this target's own context " if own else ""
                remedy = "the target's texts before and after it" if own else "model.before / model.after"
                raise InputError(
                    f"{of_target}the prompt is longer than the LM's context: {len(context.before_ids)} tokens before, "
                    f"{prompt_length} of prompt and {len(context.after_ids)} after make {total}, {lm_name} takes "
                    f"{limit}; lower model.length or shorten {remedy}"
                )
            fitting.add(texts)
