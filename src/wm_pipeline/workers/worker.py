"""One worker process as its parent sees it: it is started, given tasks and ended."""

import os
import signal
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import cloudpickle
import psutil

from wm_pipeline.common.scratch import scratch_folder
from wm_pipeline.common.steps import STEPS
from wm_pipeline.workers.forkserver import SERVER, Forked, ServerDied
from wm_pipeline.workers.leftovers import remove_segments

STARTS = 3
"""How often a worker is started that dies before it is ready."""

STILL_SECONDS = 120
"""Seconds after which a worker that has done nothing is taken for stuck."""

LEAST_USE = 0.005
"""The share of a core by which a worker at work is told from one that is stuck."""

GRACE_SECONDS = 10
"""Seconds in which an idle worker may close its games."""


class WorkerDied(Exception):
    """A worker process ended, or had to be ended, before it answered."""


class Worker:
    """One worker process, started when it gets a task and has none.

    Only the worker has the other end of the connection, so its death is the
    connection's end, whatever it was at. One thread at a time may use a worker.

    Args:
        folder: Its working directory, made if it is not there.
        setup: Its first message; see ``process.serve``.
        deadline: Seconds in which it answers, and else is taken for stuck; None judges by
            what it does meanwhile.
    """

    def __init__(
        self, folder: Path, setup: bytes, deadline: float | None = None
    ) -> None:
        self._folder, self._setup, self._deadline = folder, setup, deadline
        self._process: Forked | None = None
        self._connection: Connection | None = None
        self._busy, self._changing = threading.Lock(), threading.Lock()
        self._ended = False

    def run(self, work: Callable[..., Any], task: tuple[Any, ...]) -> Any:
        """Run a task, in a new process if the last one has died.

        Args:
            work: Called with what the worker holds and the task's values.
            task: The values.

        Raises:
            WorkerDied: It died at the task.
            RuntimeError: No worker could be started.
            CancelledError: ``end`` was called.
            Exception: Whatever the work raised.
        """
        return decoded(self.ask(encoded(work, task)))

    def ask(self, message: bytes) -> bytes:
        """Run an encoded task; see ``run``.

        Args:
            message: Of ``encoded``.

        Returns:
            What ``decoded`` reads.
        """
        with self._busy:
            if self._process is None or self._process.poll() is not None:
                self._start()
            return self._exchange(message)

    def dismiss(self) -> None:
        """Let an idle worker end by itself, and kill a busy one."""
        with self._changing:
            self._ended = True
        if self._busy.acquire(blocking=False):
            if self._connection is not None:
                self._connection.close()
            self._busy.release()
        elif self._process is not None:
            self._process.kill()

    def end(self) -> None:
        """Wait for the end of a dismissed worker that nobody uses."""
        if self._process is not None:
            self._reap(GRACE_SECONDS)

    def _start(self) -> None:
        """Start the process; one that dies before it is ready is started anew."""
        for attempt in range(1, STARTS + 1):
            try:
                self._launch()
                decoded(self._exchange(self._setup))
            except (WorkerDied, ServerDied) as death:
                if attempt == STARTS:
                    raise RuntimeError(
                        f"no worker process could be started, {STARTS} times: {death}"
                    ) from death
            else:
                return

    def _launch(self) -> None:
        """Start the process, in a group of its own: a terminal's Ctrl-C is for this one."""
        if self._process is not None:
            self._reap(0)
        self._folder.mkdir(exist_ok=True)
        ours, theirs = socket.socketpair()
        # A message to a process that reads no more, or half of one from it.
        patience = struct.pack("ll", STILL_SECONDS, 0)
        for option in (socket.SO_SNDTIMEO, socket.SO_RCVTIMEO):
            ours.setsockopt(socket.SOL_SOCKET, option, patience)
        with ours, theirs, self._changing:
            if self._ended:
                raise CancelledError
            self._process = SERVER.fork(self._folder, theirs.fileno())
            self._connection = Connection(ours.detach())

    def _exchange(self, message: bytes) -> bytes:
        """The answer to a message, which may have gone to a dead process."""
        assert self._process is not None
        assert self._connection is not None
        reason = None
        try:
            self._connection.send_bytes(message)
            if self._answers():
                answer = self._connection.recv_bytes()
            elif self._deadline is not None:
                reason = f"it gave no answer for {self._deadline:.0f} seconds"
            else:
                reason = f"it did nothing for {STILL_SECONDS} seconds, and was killed"
        except BlockingIOError:
            reason = f"it was silent for {STILL_SECONDS} seconds, and was killed"
        except (EOFError, OSError):
            reason = _end_of(self._reap(1))
        if reason is not None:
            self._reap(0)
            if self._ended:
                raise CancelledError
            raise WorkerDied(reason)
        return answer

    def _answers(self) -> bool:
        """Wait for an answer, or the worker's end; False if it stands still instead."""
        assert self._process is not None
        assert self._connection is not None
        if self._deadline is not None:
            return self._connection.poll(self._deadline)
        used = 0.0
        while not self._connection.poll(STILL_SECONDS):
            before, used = used, _processor_seconds(self._process.pid)
            # Less than before: a child has ended, and that is something.
            if 0 <= used - before < LEAST_USE * STILL_SECONDS:
                return self._connection.poll()  # it may have come meanwhile
        return True

    def _reap(self, grace: float) -> int:
        """The status of the process once it has ended; it is killed after the grace.

        What it has started ends with it: a game is a process of its own, and would wait
        for ever.
        """
        assert self._process is not None
        assert self._connection is not None
        try:
            self._process.wait(grace)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._connection.close()
        kill_processes_in(self._folder)
        status = self._process.wait()
        # What works in another folder is in the group, whose number nobody else has while
        # one of it lives, or the process itself is there: dying, or not waited for yet.
        if not self._process.is_followed():
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
        return status


def encoded(work: Callable[..., Any], task: tuple[Any, ...]) -> bytes:
    """A task as the message that ``process.serve`` reads."""
    return cloudpickle.dumps((work, *task))


def decoded(answer: bytes) -> Any:
    """The value of an answer of ``process.serve``, or its error, raised.

    The worker's steps are counted here.
    """
    went_well, value, steps = cloudpickle.loads(answer)
    for kind, taken in steps.items():
        STEPS.add(kind, taken)
    if went_well:
        return value
    raise value


def kill_processes_in(folder: Path) -> None:
    """Kill every process whose working directory lies in ``folder``."""
    for process in psutil.process_iter():
        try:
            if Path(process.cwd()).is_relative_to(folder):
                process.kill()
        except (psutil.Error, OSError):
            continue


@contextmanager
def folder_of_games(prefix: str) -> Iterator[Path]:
    """A scratch folder in which games run; nothing of theirs is left, nor of killed ones."""
    remove_segments()
    try:
        with scratch_folder(prefix, abandon=kill_processes_in) as folder:
            yield folder
    finally:
        remove_segments()


def _processor_seconds(pid: int) -> float:
    """What a process and its children have used so far."""
    total = 0.0
    try:
        process = psutil.Process(pid)
        for each in (process, *process.children(recursive=True)):
            times = each.cpu_times()
            total += times.user + times.system
    except psutil.NoSuchProcess:
        return total
    return total


def _end_of(status: int) -> str:
    """How a process ended, from its status."""
    if status >= 0:
        return f"it ended with status {status}"
    killed_by = signal.Signals(-status)
    if killed_by == signal.SIGKILL:
        return "it was ended by SIGKILL, as the system does where memory runs out"
    return f"it was ended by {killed_by.name}"
