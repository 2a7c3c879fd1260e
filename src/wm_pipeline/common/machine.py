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
    return _said("model name") or platform.processor() or platform.machine()


def vendor() -> str:
    """Who made the processor, as it says itself; empty where the system does not say it."""
    return _said("vendor_id")


def instructions() -> frozenset[str]:
    """The processor's sets of instructions; empty where the system does not list them."""
    return frozenset((_said("flags") or _said("Features")).split())


def _said(name: str) -> str:
    """What Linux says of the first core; empty elsewhere."""
    about = Path("/proc/cpuinfo")
    for line in about.read_text().splitlines() if about.is_file() else []:
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return ""
