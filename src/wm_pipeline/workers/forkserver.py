"""Starting workers: each is forked, in milliseconds, of a process that has imported torch."""

import atexit
import contextlib
import math
import os
import pickle
import socket
import subprocess
import sys
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path

import psutil

from wm_pipeline.workers.forking import HEADER

PATIENCE_SECONDS = 120
"""Seconds after which a server that does not answer is taken for stuck."""

TOLD_SECONDS = 10.0
"""Seconds in which the server tells how a process has ended."""

UNKNOWN = 1
"""The status of a process whose server could not tell it."""

PROGRAM = """\
import sys
descriptor, parent, *sys.path = sys.argv[1:]
from wm_pipeline.workers.forking import serve_forks
serve_forks(int(descriptor), int(parent))
"""


class ServerDied(Exception):
    """The process of which workers are forked ended, or had to be ended."""


class Forked:
    """A forked process, with what ``subprocess.Popen`` has of this.

    Args:
        pid: Its process id.
        status: From which its status comes when it has ended.
    """

    def __init__(self, pid: int, status: Connection) -> None:
        self.pid = pid
        self._status = status
        self._ended: int | None = None
        self._process: psutil.Process | None = None
        with contextlib.suppress(psutil.NoSuchProcess):
            self._process = psutil.Process(pid)

    def poll(self) -> int | None:
        """Its status, or None while it runs."""
        return self._wait(0)

    def wait(self, timeout: float | None = None) -> int:
        """Its status, once it has ended.

        Raises:
            subprocess.TimeoutExpired: It has not, in so many seconds.
        """
        status = self._wait(timeout)
        if status is None:
            assert timeout is not None
            raise subprocess.TimeoutExpired(str(self.pid), timeout)
        return status

    def kill(self) -> None:
        """End it, unless it has ended; another process of the same number stays."""
        if self._process is not None:
            with contextlib.suppress(psutil.NoSuchProcess):
                self._process.kill()

    def is_followed(self) -> bool:
        """Whether another process has its number by now."""
        if self._process is not None and self._process.is_running():
            return False  # a process that nobody has waited for keeps its number
        return psutil.pid_exists(self.pid)

    def _wait(self, timeout: float | None) -> int | None:
        until = math.inf if timeout is None else time.monotonic() + timeout
        while self._ended is None:
            left = until - time.monotonic()
            if self._status.poll(max(0.0, min(left, TOLD_SECONDS))):
                self._ended = self._told()
            elif left > TOLD_SECONDS and self._is_gone():
                self._ended = UNKNOWN  # its server is stuck, or stopped
            elif left <= TOLD_SECONDS:
                break
        return self._ended

    def _told(self) -> int:
        try:
            return int(self._status.recv_bytes())
        except EOFError:  # its server has died, and it does now
            self.kill()
            return UNKNOWN
        finally:
            self._status.close()

    def _is_gone(self) -> bool:
        if self._process is None:
            return True
        try:
            return self._process.status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True


class ForkServer:
    """The server of this process, started when it is first needed, and again if it dies."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None

    def fork(self, folder: Path, connection: int) -> Forked:
        """Start a worker.

        Args:
            folder: Its working directory.
            connection: The descriptor of its end of the connection to this process.

        Raises:
            ServerDied: It could not be.
        """
        paths = [os.path.abspath(path) for path in sys.path]
        message = pickle.dumps((str(folder), dict(os.environ), paths))
        with self._lock:
            asked = self._running(paths)
            status, told = os.pipe()
            answer = b""
            try:
                descriptors = [connection, told, 1, 2]
                header = len(message).to_bytes(HEADER, "big")
                socket.send_fds(asked, [header], descriptors)
                asked.sendall(message)
                answer = asked.recv(HEADER)
            except OSError:
                pass  # it is dead, or stuck
            finally:
                os.close(told)
                if len(answer) < HEADER:
                    # An answer that still came would be taken for that to the next fork.
                    os.close(status)
                    self._end()
            if len(answer) < HEADER:
                raise ServerDied("the process of which workers are forked died")
        return Forked(int.from_bytes(answer, "big"), Connection(status, writable=False))

    def close(self) -> None:
        """End the server, and all that it has forked."""
        with self._lock:
            self._end()

    def _running(self, paths: list[str]) -> socket.socket:
        if self._process is not None and self._process.poll() is not None:
            self._end()
        if self._socket is None:
            ours, theirs = socket.socketpair()
            ours.settimeout(PATIENCE_SECONDS)
            end = str(theirs.fileno())
            with theirs:
                self._process = subprocess.Popen(
                    [sys.executable, "-c", PROGRAM, end, str(os.getpid()), *paths],
                    stdin=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                    process_group=0,  # a terminal's Ctrl-C is for this process alone
                    cwd="/",
                )
            self._socket = ours
        return self._socket

    def _end(self) -> None:
        if self._socket is not None:
            self._socket.close()
        if self._process is not None:
            try:
                self._process.wait(1)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._process = self._socket = None

    def forget(self) -> None:
        """In a copy of this process: the server is the original's."""
        self._lock, self._process, self._socket = threading.Lock(), None, None


SERVER = ForkServer()
atexit.register(SERVER.close)
os.register_at_fork(after_in_child=SERVER.forget)
