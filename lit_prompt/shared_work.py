"""Work in numbered parts that several processes do side by side, with nothing between them but a folder."""

from collections import deque
from collections.abc import Callable, Container, Sequence

from lit_prompt.leases import Leases


class SharedWork:
    """Gives this process one part after another that is not finished and that no other process holds.

    A process that is killed loses what it does alone: others take it, once its lease has run out.

    Args:
        leases: of all processes.
        name: of a part, before its number.
        parts: in the order in which this process tries them.
        is_finished: tells of a part whether it is; what is finished stays so.
        finished: parts that are known to be, as asking for each of very many takes its time.
    """

    def __init__(
        self,
        leases: Leases,
        name: str,
        parts: Sequence[int],
        is_finished: Callable[[int], bool],
        finished: Container[int] = (),
    ) -> None:
        self._leases, self._name, self._is_finished = leases, name, is_finished
        self._to_do = deque(part for part in parts if part not in finished)
        self._present: int | None = None

    @property
    def left(self) -> int:
        """How many parts are not known to be finished, without the present one."""
        return len(self._to_do)

    def next(self) -> int | None:
        """Leaves the present part, and takes the next one; None where others hold all that is left."""
        self.leave()
        for _ in range(len(self._to_do)):
            part = self._to_do.popleft()
            if self._is_finished(part):
                continue
            if not self._leases.take(self._lease(part)):
                self._to_do.append(part)  # to be asked for again
            elif self._is_finished(part):  # by the process that has held it until now
                self._leases.give_back(self._lease(part))
            else:
                self._present = part
                return part
        return None

    def leave(self) -> None:
        """Lets go of the present part."""
        if self._present is not None:
            self._leases.give_back(self._lease(self._present))
        self._present = None

    def _lease(self, part: int) -> str:
        return f"{self._name}_{part}"
