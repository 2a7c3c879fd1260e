"""Rates of pieces of work, measured in turn, and the machine they are of."""

import platform
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from wm_pipeline.common import progress
from wm_pipeline.common.machine import cores, processor


@dataclass(frozen=True)
class Subject:
    """Something to measure.

    Attributes:
        row: What it is, as a row of the benchmark's table.
        run: Does a piece of the work and returns how many units it did.
    """

    row: dict[str, Any]
    run: Callable[[], float]


def machine() -> dict[str, Any]:
    """What it was measured on: processor, cores, threads, versions."""
    return {
        "processor": processor(),
        "cores": cores(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch has one thread only."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def medians(subjects: Sequence[Callable[[], float]], repeats: int) -> list[float]:
    """Run every subject once unmeasured, then in turn, ``repeats`` times each.

    Taking turns means that a machine that slows down slows down all of them.

    Args:
        subjects: Each does a piece of work and returns how many units it did.
        repeats: Rounds, 1 or more.

    Returns:
        The median rate of each subject, in units a second.
    """
    rates: list[list[float]] = [[] for _ in subjects]
    for run in subjects:
        run()
    for _ in range(repeats):
        for own, run in zip(rates, subjects, strict=True):
            started = time.perf_counter()
            units = run()
            own.append(units / (time.perf_counter() - started))
    return [float(np.median(own)) for own in rates]


def new_row(
    subject: str, name: str, parameters: int, size: int, unit: str, **others: Any
) -> dict[str, Any]:
    """The row of something that does one thing for each of ``size`` in a call."""
    return {
        "subject": subject,
        "name": name,
        "parameters": parameters,
        "size": size,
        "workers": 0,
        "unit": unit,
        "units": size,
        **others,
    }


def measured(what: str, subjects: list[Subject], repeats: int) -> list[dict[str, Any]]:
    """The subjects' rows with their median rates, measured in turn."""
    pieces = len(subjects) * (repeats + 1)
    with progress.task(f"Measuring {what}", pieces, "pieces") as task:

        def counted(run: Callable[[], float]) -> Callable[[], float]:
            def piece() -> float:
                with progress.unseen():
                    units = run()
                task.advance()
                return units

            return piece

        rates = medians([counted(subject.run) for subject in subjects], repeats)
    return [
        {**subject.row, "per_second": rate}
        for subject, rate in zip(subjects, rates, strict=True)
    ]
