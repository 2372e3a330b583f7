"""The targets of a task that were searched for, whichever batches they are in."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeVar

from lit_prompt.data import TargetBatch

if TYPE_CHECKING:
    from lit_prompt.models.base import PromptModule

# targets of a task whose distributions are held at once
_TOGETHER = 8

Read = TypeVar("Read")


def searched_parts(
    module: "PromptModule",
    task: int,
    items: list[int],
    batch: TargetBatch,
    own: Read,
    read: Callable[[TargetBatch], Read],
) -> Iterator[tuple[TargetBatch, list[int], Read]]:
    """What is read of all targets of a task that were searched for, in parts: their batch, places in it, and that.

    Args:
        module: has the targets.
        task: its number.
        items: places of its targets in a batch.
        batch: that batch; some targets of the task may be in others, and some here may be held out.
        own: what was read of it.
        read: reads another batch.
    """
    searched = module.data.targets.members(task)
    if searched == [batch.index[i] for i in items]:
        yield batch, items, own
        return
    for start in range(0, len(searched), _TOGETHER):
        part = module.data.targets.batch(searched[start : start + _TOGETHER])
        yield part, list(range(len(part))), read(part)
