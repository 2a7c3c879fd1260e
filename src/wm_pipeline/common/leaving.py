"""How a process ends at once, and what it has started with it."""

import contextlib
import os
from typing import NoReturn

import psutil


def leave(status: int) -> NoReturn:
    """Kill all that this process has started, and end it without cleaning up.

    Args:
        status: Its exit code.
    """
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
    os._exit(status)
