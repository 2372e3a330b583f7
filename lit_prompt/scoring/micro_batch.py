"""Work on many rows in parts, halved when the memory runs out."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from lit_prompt.errors import InputError
from lit_prompt.progress import phase

_log = logging.getLogger(__name__)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the device's or the machine's memory is used up."""
    # CPUs and Macs raise errors of no class of their own
    said = ("can't allocate memory", "MPS backend out of memory")
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or any(words in str(error) for words in said)


class MicroBatch:
    """Runs a function over parts of some rows; halves the parts when the memory runs out and remembers the size."""

    def __init__(self) -> None:
        self.size: int | None = None  #: rows that go through the LM at once; None for all
        self.unshown = 0  #: rows that have gone through the LM outside of all blocks of :meth:`shown`
        self._tick: Callable[[int], object] = self._count

    def _count(self, rows: int) -> None:
        self.unshown += rows

    @contextmanager
    def shown(self, name: str) -> Iterator[None]:
        """Shows, while the block lasts, how many rows have gone through the LM in it."""
        with phase(name, "prompt") as self._tick:
            try:
                yield
            finally:
                self._tick = self._count

    def run(self, function: Callable[[Tensor], None], rows: Tensor, restart: Callable[[], None] = lambda: None) -> None:
        """Calls ``function`` with parts of the row numbers ``[row]``, in order.

        Before a second try it calls ``restart``, to drop what the first has left behind.

        Raises:
            InputError: if a single row does not fit.
        """
        while len(rows):
            try:
                for part in rows.split(self.size or len(rows)):
                    function(part)
                    self._tick(len(part))
                return
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                size = min(self.size or len(rows), len(rows))
            # outside the handler: the error's traceback holds the tensors that filled the memory
            if size <= 1:
                raise InputError(
                    "out of memory with a single prompt; try --lm_options.dtype bfloat16 or a shorter prompt"
                )
            self.size = size // 2
            restart()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            if torch.backends.mps.is_available():
                torch.mps.empty_cache()
            _log.warning("out of memory with %d prompts at once; going on with %d at once", size, self.size)
