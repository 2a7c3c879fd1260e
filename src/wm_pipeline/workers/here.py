"""Games in this process, rather than in workers."""

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager

from wm_pipeline.common.scratch import scratch_folder
from wm_pipeline.workers.leftovers import remove_segments
from wm_pipeline.workers.worker import kill_processes_in


@contextmanager
def games_here() -> Iterator[None]:
    """Games of the block write into a temporary folder, and leave nothing behind.

    It is the working directory meanwhile, for the whole process. What a killed process
    has left is removed first, its games included.
    """
    with contextlib.ExitStack() as opened:
        opened.callback(remove_segments)
        remove_segments()
        folder = scratch_folder("wm_games_", abandon=kill_processes_in)
        opened.enter_context(contextlib.chdir(opened.enter_context(folder)))
        yield
