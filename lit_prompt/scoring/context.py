"""The fixed texts around a prompt, a target's own or the module's."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from lit_prompt.errors import InputError
from lit_prompt.lm import FrozenLM, RoundTrip, Vocabulary


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
    before: list[str | None]
    after: list[str | None]


@dataclass(frozen=True)
class Context:
    """The texts around a prompt and their token ids.

    Attributes:
        before: text before the prompt.
        after: text between the prompt and the predicted token.
        before_ids: what stands in front of every text, and its tokens.
        after_ids: its tokens.
        own: whether it is a target's own, of other tokens than the module's.
    """

    before: str
    after: str
    before_ids: tuple[int, ...]
    after_ids: tuple[int, ...]
    own: bool

    @property
    def ids(self) -> tuple[int, ...]:
        """Tokens of both texts, what stands in front included."""
        return self.before_ids + self.after_ids

    @property
    def layout(self) -> dict[str, object]:
        """What an LM's states after prompts depend on: tokens, and whether they may be padded."""
        return {"before": self.before_ids, "after": self.after_ids, "own": self.own}


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
        self._round_trips: dict[Context, RoundTrip] = {}

    def _ids(self, before: str, after: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
        return tuple(self._vocabulary.encode_start(before)), tuple(self._vocabulary.encode_after(after))

    def of(self, before: str | None, after: str | None) -> Context:
        """The context of a target whose texts, where it has its own, are these."""
        default = self.default
        if before is None and after is None:
            return default
        before = default.before if before is None else before
        after = default.after if after is None else after
        ids = self._ids(before, after)
        return Context(before, after, *ids, own=ids != (default.before_ids, default.after_ids))

    def of_all(self, targets: _Targets) -> list[Context]:
        """The contexts of some targets, in their order."""
        return [self.of(before, after) for before, after in zip(targets.before, targets.after, strict=True)]

    def round_trip(self, context: Context) -> RoundTrip:
        """Asks whether prompts survive as text in a context; its answers are remembered."""
        if context not in self._round_trips:
            self._round_trips[context] = RoundTrip(self._vocabulary, context.before, context.after)
        return self._round_trips[context]

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
        fitting: set[tuple[str | None, str | None]] = set()
        for target_id, texts in zip(targets.target_id, zip(targets.before, targets.after, strict=True), strict=True):
            if texts in fitting:
                continue
            with _named(target_id):
                context = self.of(*texts)
            total = len(context.ids) + prompt_length
            if limit is not None and total > limit:
                own = texts != (None, None)
                of_target = f"{target_id}: in this target's own context " if own else ""
                remedy = "the target's texts before and after it" if own else "model.before / model.after"
                raise InputError(
                    f"{of_target}the prompt is longer than the LM's context: {len(context.before_ids)} tokens before, "
                    f"{prompt_length} of prompt and {len(context.after_ids)} after make {total}, {lm_name} takes "
                    f"{limit}; lower model.length or shorten {remedy}"
                )
            fitting.add(texts)
