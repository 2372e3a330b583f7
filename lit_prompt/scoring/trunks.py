"""Contexts that differ in what follows a common beginning, the beginnings of answers, say."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lit_prompt.scoring.context import Context


@dataclass(frozen=True)
class Trunks:
    """What goes through the LM for some contexts: each trunk once, and after it the branches, a context each."""

    contexts: list[Context]  #: the trunks; those without branches first
    plain: int  #: how many have none
    of: Tensor  #: number of each context's trunk, ``[context]``
    branches: list[tuple[int, ...]]  #: tokens of each context after its trunk

    def by_kind(self) -> tuple[list[Context], list[Context]]:
        """The trunks without branches, and those with."""
        return self.contexts[: self.plain], self.contexts[self.plain :]

    @classmethod
    def of_contexts(cls, contexts: Sequence[Context], branching: bool) -> "Trunks":
        """Those of some contexts; each is its own trunk unless ``branching``."""
        split = [_split(context) if branching else (context, ()) for context in contexts]
        plain = list(dict.fromkeys(trunk for trunk, branch in split if not branch))
        branched = list(dict.fromkeys(trunk for trunk, branch in split if branch))
        numbers = [len(plain) + branched.index(trunk) if branch else plain.index(trunk) for trunk, branch in split]
        of = torch.tensor(numbers, dtype=torch.long)
        return cls([*plain, *branched], len(plain), of, [branch for _, branch in split])


def _split(context: Context) -> tuple[Context, tuple[int, ...]]:
    cut = len(context.after_ids) - context.answer
    if context.answer == 0:
        return context, ()
    return replace(context, after_ids=context.after_ids[:cut], answer=0), context.after_ids[cut:]
