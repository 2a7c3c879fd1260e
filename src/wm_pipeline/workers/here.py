"""Games in this process, rather than in workers."""

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager

from wm_pipeline.workers.worker import folder_of_games


@contextmanager
def games_here() -> Iterator[None]:
    """Games of the block write into a temporary folder, and leave nothing behind.

    It is the working directory meanwhile, for the whole process. What a killed process
    has left is removed first, its games included.
    """
    with folder_of_games("wm_games_") as folder, contextlib.chdir(folder):
        yield
