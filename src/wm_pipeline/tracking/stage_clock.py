"""How long the stages of a run take, and how busy they keep the processor."""

import time

from wm_pipeline.common.machine import cores
from wm_pipeline.tracking.usage import ProcessorTime


class StageClock:
    """Adds up the seconds of each stage of a run; stages may take turns.

    Attributes:
        seconds: Wall-clock time by stage, in the order in which they began.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._busy: dict[str, float] = {}
        self._running: tuple[str, float, float] | None = None
        self._processor: ProcessorTime | None = None

    def start(self) -> None:
        """Begin a run; an earlier one of this process is forgotten."""
        self.stop()
        self.seconds, self._busy = {}, {}
        self._processor = ProcessorTime()

    def begin(self, stage: str) -> None:
        """A stage begins, or goes on; the one before ends."""
        self._end_stage()
        assert self._processor is not None, "the clock was not started"
        self._running = stage, time.monotonic(), self._processor.seconds()

    def stop(self) -> None:
        """The run is over."""
        self._end_stage()
        if self._processor is not None:
            self._processor.stop()
            self._processor = None

    @property
    def cpu(self) -> dict[str, float]:
        """The share of all cores that each stage kept busy, worker processes included."""
        return {
            stage: round(self._busy[stage] / max(seconds, 1e-9) / cores(), 3)
            for stage, seconds in self.seconds.items()
        }

    def _end_stage(self) -> None:
        if self._running is not None:
            assert self._processor is not None
            stage, started, busy = self._running
            seconds = time.monotonic() - started
            busy = self._processor.seconds() - busy
            self.seconds[stage] = round(self.seconds.get(stage, 0) + seconds, 2)
            self._busy[stage] = self._busy.get(stage, 0) + busy
        self._running = None
