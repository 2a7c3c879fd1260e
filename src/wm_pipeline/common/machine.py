"""What there is to compute with, as far as the operating system says."""

import os
import platform
from pathlib import Path


def cores() -> int:
    """The processor cores that this process may use, 1 or more."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS has no affinity
        return os.cpu_count() or 1


def processor() -> str:
    """The processor's name, or else its architecture."""
    about = Path("/proc/cpuinfo")  # Linux; platform.processor() is empty there
    lines = about.read_text().splitlines() if about.is_file() else []
    names = [line.split(":", 1)[1] for line in lines if line.startswith("model name")]
    return (names or [platform.processor()])[0].strip() or platform.machine()
