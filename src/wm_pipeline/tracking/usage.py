"""How much processor time a run takes, its worker processes and games included."""

import threading

import psutil

SECONDS_BETWEEN_LOOKS = 0.25


class ProcessorTime:
    """Adds up the processor seconds of this process and of all that it starts.

    The operating system forgets a killed worker's games: their time is credited to
    nobody. So a thread looks at all descendants every quarter second, and what a process
    used after the last look is not counted: at most that quarter second of each.
    """

    def __init__(self) -> None:
        self._seconds: dict[psutil.Process, float] = {}
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def seconds(self) -> float:
        """User and system time of all cores so far, of ended processes too."""
        self._look()
        return sum(self._seconds.values())

    def stop(self) -> None:
        """Look no more."""
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(SECONDS_BETWEEN_LOOKS):
            self._look()

    def _look(self) -> None:
        with self._lock:
            this = psutil.Process()
            for process in (this, *this.children(recursive=True)):
                try:
                    times = process.cpu_times()
                except psutil.Error:
                    continue  # it has just ended
                self._seconds[process] = times.user + times.system
