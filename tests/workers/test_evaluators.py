"""Candidates in the dream: order, length, seeds, workers that die, and what is refused."""

import json
import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch

from wm_pipeline.benchmarks.worlds import blank_world
from wm_pipeline.common.devices import cores
from wm_pipeline.common.randomness import torch_stream
from wm_pipeline.dreaming.loop import DreamResult, dream
from wm_pipeline.dreaming.noise import DreamNoise
from wm_pipeline.dreaming.policies import PopulationPolicy
from wm_pipeline.environments.actions import (
    Actions,
    BoxActions,
    DiscreteActions,
    ThresholdActions,
)
from wm_pipeline.models.controller import Controller, ControllerOptions
from wm_pipeline.models.world_model import WorldModel
from wm_pipeline.workers.evaluators import (
    DreamEvaluator,
    DreamOptions,
    EvaluatorOptions,
    WorkerEvaluator,
    with_workers,
)

ACTIONS = ThresholdActions(kind="threshold", low=2, middle=0, high=1)
OPTIONS = DreamOptions(temperature=1.2, max_steps=41)


def build_controller(**changes: Any) -> Controller:
    options = {
        "inputs": "zh",
        "hidden_sizes": (),
        "activation": "tanh",
        "bias": False,
        "policy": "deterministic",
        **changes,
    }
    return Controller(ControllerOptions.model_validate(options), 4, 8, 1)


@pytest.fixture
def controller() -> Controller:
    return build_controller()


@pytest.fixture
def candidates(controller: Controller) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(5, controller.size))


@pytest.fixture
def mortal(world_model: WorldModel) -> WorldModel:
    random, head = torch.Generator().manual_seed(4), world_model.mdn_rnn.head
    with torch.no_grad():
        head.weight[-2:] = torch.randn(2, 8, generator=random) * 6
        head.bias[-1] = -3
    return world_model


@pytest.fixture
def evaluator(mortal: WorldModel, controller: Controller) -> DreamEvaluator:
    return DreamEvaluator(mortal, controller, ACTIONS, OPTIONS, seed=1)


@pytest.fixture
def _nothing_left_behind() -> Iterator[None]:
    """A test's worker processes are gone after it; a hanging one would stay."""
    before = set(psutil.Process().children(recursive=True))
    yield
    assert not new_workers(before)


def new_workers(before: set[psutil.Process]) -> set[psutil.Process]:
    """Children that were not there before, but for Python's bookkeeper of semaphores."""
    return {
        process
        for process in set(psutil.Process().children(recursive=True)) - before
        if "resource_tracker" not in " ".join(process.cmdline())
    }


def assert_same(found: DreamResult, expected: DreamResult) -> None:
    assert torch.equal(found.steps, expected.steps)
    assert torch.equal(found.returns, expected.returns)


def test_results_are_candidates_by_rollouts_of_the_dream(
    evaluator: DreamEvaluator, candidates: np.ndarray
) -> None:
    found = evaluator.evaluate(candidates, 3, "training dreams", 7)
    assert found.returns.shape == found.steps.shape == (5, 3)
    for number in range(5):
        parameters = torch.from_numpy(candidates[number, None]).float()
        noise = torch_stream(1, "unused: it decides without noise")
        expected = dream(
            evaluator.world_model,
            PopulationPolicy(evaluator.controller, parameters, 3, ACTIONS, noise),
            1,
            DreamNoise.draw(evaluator.world_model, 3, 1, "training dreams", 7),
            1.2,
            20,
        )
        assert torch.equal(found.steps[number], expected.steps)
        torch.testing.assert_close(found.returns[number], expected.returns)
    assert len(found.steps.unique()) > 2
    assert len(found.returns.unique()) > 10


@pytest.mark.parametrize(("max_steps", "expected"), [(41, 20), (40, 20), (1, 1)])
def test_the_cap_is_in_steps_of_the_environment(
    world_model: WorldModel, controller: Controller, max_steps: int, expected: int
) -> None:
    with torch.no_grad():
        world_model.mdn_rnn.head.bias[-1] = -100
    options = DreamOptions(temperature=1.0, max_steps=max_steps)
    evaluator = DreamEvaluator(world_model, controller, ACTIONS, options, seed=1)
    steps = evaluator.evaluate(np.zeros((2, 12)), 2, "test").steps
    assert steps.tolist() == [[expected] * 2] * 2


def test_seed_stage_and_index_choose_the_dreams(
    evaluator: DreamEvaluator, candidates: np.ndarray
) -> None:
    first = evaluator.evaluate(candidates, 3, "training dreams", 0).returns
    again = evaluator.evaluate(candidates, 3, "training dreams", 0).returns
    assert torch.equal(first, again)
    evaluator.seed = 2
    others = [evaluator.evaluate(candidates, 3, "training dreams", 0).returns]
    evaluator.seed = 1
    others += [
        evaluator.evaluate(candidates, 3, "training dreams", 1).returns,
        evaluator.evaluate(candidates, 3, "final dreams", 0).returns,
    ]
    assert not any(torch.equal(first, other) for other in others)


