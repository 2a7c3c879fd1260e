"""How long the stages of a run take, how busy they are, and the steps they take."""

import time
from collections import Counter

from wm_pipeline.common.machine import cores
from wm_pipeline.common.steps import STEPS, Kind
from wm_pipeline.tracking.usage import ProcessorTime


class StageClock:
    """Adds up the seconds of each stage of a run; stages may take turns.

    Attributes:
        steps: By stage those of the game (``game``) and of M (``dream``), its workers'
            included.
    """

    def __init__(self) -> None:
        self.steps: dict[str, Counter[Kind]] = {}
        self._seconds: dict[str, float] = {}
        self._busy: dict[str, float] = {}
        self._running: tuple[str, float, float, Counter[Kind]] | None = None
        self._processor: ProcessorTime | None = None

    def start(self) -> None:
        """Begin a run; an earlier one of this process is forgotten."""
        self.stop()
        self._seconds, self.steps, self._busy = {}, {}, {}
        self._processor = ProcessorTime()

    def begin(self, stage: str) -> None:
        """A stage begins, or goes on; the one before ends."""
        self._end_stage()
        assert self._processor is not None, "the clock was not started"
        busy, taken = self._processor.seconds(), STEPS.taken()
        self._running = stage, time.monotonic(), busy, taken

    def stop(self) -> None:
        """The run is over."""
        self._end_stage()
        if self._processor is not None:
            self._processor.stop()
            self._processor = None

    @property
    def seconds(self) -> dict[str, float]:
        """Wall-clock time by stage, in the order in which they began."""
        return {stage: round(seconds, 2) for stage, seconds in self._seconds.items()}

    @property
    def cpu(self) -> dict[str, float]:
        """The share of all cores that each stage kept busy, worker processes included."""
        return {
            stage: round(self._busy[stage] / max(seconds, 1e-9) / cores(), 3)
            for stage, seconds in self._seconds.items()
        }

    def _end_stage(self) -> None:
        if self._running is not None:
            assert self._processor is not None
            stage, started, busy, before = self._running
            seconds = time.monotonic() - started
            busy = self._processor.seconds() - busy
            self._seconds[stage] = self._seconds.get(stage, 0) + seconds
            self._busy[stage] = self._busy.get(stage, 0) + busy
            steps = self.steps.setdefault(stage, Counter())
            steps.update(STEPS.taken() - before)
        self._running = None
