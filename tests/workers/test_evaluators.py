"""Candidates in worker processes: the same results, and workers that die."""

import logging
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from tests.small_dream import ACTIONS, OPTIONS, assert_same
from tests.workers.forked import forked
from wm_pipeline.common.machine import cores
from wm_pipeline.dreaming.evaluator import DreamEvaluator
from wm_pipeline.dreaming.loop import RolloutResult
from wm_pipeline.workers.engine import LOCAL, EngineOptions
from wm_pipeline.workers.evaluators import (
    EvaluatorOptions,
    WorkerEvaluator,
    with_workers,
)

TWO = EngineOptions(workers=2)


@pytest.fixture
def _nothing_left_behind() -> Iterator[None]:
    """A test's worker processes are gone after it; a hanging one would stay."""
    before = set(forked())
    yield
    assert not new_workers(before)


def new_workers(before: set[psutil.Process]) -> set[psutil.Process]:
    """Children that were not there before."""
    return set(forked()) - before


@pytest.mark.usefixtures("_nothing_left_behind")
@pytest.mark.parametrize(("workers", "population"), [(1, 5), (2, 5), (3, 5), (3, 2)])
def test_workers_find_what_one_process_finds(
    evaluator: DreamEvaluator, workers: int, population: int
) -> None:
    candidates = np.random.default_rng(2).normal(size=(population, 12))
    with WorkerEvaluator(EngineOptions(workers=workers), evaluator) as shared:
        assert shared.controller is evaluator.controller
        assert shared.conditions() == evaluator.conditions()
        for generation in range(2):
            assert_same(
                shared.evaluate(candidates, 3, "test", generation),
                evaluator.evaluate(candidates, 3, "test", generation),
            )


class Deadly(DreamEvaluator):
    """A worker that gets a candidate marked by 666 dies of it.

    Attributes:
        parent: The process that started the workers, which lives.
        marker: Made before the first death; None dies every time.
    """

    parent: int
    marker: Path | None

    def _dream(
        self,
        candidates: np.ndarray,
        rollouts: int,
        part: slice,
        stage: str,
        *index: int,
    ) -> RolloutResult:
        marked = (candidates[:, 0] == 666).any() and os.getpid() != self.parent
        if marked and (self.marker is None or not self.marker.exists()):
            if self.marker is not None:
                self.marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super()._dream(candidates, rollouts, part, stage, *index)


class Failing(DreamEvaluator):
    """Raises at a candidate marked by 666."""

    def _dream(
        self,
        candidates: np.ndarray,
        rollouts: int,
        part: slice,
        stage: str,
        *index: int,
    ) -> RolloutResult:
        if (candidates[:, 0] == 666).any():
            raise ZeroDivisionError("of the beast")
        return super()._dream(candidates, rollouts, part, stage, *index)


class Meeting(DreamEvaluator):
    """Workers that dream once all of them are at it: a fast one takes no other's share.

    Attributes:
        folder: Where they note that they are at it.
        workers: How many they are; 0 meet nobody.
    """

    folder: Path
    workers: int

    def _dream(
        self,
        candidates: np.ndarray,
        rollouts: int,
        part: slice,
        stage: str,
        *index: int,
    ) -> RolloutResult:
        (self.folder / str(os.getpid())).touch()
        deadline = time.monotonic() + 200
        while len(list(self.folder.iterdir())) < self.workers:
            assert time.monotonic() < deadline, "the others have not come"
            time.sleep(0.01)
        return super()._dream(candidates, rollouts, part, stage, *index)


def meeting(evaluator: DreamEvaluator, folder: Path, workers: int) -> Meeting:
    subject = Meeting(
        evaluator.world_model, evaluator.controller, ACTIONS, OPTIONS, seed=1
    )
    subject.folder, subject.workers = folder, workers
    return subject


def deadly(evaluator: DreamEvaluator, marker: Path | None) -> Deadly:
    subject = Deadly(
        evaluator.world_model, evaluator.controller, ACTIONS, OPTIONS, seed=1
    )
    subject.parent, subject.marker = os.getpid(), marker
    return subject