def test_the_temperature_changes_the_dreams(
    evaluator: DreamEvaluator, candidates: np.ndarray
) -> None:
    warm = evaluator.evaluate(candidates, 3, "test").returns
    evaluator.options = DreamOptions(temperature=0.1, max_steps=41)
    assert not torch.equal(evaluator.evaluate(candidates, 3, "test").returns, warm)


@pytest.mark.parametrize("rollouts", [1, 3, 8])
@pytest.mark.parametrize("limit", [1, 2, 3, 5, 7, 8, 16, 39, 1000])
def test_the_limit_of_simultaneous_dreams_changes_nothing(
    evaluator: DreamEvaluator, candidates: np.ndarray, limit: int, rollouts: int
) -> None:
    expected = evaluator.evaluate(candidates, rollouts, "test", 2)
    evaluator.max_dreams = limit
    assert_same(evaluator.evaluate(candidates, rollouts, "test", 2), expected)


@pytest.mark.parametrize("limit", [1, 3, 7])
def test_the_limit_changes_no_drawn_decision(mortal: WorldModel, limit: int) -> None:
    drawing = build_controller(policy="gaussian", hidden_sizes=(5,), bias=True)
    candidates = np.random.default_rng(1).normal(size=(4, drawing.size))
    evaluator = DreamEvaluator(mortal, drawing, ACTIONS, OPTIONS, seed=1)
    expected = evaluator.evaluate(candidates, 5, "test")
    evaluator.max_dreams = limit
    assert_same(evaluator.evaluate(candidates, 5, "test"), expected)


def test_no_batch_is_larger_than_the_limit(
    evaluator: DreamEvaluator, candidates: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []

    def watched(world_model: Any, policy: Any, copies: int, noise: Any, *rest: Any):
        sizes.append(copies * len(noise.starts))
        return dream(world_model, policy, copies, noise, *rest)

    monkeypatch.setattr("wm_pipeline.workers.evaluators.dream", watched)
    for limit, rollouts in [(1, 3), (2, 3), (7, 3), (4, 8)]:
        sizes.clear()
        evaluator.max_dreams = limit
        evaluator.evaluate(candidates, rollouts, "test")
        assert max(sizes) <= limit
        assert sum(sizes) == len(candidates) * rollouts
    evaluator.max_dreams = None
    sizes.clear()
    evaluator.evaluate(candidates, 3, "test")
    assert sizes == [15]


@pytest.mark.usefixtures("_nothing_left_behind")
@pytest.mark.parametrize(("workers", "population"), [(1, 5), (2, 5), (3, 5), (3, 2)])
def test_workers_find_what_one_process_finds(
    evaluator: DreamEvaluator, workers: int, population: int
) -> None:
    candidates = np.random.default_rng(2).normal(size=(population, 12))
    with WorkerEvaluator(workers, evaluator) as shared:
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
    ) -> DreamResult:
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
    ) -> DreamResult:
        if (candidates[:, 0] == 666).any():
            raise ZeroDivisionError("of the beast")
        return super()._dream(candidates, rollouts, part, stage, *index)


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
    with WorkerEvaluator(2, subject) as shared, caplog.at_level(logging.WARNING):
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
    evaluator: DreamEvaluator, candidates: np.ndarray
) -> None:
    before = set(psutil.Process().children(recursive=True))
    with WorkerEvaluator(2, evaluator) as shared:
        shared.evaluate(candidates, 3, "test", 0)
        workers = new_workers(before)
        assert len(workers) == 2
        for worker in workers:
            worker.kill()
        psutil.wait_procs(workers, timeout=10)
        assert_same(
            shared.evaluate(candidates, 3, "test", 1),
            evaluator.evaluate(candidates, 3, "test", 1),
        )


