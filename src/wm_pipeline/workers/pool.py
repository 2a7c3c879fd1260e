"""Worker processes that may die: the work of a dead one is done again by a new one.

The processes belong to loky. Each worker is an executor of its own, so that a death is
known to be that of one worker, at one task, and costs the others nothing.
"""

import contextlib
import logging
import os
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, Self

import psutil
import torch
from loky.process_executor import ProcessPoolExecutor

logger = logging.getLogger(__name__)

QUEUE = 3
"""Tasks a worker has at most; those behind the first keep it busy while we do not look."""

AHEAD = 4
"""Tasks a worker by which the pool may be ahead of the results taken, which bounds them."""

PARENT_EVERY = 0.2
"""Seconds between two looks of a worker at whether its parent is there."""


class WorkerPool:
    """Worker processes, each holding the same thing and doing tasks with it.

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
            _Worker(scratch / str(n), threads, prepare, arguments)
            for n in range(workers)
        ]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the workers and what they started."""
        for member in self._workers:
            member.end()
        self._scratch.cleanup()

    def map(
        self,
        work: Callable[..., Any],
        tasks: Sequence[tuple[Any, ...]],
        describe: Callable[[int], str],
    ) -> Iterator[Any]:
        """Do tasks in parallel.

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
        pending: dict[int, tuple[_Worker, Future[Any]]] = {}
        deaths: Counter[int] = Counter()
        given = position = 0
        while position < len(tasks):
            limit = min(len(tasks), position + AHEAD * len(self._workers))
            while given < limit and (member := self._idlest()) is not None:
                pending[given] = member, member.submit(work, tasks[given])
                given += 1
            owner, future = pending[position]
            if not future.done():
                unfinished = [f for _, f in pending.values() if not f.done()]
                wait(unfinished, return_when=FIRST_COMPLETED)
                continue
            try:
                result = future.result()
            except BrokenProcessPool as error:
                # A worker does its tasks in order: it was at this one.
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
                for index, (member, lost) in pending.items():
                    if member is owner and _died(lost):
                        pending[index] = owner, owner.submit(work, tasks[index])
                continue
            del pending[position]
            position += 1
            yield result

    def _idlest(self) -> "_Worker | None":
        """The living worker with the least to do, if it has room for a task."""
        living = [member for member in self._workers if not member.dead]
        if not living:
            return None
        idlest = min(living, key=_Worker.unfinished)
        return idlest if idlest.unfinished() < QUEUE else None


class _Worker:
    """One worker process, its folder and its tasks."""

    def __init__(
        self,
        folder: Path,
        threads: int,
        prepare: Callable[..., Any],
        arguments: tuple[Any, ...],
    ) -> None:
        self._folder = folder
        self._arguments = (str(folder), os.getpid(), threads, prepare, arguments)
        self.start()

    def start(self) -> None:
        """Start the process; it has no tasks."""
        self._folder.mkdir(exist_ok=True)
        self._executor = ProcessPoolExecutor(
            1, initializer=_start_worker, initargs=self._arguments
        )
        self._futures: list[Future[Any]] = []
        self.dead = False

    def submit(self, work: Callable[..., Any], task: tuple[Any, ...]) -> Future[Any]:
        """Give the worker a task; the future of a dead worker holds its death."""
        try:
            future = self._executor.submit(_do, work, *task)
        except BrokenProcessPool as error:
            self.dead = True
            future = Future()
            future.set_exception(error)
        self._futures = [f for f in self._futures if not f.done()] + [future]
        return future

    def unfinished(self) -> int:
        """How many tasks it has."""
        return sum(not future.done() for future in self._futures)

    def end(self) -> None:
        """End the process, and those that it started in its folder."""
        self._executor.shutdown(wait=True, kill_workers=True)
        _kill_processes_in(self._folder)


def identity(thing: Any) -> Any:
    """For ``WorkerPool``'s ``prepare``, where workers hold what they are sent."""
    return thing


def _died(future: Future[Any]) -> bool:
    return future.done() and isinstance(future.exception(), BrokenProcessPool)


def _kill_processes_in(folder: Path) -> None:
    """Kill every process whose working directory lies in ``folder``.

    A game is a process of its own; when its worker is killed it would wait for ever.
    """
    for process in psutil.process_iter():
        try:
            if Path(process.cwd()).is_relative_to(folder):
                process.kill()
        except (psutil.Error, OSError):
            continue


class _Held:
    """What this worker process holds, made at its first task.

    Made earlier, in the executor's initializer, a failure would lose its message.
    """

    def __init__(self, prepare: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        self._prepare, self._arguments = prepare, arguments
        self._ready = False

    def get(self) -> Any:
        if not self._ready:
            self._thing, self._ready = self._prepare(*self._arguments), True
        return self._thing


_held: _Held | None = None


def _start_worker(
    folder: str,
    parent: int,
    threads: int,
    prepare: Callable[..., Any],
    arguments: tuple[Any, ...],
) -> None:
    """Make a worker of this process: own folder and threads, Ctrl-C left to the parent."""
    global _held  # noqa: PLW0603  a worker process holds it for its lifetime
    os.setpgrp()  # a terminal sends Ctrl-C to its whole group, the games included
    watch = threading.Thread(target=_end_with, args=(parent,), daemon=True)
    watch.start()
    _keep_pipes_from_children()
    os.chdir(folder)
    torch.set_num_threads(threads)
    _held = _Held(prepare, arguments)


def _end_with(parent: int) -> None:
    """End this worker and its children when the process that started it is gone.

    A killed parent tells nobody; worker and game would wait for work for ever. Whoever
    started the parent may leave it unburied, so it is not asked whether it is there.
    """
    while os.getppid() == parent:
        time.sleep(PARENT_EVERY)
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
    os._exit(1)


def _keep_pipes_from_children() -> None:
    """Let no child inherit this worker's pipes.

    loky sees a worker's death by a pipe closing; a game that holds a copy of its end
    outlives a killed worker, and the run would wait for ever.
    """
    for name in os.listdir("/dev/fd"):
        with contextlib.suppress(OSError):
            if int(name) > sys.stderr.fileno():
                os.set_inheritable(int(name), False)


def _do(work: Callable[..., Any], *task: Any) -> Any:
    assert _held is not None, "the worker was not started"
    return work(_held.get(), *task)
