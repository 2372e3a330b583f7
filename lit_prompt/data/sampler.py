"""The order in which a fit visits its targets: a chunk an epoch, the same batch at every step."""

from collections.abc import Iterator

from torch.utils.data import Sampler


class ChunkSampler(Sampler[list[int]]):
    """Yields one chunk of target positions ``steps`` times; Lightning's ``set_epoch`` chooses the chunk.

    Because every batch of an epoch is the same, the epoch's number and the count of finished steps are all that an
    exact resume needs.

    Args:
        num_targets: number of targets.
        chunk_size: targets that are searched at the same time.
        steps: repetitions of a chunk.
    """

    def __init__(self, num_targets: int, chunk_size: int, steps: int) -> None:
        self.num_targets = num_targets
        self.chunk_size = chunk_size
        self.steps = steps
        self.epoch = 0

    @property
    def num_chunks(self) -> int:
        """Number of chunks, and so of epochs."""
        return -(-self.num_targets // self.chunk_size)

    def set_epoch(self, epoch: int) -> None:
        """Goes to chunk ``epoch``."""
        self.epoch = epoch

    def chunk(self, epoch: int) -> list[int]:
        """Positions of the targets of a chunk."""
        return list(range(epoch * self.chunk_size, min((epoch + 1) * self.chunk_size, self.num_targets)))

    def __iter__(self) -> Iterator[list[int]]:
        # the epoch is read with each batch: a resumed fit sets it after it has asked for the iterator
        for _ in range(self.steps):
            yield self.chunk(self.epoch)

    def __len__(self) -> int:
        return self.steps