@pytest.mark.usefixtures("_nothing_left_behind")
def test_a_share_whose_worker_always_dies_is_an_error_naming_it(
    evaluator: DreamEvaluator, marked: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        WorkerEvaluator(2, deadly(evaluator, None)) as shared,
        pytest.raises(
            RuntimeError,
            match=r"(?s)the share of candidates 3 to 4 \(training dreams \(4,\)\) failed "
            r"2 times: its worker process died\. .*SIGKILL",
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
        WorkerEvaluator(2, failing) as shared,
        pytest.raises(ZeroDivisionError, match="of the beast"),
    ):
        shared.evaluate(marked, 3, "test")


def test_conditions_are_json_that_says_all(evaluator: DreamEvaluator) -> None:
    conditions = evaluator.conditions()
    assert json.loads(json.dumps(conditions)) == conditions
    assert conditions["dream"] == {"temperature": 1.2, "max_steps": 41}
    assert conditions["dream_seed"] == 1
    # Where and in how many pieces candidates run does not matter.
    evaluator.max_dreams = 2
    assert evaluator.conditions() == conditions


@pytest.mark.parametrize(
    "change",
    ["temperature", "max_steps", "seed", "world model", "actions", "controller"],
)
def test_conditions_change_with_what_the_fitness_depends_on(
    mortal: WorldModel, controller: Controller, change: str
) -> None:
    options, actions, seed = OPTIONS, ACTIONS, 1
    before = DreamEvaluator(mortal, controller, actions, options, seed).conditions()
    if change in ("temperature", "max_steps"):
        options = options.model_copy(update={change: 2})
    elif change == "seed":
        seed = 2
    elif change == "actions":
        actions = actions.model_copy(update={"low": 1, "high": 2})
    elif change == "controller":
        controller = build_controller(bias=True)
    else:
        with torch.no_grad():
            mortal.mdn_rnn.head.bias[0] += 1e-3
    after = DreamEvaluator(mortal, controller, actions, options, seed).conditions()
    assert len([name for name in before if before[name] != after[name]]) == 1


@pytest.mark.usefixtures("_nothing_left_behind")
@pytest.mark.parametrize("workers", [0, 1, None])
def test_an_evaluator_is_spread_over_as_many_workers_as_asked(
    evaluator: DreamEvaluator, candidates: np.ndarray, workers: int | None
) -> None:
    if workers is None:
        expected_workers = min(cores(), 3) if cores() > 1 else 0
    else:
        expected_workers = workers
    before = set(psutil.Process().children(recursive=True))
    expected = evaluator.evaluate(candidates, 3, "test")
    evaluator.max_dreams = 4
    with with_workers(evaluator, workers, population=3) as opened:
        assert (opened is evaluator) == (expected_workers == 0)
        assert_same(opened.evaluate(candidates, 3, "test"), expected)
        assert len(new_workers(before)) == expected_workers


@pytest.mark.parametrize(
    "actions",
    [
        BoxActions(kind="box", low=(-1.0, -1.0), high=(1.0, 1.0)),
        DiscreteActions(kind="discrete", count=2),
    ],
)
def test_actions_that_do_not_fit_m_are_refused(
    world_model: WorldModel, controller: Controller, actions: Actions
) -> None:
    with pytest.raises(ValueError, match=r"environment\.actions.*2.*1"):
        DreamEvaluator(world_model, controller, actions, OPTIONS, seed=1)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", 0.0),
        ("max_steps", 0),
        ("workers", -1),
        ("max_dreams", 0),
        ("device", "tpu"),
    ],
)
def test_options_out_of_range_are_refused_by_name(name: str, value: Any) -> None:
    dreams = {"temperature": 1.0, "max_steps": 10}
    where = {"workers": 0, "max_dreams": None, "device": "cpu"}
    model, document = (
        (DreamOptions, dreams) if name in dreams else (EvaluatorOptions, where)
    )
    with pytest.raises(ValueError, match=name):
        model.model_validate({**document, name: value})


def test_a_world_model_on_another_device_is_copied_there(
    world_model: WorldModel, controller: Controller, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = world_model, controller, ACTIONS, OPTIONS, 1
    assert DreamEvaluator(*arguments).world_model is world_model
    monkeypatch.setattr("wm_pipeline.workers.evaluators.choose_device", torch.device)
    copied = DreamEvaluator(*arguments, device="meta").world_model
    for mine, theirs in zip(world_model.parameters(), copied.parameters(), strict=True):
        assert mine.device.type == "cpu"
        assert theirs.device.type == "meta"


@pytest.mark.parametrize(("limit", "megabytes"), [(None, 1500), (200, 100)])
def test_ten_thousand_dreams_need_little_memory(
    limit: int | None, megabytes: int
) -> None:
    world = blank_world(64, 256, 5, ACTIONS, 1)
    options = build_controller().options
    controller = Controller(options, 64, 256, 1)
    cap = DreamOptions(temperature=1.0, max_steps=4)
    evaluator = DreamEvaluator(world, controller, ACTIONS, cap, 1, max_dreams=limit)
    evaluator.evaluate(np.zeros((2, controller.size)), 16, "once")
    process, over, peak = psutil.Process(), threading.Event(), [0]
    before = process.memory_info().rss

    def watch() -> None:
        while not over.is_set():
            peak[0] = max(peak[0], process.memory_info().rss)
            time.sleep(0.001)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        result = evaluator.evaluate(np.zeros((625, controller.size)), 16, "many")
    finally:
        over.set()
        watcher.join()
    assert result.steps.tolist() == [[4] * 16] * 625
    assert 0 < peak[0] - before < megabytes * 1e6
