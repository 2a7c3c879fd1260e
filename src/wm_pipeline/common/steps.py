"""How many steps of the game and of the dream are taken: what learning is paid in.

They are counted where they are taken; a worker's come to its parent with its answers.
"""

import threading
from collections import Counter
from typing import Literal

Kind = Literal["game", "dream"]


class StepCounter:
    """Counts for all threads of this process."""

    def __init__(self) -> None:
        self._taken: Counter[Kind] = Counter()
        self._lock = threading.Lock()

    def add(self, kind: Kind, steps: int) -> None:
        """Count steps of the environment (``game``), or of M (``dream``)."""
        with self._lock:
            self._taken[kind] += steps

    def taken(self) -> Counter[Kind]:
        """All so far."""
        with self._lock:
            return Counter(self._taken)


STEPS = StepCounter()
"""Those of this process, and of the workers that have answered it."""
