"""What runs in a worker process: it takes tasks until its parent hangs up.

Nothing heavy is imported here: what a worker needs comes with what it unpickles.
"""

import contextlib
import os
import threading
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import cloudpickle

from wm_pipeline.common.errors import InputError
from wm_pipeline.common.leaving import leave
from wm_pipeline.common.steps import STEPS

PARENT_EVERY = 1.0
"""Seconds between a worker's checks that its parent is alive."""


def serve(descriptor: int, parent: int) -> None:
    """Do what the parent asks, and end with it.

    The first message holds torch's threads, or None for what needs no torch, ``prepare`` and its arguments, and is
    answered; ``prepare`` makes what the worker holds, before its first task. All others
    are tasks: a function, called with what is held and its values. Every answer is
    whether it went well, the value or the error, and the steps taken for it.

    Args:
        descriptor: Of the connection to the parent.
        parent: Its process id.
    """
    os.set_inheritable(descriptor, False)  # a game's copy would outlive this process
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    held = _Held()
    connection = Connection(descriptor)
    with contextlib.suppress(EOFError, OSError):  # the parent hangs up, or has died
        _answer(connection, held.learn)
        while True:
            _answer(connection, held.do)
    held.close()


class _Held:
    """What this process holds, made at its first task."""

    def __init__(self) -> None:
        self._prepare: Callable[[], Any] | None = None
        self._thing: Any = None

    def learn(
        self,
        threads: int | None,
        prepare: Callable[..., Any],
        arguments: tuple[Any, ...],
    ) -> None:
        """Take what the thing is made of."""
        if threads is not None:
            import torch  # noqa: PLC0415  seconds, in which the parent is watched already

            torch.set_num_threads(threads)
        self._prepare = lambda: prepare(*arguments)

    def do(self, work: Callable[..., Any], *task: Any) -> Any:
        """Run a task."""
        if self._prepare is not None:
            self._thing, self._prepare = self._prepare(), None
        return work(self._thing, *task)

    def close(self) -> None:
        """Close what can be closed."""
        if hasattr(self._thing, "close"):
            self._thing.close()


def _answer(connection: Connection, action: Callable[..., Any]) -> None:
    """Receive a message, act on its values and send what comes of it."""
    message, before = connection.recv_bytes(), STEPS.taken()
    try:
        value = action(*cloudpickle.loads(message))
        answer = cloudpickle.dumps((True, value, STEPS.taken() - before))
    except Exception as error:  # noqa: BLE001  the parent's to judge
        answer = _pickled(error)
    connection.send_bytes(answer)


def _pickled(error: Exception) -> bytes:
    """The error as an answer; as text, where it does not survive the journey."""
    report = "".join(traceback.format_exception(error))
    if not isinstance(error, InputError):  # that says itself what is to be mended
        error.add_note(f"In a worker process:\n{report}")
    try:
        answer = cloudpickle.dumps((False, error, {}))
        cloudpickle.loads(answer)
    except Exception:  # noqa: BLE001  somebody else's pickling
        return cloudpickle.dumps((False, RuntimeError(report), {}))
    return answer


def _end_with(parent: int) -> None:
    """End this process and its children when the one that started it has ended.

    A killed parent tells nobody while this process is busy, and a game would wait for
    ever. A killed parent that nobody has reaped still exists as a zombie, so what is
    checked is whether it is still this process's parent.
    """
    while os.getppid() == parent:
        time.sleep(PARENT_EVERY)
    leave(1)
