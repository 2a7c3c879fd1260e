"""One worker process: how it starts, what it holds, and how it ends with its games."""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import psutil
import torch
from loky.process_executor import ProcessPoolExecutor

PARENT_EVERY = 0.2
"""Seconds between a worker's checks that its parent is alive."""


class Worker:
    """One worker process, its folder and its tasks.

    Args:
        folder: Its working directory, made if it is not there.
        threads: torch's threads in it.
        prepare: Makes what the worker holds, before its first task.
        arguments: Of ``prepare``.

    Attributes:
        dead: Whether a task could not be given to it because its process has died.
    """

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
        """Give the worker a task; a dead worker's future holds ``BrokenProcessPool``."""
        try:
            with _interrupts_wait():  # the first task starts the process
                future = self._executor.submit(_run, work, *task)
        except BrokenProcessPool as error:
            self.dead = True
            future = Future()
            future.set_exception(error)
        self._futures = [f for f in self._futures if not f.done()] + [future]
        return future

    def unfinished(self) -> int:
        """How many of its tasks are not done."""
        return sum(not future.done() for future in self._futures)

    def end(self) -> None:
        """End the process, and those that it started in its folder."""
        self._executor.shutdown(wait=True, kill_workers=True)
        _kill_processes_in(self._folder)


@contextlib.contextmanager
def _interrupts_wait() -> Iterator[None]:
    """Ctrl-C waits until the block ends; a process started in it never gets one.

    Until it has a process group of its own, a worker would end in a traceback.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


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
    """End this worker and its children when the process that started it has ended.

    A killed parent tells nobody; worker and game would wait for work for ever. A killed
    parent that nobody has reaped still exists as a zombie, so what is checked is
    whether it is still this worker's parent.
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


def _run(work: Callable[..., Any], *task: Any) -> Any:
    assert _held is not None, "the worker was not started"
    return work(_held.get(), *task)
