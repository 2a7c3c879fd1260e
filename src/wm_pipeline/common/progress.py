"""How a long task is doing: a progress bar on the terminal, and scalars for curves."""

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol

import numpy as np
import rich
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

logger = logging.getLogger(__name__)

SECONDS_BETWEEN_LINES = 30.0


class Listener(Protocol):
    """Hears the scalars of long tasks, e.g. to draw curves while they run."""

    def __call__(
        self,
        name: str,
        step: int,
        scalars: Mapping[str, float],
        weights: Mapping[str, np.ndarray],
    ) -> None:
        """See ``record``."""


listeners: list[Listener] = []
"""Those who hear what is recorded, as handlers hear what is logged."""

_shown = ContextVar("shown", default=True)


def record(
    name: str,
    step: int,
    scalars: Mapping[str, float],
    weights: Mapping[str, np.ndarray] | None = None,
) -> None:
    """Tell the listeners how a task is doing.

    Args:
        name: Of what is trained, e.g. ``"V"``.
        step: How far it is.
        scalars: By name.
        weights: Arrays by name, whose distribution is of interest.
    """
    if not _shown.get():
        return
    for listener in listeners:
        listener(name, step, scalars, weights or {})


@contextmanager
def unseen() -> Iterator[None]:
    """Neither show nor record the tasks of the block, e.g. of a piece that is timed."""
    before = _shown.set(False)
    try:
        yield
    finally:
        _shown.reset(before)


class Task:
    """A running task, told of every piece of work done.

    On a terminal it draws a bar; elsewhere (a file, CI) it logs a line now and then.
    """

    def __init__(
        self, name: str, total: int, unit: str, done: int, bar: Progress | None
    ) -> None:
        self.name, self.total, self.unit = name, total, unit
        self.done = self._first = done
        self._bar = bar
        self._id = None
        if bar is not None:
            self._id = bar.add_task(name, total=total, completed=done, note="")
        self._start = self._last_line = time.monotonic()

    def advance(self, amount: int = 1, note: str = "") -> None:
        """Count ``amount`` more units of work; ``note`` is shown beside the bar."""
        self.done += amount
        now = time.monotonic()
        rate = (self.done - self._first) / max(now - self._start, 1e-9)
        if self._bar is not None and self._id is not None:
            text = f"{rate:,.{0 if rate >= 10 else 1}f}/s {note}"  # noqa: PLR2004
            self._bar.update(self._id, completed=self.done, note=text)
        elif _shown.get() and now - self._last_line >= SECONDS_BETWEEN_LINES:
            self._last_line = now
            left = (self.total - self.done) / rate
            logger.info(
                "%s: %d of %d %s, %.0f s left %s",
                self.name,
                self.done,
                self.total,
                self.unit,
                left,
                note,
            )


@contextmanager
def task(name: str, total: int, unit: str, done: int = 0) -> Iterator[Task]:
    """Show the progress of the block.

    Args:
        name: What is being done, a few words.
        total: How many units of work there are.
        unit: The unit's plural, e.g. ``"episodes"``.
        done: How many were done before, e.g. by a run that is resumed.

    Yields:
        The task; call its ``advance`` as work is done.
    """
    if not _shown.get():
        yield Task(name, total, unit, done, None)
        return
    start = time.monotonic()
    console = rich.get_console()
    if console.is_terminal:
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=16),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("left,"),
            TextColumn("{task.fields[note]}", markup=False),
        )
        with Progress(*columns, console=console, transient=True) as bar:
            running = Task(name, total, unit, done, bar)
            yield running
    else:
        logger.info("%s: %d %s to go", name, total - done, unit)
        running = Task(name, total, unit, done, None)
        yield running
    seconds = time.monotonic() - start
    logger.info("%s: %d %s in %.0f s", name, running.done - done, unit, seconds)
