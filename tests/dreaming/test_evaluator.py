"""Candidates in the dream: order, length, seeds, limits, and what is refused."""

import json
import threading
import time
from typing import Any

import numpy as np
import psutil
import pytest
import torch

from tests.small_dream import ACTIONS, OPTIONS, assert_same, build_controller
from wm_pipeline.benchmarks.worlds import blank_world
from wm_pipeline.common.errors import InputError
from wm_pipeline.common.randomness import torch_stream
from wm_pipeline.dreaming.evaluator import (
    DreamEvaluator,
    DreamOptions,
    dream_without_eyes,
)
from wm_pipeline.dreaming.loop import dream
from wm_pipeline.dreaming.noise import DreamNoise
from wm_pipeline.dreaming.policies import PopulationPolicy
from wm_pipeline.environments.actions import (
    Actions,
    BoxActions,
    DiscreteActions,
)
from wm_pipeline.models.controller import Controller
from wm_pipeline.models.world_model import WorldModel
from wm_pipeline.policies.scripted_policy import CyclePolicy


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


def test_a_policy_without_eyes_meets_the_dreams_of_the_candidates(
    evaluator: DreamEvaluator,
) -> None:
    # A controller of zeros always holds the middle control.
    control = ACTIONS.decide(torch.zeros(1, 1)).numpy()
    policy = CyclePolicy(control[None], (1, 1))
    (expected,) = evaluator.evaluate(np.zeros((1, 12)), 9, "test").returns
    given = evaluator.world_model, policy, OPTIONS, 9, 1
    assert torch.equal(dream_without_eyes(*given, "test").returns, expected)
    assert not torch.equal(dream_without_eyes(*given, "other").returns, expected)


@pytest.mark.parametrize(("max_steps", "expected"), [(41, 20), (40, 20), (2, 1)])
def test_the_cap_is_in_steps_of_the_environment(
    world_model: WorldModel, controller: Controller, max_steps: int, expected: int
) -> None:
    with torch.no_grad():
        world_model.mdn_rnn.head.bias[-1] = -100
    options = DreamOptions(temperature=1.0, max_steps=max_steps)
    evaluator = DreamEvaluator(world_model, controller, ACTIONS, options, seed=1)
    steps = evaluator.evaluate(np.zeros((2, 12)), 2, "test").steps
    assert steps.tolist() == [[expected] * 2] * 2


def test_a_cap_below_a_step_of_m_is_refused() -> None:
    options = DreamOptions(temperature=1.0, max_steps=3)
    with pytest.raises(InputError, match="expected at least the 4 steps"):
        options.steps(4)


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

    monkeypatch.setattr("wm_pipeline.dreaming.evaluator.dream", watched)
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


@pytest.mark.parametrize(("name", "value"), [("temperature", 0.0), ("max_steps", 0)])
def test_options_out_of_range_are_refused_by_name(name: str, value: float) -> None:
    options = {"temperature": 1.0, "max_steps": 10, name: value}
    with pytest.raises(ValueError, match=name):
        DreamOptions.model_validate(options)


def test_a_world_model_on_another_device_is_copied_there(
    world_model: WorldModel, controller: Controller, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = world_model, controller, ACTIONS, OPTIONS, 1
    assert DreamEvaluator(*arguments).world_model is world_model
    monkeypatch.setattr("wm_pipeline.dreaming.evaluator.choose_device", torch.device)
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