@pytest.fixture
def marked(candidates: np.ndarray) -> np.ndarray:
    candidates[3, 0] = 666
    return candidates


@pytest.mark.usefixtures("_nothing_left_behind")
def test_a_worker_killed_at_work_costs_nothing(
    evaluator: DreamEvaluator,
    marked: np.ndarray,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    subject = deadly(evaluator, tmp_path / "died")
    with WorkerEvaluator(TWO, subject) as shared, caplog.at_level(logging.WARNING):
        found = shared.evaluate(marked, 3, "training dreams", 4)
        assert (tmp_path / "died").exists()
        assert_same(found, evaluator.evaluate(marked, 3, "training dreams", 4))
        assert [record.getMessage() for record in caplog.records] == [
            "A worker process died at the share of candidates 3 to 4 (training dreams "
            "(4,)); a new one does it again"
        ]
        # The new one stays for the next generation.
        assert_same(
            shared.evaluate(marked, 3, "training dreams", 5),
            evaluator.evaluate(marked, 3, "training dreams", 5),
        )


@pytest.mark.usefixtures("_nothing_left_behind")
def test_workers_killed_between_generations_are_replaced(
    evaluator: DreamEvaluator, candidates: np.ndarray, tmp_path: Path
) -> None:
    before = set(forked())
    with WorkerEvaluator(TWO, meeting(evaluator, tmp_path, 2)) as shared:
        shared.evaluate(candidates, 3, "test", 0)
        workers = new_workers(before)
        assert len(workers) == 2
        for worker in workers:
            worker.kill()
        psutil.wait_procs(workers, timeout=60)
        assert_same(
            shared.evaluate(candidates, 3, "test", 1),
            evaluator.evaluate(candidates, 3, "test", 1),
        )


@pytest.mark.usefixtures("_nothing_left_behind")
def test_a_share_whose_worker_always_dies_is_an_error_naming_it(
    evaluator: DreamEvaluator, marked: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        WorkerEvaluator(TWO, deadly(evaluator, None)) as shared,
        pytest.raises(
            RuntimeError,
            match=r"(?s)the share of candidates 3 to 4 \(training dreams \(4,\)\) failed "
            r"2 times: its worker process died; .*SIGKILL",
        ),
        caplog.at_level(logging.WARNING),
    ):
        shared.evaluate(marked, 3, "training dreams", 4)
    assert len(caplog.records) == 1


@pytest.mark.usefixtures("_nothing_left_behind")
def test_an_error_in_a_worker_is_raised_here(
    evaluator: DreamEvaluator, marked: np.ndarray
) -> None:
    failing = Failing(
        evaluator.world_model, evaluator.controller, ACTIONS, OPTIONS, seed=1
    )
    with (
        WorkerEvaluator(TWO, failing) as shared,
        pytest.raises(ZeroDivisionError, match="of the beast"),
    ):
        shared.evaluate(marked, 3, "test")


@pytest.mark.usefixtures("_nothing_left_behind")
@pytest.mark.parametrize("workers", [0, 1, None])
def test_an_evaluator_is_spread_over_as_many_workers_as_asked(
    evaluator: DreamEvaluator,
    candidates: np.ndarray,
    workers: int | None,
    tmp_path: Path,
) -> None:
    if workers is None:
        expected_workers = min(cores(), 3) if cores() > 1 else 0
    else:
        expected_workers = workers
    before = set(forked())
    expected = evaluator.evaluate(candidates, 3, "test")
    subject = meeting(evaluator, tmp_path, expected_workers)
    subject.max_dreams = 4
    with with_workers(subject, LOCAL, workers, population=3) as opened:
        assert (opened is subject) == (expected_workers == 0)
        assert_same(opened.evaluate(candidates, 3, "test"), expected)
        assert len(new_workers(before)) == expected_workers


@pytest.mark.parametrize(
    ("name", "value"), [("workers", -1), ("max_dreams", 0), ("device", "tpu")]
)
def test_options_out_of_range_are_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=name):
        EvaluatorOptions.model_validate({name: value})
