"""Signals that end a run, and work that they must not break off."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""Ctrl-C, and what a cluster sends."""


@contextmanager
def signals_wait() -> Iterator[None]:
    """Let signals that raise an exception wait until the block is over.

    Raised amid a lock or a queue of threads, it would leave them as they are, and who waits
    for these threads would wait for ever.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # Python handles signals in the main thread
        return
    came: list[int] = []
    before: dict[signal.Signals, Any] = {}

    def come(number: int, _: FrameType | None) -> None:
        came.append(number)

    try:
        for each in SIGNALS:
            if callable(handler := signal.getsignal(each)):
                before[each] = handler
                signal.signal(each, come)
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
        for number in came:
            signal.raise_signal(number)
