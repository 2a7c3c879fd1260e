"""A pool of worker processes: a dead one is replaced, and its task is run again."""

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from typing import Any, Self

import cloudpickle

from wm_pipeline.workers.worker import Worker, WorkerDied, folder_of_games

logger = logging.getLogger(__name__)

AHEAD = 4
"""Tasks a worker by which the pool may be ahead of the results taken; it bounds memory."""


class WorkerPool:
    """Worker processes, each holding the same object and running tasks on it.

    A worker's working directory is a folder of its own; what it starts there ends with
    it. Ctrl-C reaches the parent only, and workers end when the parent does.

    Args:
        workers: How many processes, 1 or more; each starts with its first task.
        threads: torch's threads in each.
        attempts: How often a task is tried whose worker dies, 1 or more.
        prepare: Makes what a worker holds, in the worker, before its first task. Its
            ``close``, if it has one, is called when the worker ends.
        arguments: Of ``prepare``; copied to each worker once.
    """

    def __init__(
        self,
        workers: int,
        threads: int,
        attempts: int,
        prepare: Callable[..., Any],
        *arguments: Any,
    ) -> None:
        self._attempts = attempts
        setup = cloudpickle.dumps((threads, prepare, arguments))
        self._opened = ExitStack()
        folder = self._opened.enter_context(folder_of_games("wm_workers_"))
        self._workers = [Worker(folder / str(n), setup) for n in range(workers)]
        # A thread waits for each worker.
        self._threads = ThreadPoolExecutor(workers, initializer=self._take_worker)
        self._free, self._own = deque(self._workers), threading.local()

    @property
    def size(self) -> int:
        """How many workers."""
        return len(self._workers)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the workers and what they started."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for worker in self._workers:
            worker.dismiss()
        self._threads.shutdown()
        for worker in self._workers:
            worker.end()
        self._opened.close()

    def map(
        self,
        work: Callable[..., Any],
        tasks: Sequence[tuple[Any, ...]],
        describe: Callable[[int], str],
    ) -> Iterator[Any]:
        """Run tasks in parallel; see ``engine.Pool``."""
        given: deque[Future[Any]] = deque()
        try:
            for index, task in enumerate(tasks):
                given.append(
                    self._threads.submit(self._run, work, task, index, describe)
                )
                if len(given) == AHEAD * len(self._workers):
                    yield given.popleft().result()
            while given:
                yield given.popleft().result()
        finally:
            for future in given:
                future.cancel()

    def as_done(
        self,
        work: Callable[..., Any],
        tasks: Sequence[tuple[Any, ...]],
        describe: Callable[[int], str],
    ) -> Iterator[tuple[int, Any]]:
        """Run tasks in parallel; see ``engine.Pool``."""
        given = {
            self._threads.submit(self._run, work, task, index, describe): index
            for index, task in enumerate(tasks)
        }
        try:
            while given:
                done = wait(given, return_when=FIRST_COMPLETED).done
                for future in sorted(done, key=lambda each: bool(each.exception())):
                    yield given.pop(future), future.result()
        finally:
            for future in given:
                future.cancel()

    def _take_worker(self) -> None:
        """Give this thread its worker."""
        self._own.worker = self._free.popleft()

    def _run(
        self,
        work: Callable[..., Any],
        task: tuple[Any, ...],
        index: int,
        describe: Callable[[int], str],
    ) -> Any:
        """The result of a task, tried again when its worker dies."""
        attempt = 1
        while True:
            try:
                return self._own.worker.run(work, task)
            except WorkerDied as death:
                if attempt == self._attempts:
                    raise RuntimeError(
                        f"{describe(index)} failed {attempt} times: its worker process "
                        f"died; {death}"
                    ) from death
                logger.warning(
                    "A worker process died at %s; a new one does it again",
                    describe(index),
                )
                attempt += 1


def identity(thing: Any) -> Any:
    """For ``WorkerPool``'s ``prepare``, where workers hold what they are sent."""
    return thing
