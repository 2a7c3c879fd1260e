"""The trials of a study that another process runs."""

import contextlib
import sqlite3
from pathlib import Path


def states(storage: Path) -> list[str]:
    """Those of the trials, the first first, as far as they can be read by now."""
    try:
        with contextlib.closing(sqlite3.connect(storage)) as database:
            rows = database.execute("select state from trials order by trial_id")
            return [state for (state,) in rows]
    except sqlite3.OperationalError:  # it is being written
        return []
