"""What runs in the process of which workers are forked, until its parent hangs up.

It has imported what takes a worker seconds, and runs nothing in threads: the copy of a
process lacks them, and the locks that they held stay locked for ever. (Those of OpenBLAS and
of jemalloc are told of a fork, and begin anew.)
"""

import contextlib
import importlib
import os
import pickle
import select
import signal
import socket
import sys
import traceback
from multiprocessing.connection import Connection
from typing import NoReturn

from wm_pipeline.common.leaving import leave
from wm_pipeline.workers.process import PARENT_EVERY, serve

IMPORTED = ("torch", "pandas")
"""Nothing of ours: where that is found, each worker is told."""

HEADER = 8
"""Bytes of a request that give the length of the rest."""

DESCRIPTORS = 4
"""Of a request: the worker's connection, its status, its output and its errors."""


def serve_forks(descriptor: int, parent: int) -> NoReturn:
    """Fork a worker for each request, and tell how each ends.

    A request is the worker's folder, environment and ``sys.path``; the answer is its
    process id. When a worker has ended, its status is written to its own pipe.

    Args:
        descriptor: Of the socket to the parent.
        parent: Its process id.
    """
    for name in IMPORTED:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    asked = socket.socket(fileno=descriptor)
    asked.set_inheritable(False)
    woken, wakes = socket.socketpair()
    wakes.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wakes.fileno(), warn_on_full_buffer=False)
    statuses: dict[int, Connection] = {}
    with contextlib.suppress(EOFError, OSError):  # the parent hangs up, or has died
        while os.getppid() == parent:
            ready, _, _ = select.select([asked, woken], [], [], PARENT_EVERY)
            if woken in ready:
                woken.recv(4096)
                _tell_of_the_ended(statuses)
            if asked in ready:
                _fork(asked, statuses, {asked, woken, wakes})
    leave(0)


def _fork(
    asked: socket.socket,
    statuses: dict[int, Connection],
    ours: set[socket.socket],
) -> None:
    """Take one request, and answer it."""
    header, descriptors, _, _ = socket.recv_fds(asked, HEADER, DESCRIPTORS)
    if len(header) < HEADER:
        raise EOFError
    message = b""
    while missing := int.from_bytes(header, "big") - len(message):
        if not (part := asked.recv(missing)):
            raise EOFError
        message += part
    connection, status, output, errors = descriptors
    server = os.getpid()
    if pid := os.fork():
        statuses[pid] = Connection(status, readable=False)
        for each in (connection, output, errors):
            os.close(each)
        asked.sendall(pid.to_bytes(HEADER, "big"))
        return
    ended = 1
    try:
        os.setpgid(0, 0)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.close(status)
        for end in ours:
            end.close()
        for other in statuses.values():
            other.close()
        os.dup2(output, 1)
        os.dup2(errors, 2)
        for each in (output, errors):
            os.close(each)
        folder, environment, paths = pickle.loads(message)
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        sys.path[:] = paths
        _reseed()
        serve(connection, server)
        ended = 0
    except SystemExit as ending:
        ended = ending.code if isinstance(ending.code, int) else 1
    except BaseException:  # noqa: BLE001  nothing of the server's may run in its copy
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(ended)


def _reseed() -> None:
    """Let the global generators begin by chance: all copies of this process have the same.

    Python's own does so by itself.
    """
    if "numpy.random" in sys.modules:
        sys.modules["numpy.random"].seed()
    if "torch" in sys.modules:
        sys.modules["torch"].seed()


def _tell_of_the_ended(statuses: dict[int, Connection]) -> None:
    """Write the status of each worker that has ended."""
    for pid in list(statuses):
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            code = os.waitstatus_to_exitcode(status)
            with contextlib.suppress(OSError), statuses.pop(pid) as told:
                told.send_bytes(str(code).encode())
