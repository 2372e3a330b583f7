"""The chunks of a run: which are finished, what was found, and which one this process searches."""

import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from lit_prompt.data.run_folder import run_folder
from lit_prompt.data.shard import Shard
from lit_prompt.interruption import stop_if_asked
from lit_prompt.leases import Leases
from lit_prompt.models.belonging import belonging, refuse_foreign, refused_setting
from lit_prompt.models.score_curve import ScoreCurve
from lit_prompt.progress import phase
from lit_prompt.records.chunks import ChunkFiles, read_found, read_state
from lit_prompt.search import SearchResults
from lit_prompt.shared_work import SharedWork
from lit_prompt.under_way import temporary_folder

if TYPE_CHECKING:
    from lit_prompt.models.base import PromptModule


_RECOUNT = 10.0  # seconds: a folder of very many chunks is not listed at every step
_LOOK = 0.5  # seconds until a process that waits for others looks again


class RunChunks:
    """The chunks of a module's run, in the folder that all its processes share.

    A chunk is finished when it has its file. A process that comes later, be it a resume or one of many, does what is
    missing; a chunk that two have searched all the same is the same from both.

    Args:
        module: the module, whose LM and data are at hand.

    Attributes:
        chunk: the number of the one under search; None before the first and after the last.
        made: steps that its search has made.
        curve: its scores so far.
        wanted: how many chunks are to be searched.
        former_steps: that the run's searches had made when they ended, before they were given more; else 0.
    """

    def __init__(self, module: "PromptModule") -> None:
        self._module = module
        run = run_folder(module.trainer) or temporary_folder(self)
        self._files, self._leases = ChunkFiles(run / "chunks"), Leases(run / "leases")
        self._about = belonging(module)
        self._known: dict[int, str] = {}  # names of files, as paths of very many take their time
        self._begun: Path | None = None  # where the search of the present chunk stood
        self._former: Path | None = None  # what the present chunk had ended with before it was given more steps
        self._counted = -math.inf, 0  # when, and how many were finished
        self._finished = 0  # chunks, when this process began and by it
        self.chunk: int | None = None
        self.made = 0
        self.curve = ScoreCurve(0, 1)
        self.former_steps = 0
        self.wanted = 0

    # ---- which one is searched here ----

    def begin(self, chunks: int, shard: Shard) -> None:
        """Finds out what is left to do of the first chunks, and in which order this process does it.

        Raises:
            InputError: if what was found belongs to another search, or to one of more steps.
        """
        self.wanted = chunks
        self._known = self._files.newest(self._module.steps)
        for path in [self._files.folder / name for name in list(self._known.values())[:1]]:
            then = self._found(path)["about"]["settings"]["steps"]
            if then > self._module.steps:
                raise refused_setting(str(path), "steps", then, self._module.steps)
            self.former_steps = then if then < self._module.steps else 0
        if self._module.trainer.world_size > 1 and self._module.trainer.is_global_zero:
            self._leases.take("first")
        finished = self._files.finished(self._module.steps)
        self._finished = len(finished)
        self._work = SharedWork(self._leases, "chunk", shard.in_order(range(chunks)), self.is_finished, finished)

    @property
    def left(self) -> int:
        """How many chunks are not known to be finished, without the one under search."""
        return self._work.left

    def next(self, waits: bool = False) -> bool:
        """Goes on to a chunk that is not finished and that no other process holds; whether there is one.

        A process that ``waits`` does so while others hold what is left: it may become free, as they are killed.

        Raises:
            InputError: if what was found for it belongs to another search, or its file is damaged.
        """
        self.chunk, self.made, self._former = self._work.next(), 0, None
        if self.chunk is None and waits and self.left:
            with phase("other processes search", "finished chunk", self.wanted) as tick:
                tick(shown := self.finished)
                while self.chunk is None and self.left:
                    stop_if_asked()
                    time.sleep(_LOOK)
                    self.chunk = self._work.next()
                    tick(self.finished - shown)
                    shown = self.finished
        if self.chunk is None:
            return False
        self.curve = ScoreCurve(len(self._module.data.chunks[self.chunk]), self._module.steps)
        self._find_begun(self.chunk)
        return True

    def _find_begun(self, chunk: int) -> None:
        """Finds out how far the search of a chunk has come before."""
        path = self._files.begun(chunk)
        if path is None and (name := self._known.get(chunk)) is not None:
            self._former = path = self._files.folder / name
        self._begun = path if path is not None and path.exists() else None
        if self._begun is not None:
            found = self._found(self._begun)
            if found["former"] is not None:
                self._former = self._files.folder / found["former"]
            self.made = found["made"]
            self.curve.load_state_dict(found["curve"])

    @property
    def finished(self) -> int:
        """How many of the wanted chunks are known to be finished."""
        return self.wanted - self.left - (self.chunk is not None)

    def is_finished(self, chunk: int) -> bool:
        """Whether the search of a chunk has ended."""
        return self._files.is_finished(chunk, self._module.steps)

    def count_finished(self) -> int:
        """How many chunks all processes have finished, as of the last ten seconds."""
        if time.monotonic() - self._counted[0] > _RECOUNT:
            self._counted = time.monotonic(), len(self._files.finished(self._module.steps))
        return self._counted[1]

    @property
    def step(self) -> int:
        """The steps made, as a diagram shows them: those of a chunk follow on all that the ones before could make."""
        return self._finished * self._module.steps + self.made

    def ends_here(self) -> bool:
        """Whether all chunks are finished, and this process is the one that does what is left to do.

        Of a launcher's processes that is the first, which shows what was found, unless it was killed.
        """
        trainer = self._module.trainer
        another = trainer.world_size > 1 and not trainer.is_global_zero and self._leases.is_held("first")
        return not self._work.left and not another and self._leases.take("end")

    def close(self) -> None:
        """Lets go of all that this process holds."""
        self.chunk = None
        self._files.close()
        self._leases.close()

    # ---- what was found ----

    def take_up(self) -> dict[str, Any] | None:
        """Where the search of the present chunk stands; None where it begins.

        Raises:
            InputError: if its file is damaged.
        """
        return None if self._begun is None else read_state(self._begun)

    def agreed(self, name: str, value: int | None) -> int | None:
        """What holds for the whole run: the first value that one of its processes has given; None before."""
        return self._files.agreed(name, value)

    def keep(self) -> None:
        """Keeps the present chunk, whose search is under way."""
        assert self.chunk is not None
        self._files.keep(self.chunk, self._present(), self._module.chunk_state())

    def finish(self) -> None:
        """Ends the searches of the present chunk, and keeps it."""
        current = self._module.under_search()
        assert current is not None
        assert self.chunk is not None
        state = self._module.chunk_state()  # more steps begin with searches that go on
        current[1].finish()
        former, self._former = self._former, None
        self._files.finish(self.chunk, self._module.steps, self._present(), state)
        self._finished, self.made = self._finished + 1, 0
        if former is not None:
            former.unlink(missing_ok=True)

    def _present(self) -> dict[str, Any]:
        current = self._module.under_search()
        assert current is not None
        index, best = current
        results = self._module.no_results(len(index))
        results.put(range(len(index)), best)
        return {
            "about": self._about,
            "tasks": index,
            "made": self.made,
            "former": None if self._former is None else self._former.name,
            "curve": self.curve.state_dict(),
            "results": results.state_dict(),
        }

    def _found(self, path: Path) -> dict[str, Any]:
        found = read_found(path)
        refuse_foreign(found["about"], self._module, str(path))
        return found

    def everything(self) -> tuple[SearchResults, dict[int, Tensor]]:
        """What was found for all tasks, and the curves of those that were searched, by their numbers.

        Raises:
            InputError: if something belongs to another search, or a file is damaged.
        """
        results = self._module.no_results(len(self._module.data.targets.task_ids))
        curves: dict[int, Tensor] = {}
        for name in self._files.newest(self._module.steps).values():
            found = self._found(self._files.folder / name)
            results.place(found["tasks"], found["results"])
            curve = ScoreCurve(len(found["tasks"]), self._module.steps)
            curve.load_state_dict(found["curve"])
            curves |= dict(zip(found["tasks"], curve.points, strict=True))
        return results, curves
