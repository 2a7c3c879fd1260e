"""One progress bar for a long task: rate, latest figures and the time left."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

import rich
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

logger = logging.getLogger(__name__)

SECONDS_BETWEEN_LINES = 30.0


class Task:
    """A running task, told of every piece of work done.

    On a terminal it draws a bar; elsewhere (a file, CI) it logs a line now and then.
    """

    def __init__(self, name: str, total: int, unit: str, bar: Progress | None) -> None:
        self.name, self.total, self.unit = name, total, unit
        self.done = 0
        self._bar = bar
        self._id = None if bar is None else bar.add_task(name, total=total, figures="")
        self._start = self._last_line = time.monotonic()

    def advance(self, amount: int = 1, figures: str = "") -> None:
        """Count ``amount`` more units of work; ``figures`` is shown beside the bar."""
        self.done += amount
        now = time.monotonic()
        rate = self.done / max(now - self._start, 1e-9)
        if self._bar is not None and self._id is not None:
            text = f"{rate:,.{0 if rate >= 10 else 1}f}/s {figures}"  # noqa: PLR2004
            self._bar.update(self._id, completed=self.done, figures=text)
        elif now - self._last_line >= SECONDS_BETWEEN_LINES:
            self._last_line = now
            left = (self.total - self.done) / rate
            logger.info(
                "%s: %d of %d %s, %.0f s left %s",
                self.name,
                self.done,
                self.total,
                self.unit,
                left,
                figures,
            )


@contextmanager
def task(name: str, total: int, unit: str) -> Iterator[Task]:
    """Show the progress of the block.

    Args:
        name: What is being done, a few words.
        total: How many units of work there are.
        unit: The unit's plural, e.g. ``"episodes"``.

    Yields:
        The task; call its ``advance`` as work is done.
    """
    start = time.monotonic()
    console = rich.get_console()
    if console.is_terminal:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=16),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[figures]}"),
        )
        with Progress(*columns, console=console, transient=True) as bar:
            running = Task(name, total, unit, bar)
            yield running
    else:
        logger.info("%s: %d %s to go", name, total, unit)
        running = Task(name, total, unit, None)
        yield running
    seconds = time.monotonic() - start
    logger.info("%s: %d %s in %.0f s", name, running.done, unit, seconds)
