"""A pool of worker processes: a dead one is replaced, and its tasks are run again.

The processes belong to loky. Each worker is an executor of its own, so that a death is
known to be that of one worker, at one task, and costs the others nothing.
"""

import logging
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, Self

from wm_pipeline.workers.worker import Worker

logger = logging.getLogger(__name__)

QUEUE = 3
"""Tasks a worker has at most; those behind the first keep it busy between our checks."""

AHEAD = 4
"""Tasks a worker by which the pool may be ahead of the results taken; it bounds memory."""


class WorkerPool:
    """Worker processes, each holding the same object and running tasks on it.

    A worker's working directory is a folder of its own; what it starts there ends with
    it. Ctrl-C reaches the parent only, and workers end when the parent does.

    Args:
        workers: How many processes, 1 or more.
        threads: torch's threads in each.
        attempts: How often a task is tried whose worker dies, 1 or more.
        prepare: Makes what a worker holds, in the worker, before its first task.
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
        self._scratch = tempfile.TemporaryDirectory(
            prefix="wm_workers_", ignore_cleanup_errors=True
        )
        # Processes know their folders by their real paths.
        scratch = Path(self._scratch.name).resolve()
        self._workers = [
            Worker(scratch / str(n), threads, prepare, arguments)
            for n in range(workers)
        ]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the workers and what they started."""
        for worker in self._workers:
            worker.end()
        self._scratch.cleanup()

    def map(
        self,
        work: Callable[..., Any],
        tasks: Sequence[tuple[Any, ...]],
        describe: Callable[[int], str],
    ) -> Iterator[Any]:
        """Run tasks in parallel.

        Args:
            work: Called in a worker with what it holds and a task's values.
            tasks: The values of each.
            describe: What a task, given by its index, is called in messages.

        Yields:
            The results, in the order of ``tasks``.

        Raises:
            RuntimeError: The worker at a task died at every attempt.
            Exception: Whatever ``work`` or ``prepare`` raised.
        """
        pending: dict[int, tuple[Worker, Future[Any]]] = {}
        deaths: Counter[int] = Counter()
        given = position = 0
        while position < len(tasks):
            limit = min(len(tasks), position + AHEAD * len(self._workers))
            while given < limit and (worker := self._idlest()) is not None:
                pending[given] = worker, worker.submit(work, tasks[given])
                given += 1
            owner, future = pending[position]
            if not future.done():
                unfinished = [f for _, f in pending.values() if not f.done()]
                wait(unfinished, return_when=FIRST_COMPLETED)
                continue
            try:
                result = future.result()
            except BrokenProcessPool as error:
                # A worker runs its tasks in order: it was at this one.
                deaths[position] += 1
                if deaths[position] == self._attempts:
                    raise RuntimeError(
                        f"{describe(position)} failed {self._attempts} times: its "
                        f"worker process died. {error}"
                    ) from error
                logger.warning(
                    "A worker process died at %s; a new one does it again",
                    describe(position),
                )
                owner.end()
                owner.start()
                for index, (worker, lost) in pending.items():
                    if worker is owner and _died(lost):
                        pending[index] = owner, owner.submit(work, tasks[index])
                continue
            del pending[position]
            position += 1
            yield result

    def _idlest(self) -> Worker | None:
        """The live worker with the fewest tasks, if it may have one more."""
        living = [worker for worker in self._workers if not worker.dead]
        if not living:
            return None
        idlest = min(living, key=Worker.unfinished)
        return idlest if idlest.unfinished() < QUEUE else None


def identity(thing: Any) -> Any:
    """For ``WorkerPool``'s ``prepare``, where workers hold what they are sent."""
    return thing


def _died(future: Future[Any]) -> bool:
    return future.done() and isinstance(future.exception(), BrokenProcessPool)
