"""Questions to servers, many at a time."""

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed

from lit_prompt.served.connection import Unanswered
from lit_prompt.served.listed import Listed
from lit_prompt.served.servers import Prompt, Server


class Desk:
    """Puts questions to servers of one LM, each to the one that has least to do.

    A server that is not reached any more leaves its questions to the others.

    Args:
        servers: that are asked.
        parallel: questions that each is asked at a time.
    """

    def __init__(self, servers: Sequence[Server], parallel: int) -> None:
        self._live = list(servers)
        self._busy: Counter[int] = Counter()
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(parallel * len(servers), "asking")
        self._batch = min(server.batch for server in servers)

    def ask(self, prompts: Sequence[Prompt]) -> Iterator[tuple[int, Listed]]:
        """Asks for what comes next after prompts; yields the place of each and the answer, as they come.

        Prompts that begin alike are asked for one after another, as servers keep the states of what they have read.

        Raises:
            InputError: if a server refuses, or none is reached; answers that were under way come before.
        """
        parts = self._parts(prompts)
        jobs = {self._pool.submit(self._put, [prompts[place] for place in part]): part for part in parts}
        failed: BaseException | None = None
        try:
            for job in as_completed(jobs):
                if job.cancelled():
                    continue
                if (error := job.exception()) is not None:
                    failed = failed or error
                    _cancel(jobs)
                    continue
                yield from zip(jobs[job], job.result(), strict=True)
        finally:
            _cancel(jobs)
        if failed is not None:
            raise failed

    def _parts(self, prompts: Sequence[Prompt]) -> list[list[int]]:
        """The places of prompts by request: those that begin alike beside one another, texts and token ids apart."""
        order = sorted(range(len(prompts)), key=lambda place: str(prompts[place]))
        kinds = [[place for place in order if isinstance(prompts[place], str) is text] for text in (True, False)]
        return [mine[at : at + self._batch] for mine in kinds for at in range(0, len(mine), self._batch)]

    def _put(self, prompts: Sequence[Prompt]) -> list[Listed]:
        while True:
            with self._lock:
                server = min(self._live, key=lambda one: self._busy[id(one)])
                self._busy[id(server)] += 1
            try:
                return server.after_each(prompts)
            except Unanswered:
                with self._lock:
                    others = [one for one in self._live if one is not server]
                    if not others:
                        raise
                    self._live = others
            finally:
                with self._lock:
                    self._busy[id(server)] -= 1

    def close(self) -> None:
        """Asks nothing more."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _cancel(jobs: "dict[Future[list[Listed]], list[int]]") -> None:
    for job in jobs:
        job.cancel()
