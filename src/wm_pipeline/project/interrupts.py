"""Ctrl-C, and the SIGTERM that a cluster sends: a run ends, its children with it."""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from wm_pipeline.common.leaving import leave
from wm_pipeline.common.signals import SIGNALS

SAME_REQUEST = 2.0
"""Seconds in which a second signal is the first one's echo: to a group and to us."""


class Ended(KeyboardInterrupt):
    """Raised where the program is; what is kept on Ctrl-C is kept on both signals."""


@contextmanager
def ending_on_signals() -> Iterator[None]:
    """Let a signal end the block, and the program with a sentence.

    The first signal is raised as an exception, so that what is under way is kept. One
    that comes later, while that takes its time, ends the program at once; its children
    are killed first. One that comes behind the block ends it in silence.

    Raises:
        SystemExit: 130 on Ctrl-C, 143 on SIGTERM.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # Python leaves signals to the main thread
        return
    signals = _Signals()
    # A shell starts background jobs with Ctrl-C ignored; so it stays.
    taken = [each for each in SIGNALS if signal.getsignal(each) != signal.SIG_IGN]
    before = {each: signal.signal(each, signals.come) for each in taken}
    try:
        yield
    except (KeyboardInterrupt, Exception) as error:
        interrupt = isinstance(error, KeyboardInterrupt)
        if signals.first is None and not interrupt:
            raise
        name = signal.Signals(signals.first or signal.SIGINT).name
        what = "Ctrl-C" if name == "SIGINT" else name
        sys.stderr.write(
            f"Aborted! {what} came. Finished stages, files of episodes and the last state "
            "of a training or search are kept; docs/usage.md says how to resume.\n"
            # What is interrupted amid its work may fail at that; OmegaConf does.
            + ("" if interrupt else f"It ended with: {error}\n")
        )
        raise SystemExit(signals.code) from error
    finally:
        signals.over = True
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
        if hasattr(sys, "ps1"):  # a notebook or a prompt, which goes on
            for each, handler in before.items():
                signal.signal(each, handler)


class _Signals:
    """The signals that have come.

    Attributes:
        first: The number of the first one.
        over: Whether the block has ended: what is left is Python's own leaving.
    """

    def __init__(self) -> None:
        self.first: int | None = None
        self.over = False
        self._when = 0.0
        self._process = os.getpid()

    @property
    def code(self) -> int:
        """The program's exit code, as shells count: 128 and the signal."""
        return 128 + (self.first or signal.SIGINT)

    def come(self, number: int, _: FrameType | None) -> None:
        """Handle a signal."""
        if os.getpid() != self._process:  # a forked child
            os._exit(128 + number)
        if self.over:
            # An exception here would be a traceback of nobody's interest. A program that
            # was interrupted is on its way already.
            if self.first is None:
                os._exit(128 + number)
            return
        if self.first is None:
            self.first, self._when = number, time.monotonic()
            raise Ended
        if time.monotonic() - self._when < SAME_REQUEST:
            return
        leave(self.code)
