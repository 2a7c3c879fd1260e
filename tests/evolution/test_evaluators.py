"""Candidates in the dream: order, length, seeds and what is refused."""

import numpy as np
import pytest
import torch

from wm_pipeline.environments.actions import BoxActions, ThresholdActions
from wm_pipeline.evolution.evaluators import DreamEvaluator, DreamOptions
from wm_pipeline.models.controller import Controller, ControllerOptions
from wm_pipeline.models.world_model import WorldModel
from wm_pipeline.rollouts.dream import DreamNoise, dream
from wm_pipeline.rollouts.dreamers import Population

ACTIONS = ThresholdActions(kind="threshold", low=2, middle=0, high=1)
OPTIONS = DreamOptions(temperature=1.2, max_steps=41)


@pytest.fixture
def controller() -> Controller:
    return Controller(ControllerOptions(inputs="zh", bias=False), 4, 8, 1)


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


def test_results_are_candidates_by_rollouts_of_the_dream(
    evaluator: DreamEvaluator, candidates: np.ndarray
) -> None:
    found = evaluator.evaluate(candidates, 3, "training dreams", 7)
    assert found.returns.shape == found.steps.shape == (5, 3)
    for number in range(5):
        parameters = torch.from_numpy(candidates[number, None]).float()
        expected = dream(
            evaluator.world_model,
            Population(evaluator.controller, parameters, 3, ACTIONS),
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


def test_actions_that_do_not_fit_m_are_refused(
    world_model: WorldModel, controller: Controller
) -> None:
    pair = BoxActions(kind="box", low=(-1.0, -1.0), high=(1.0, 1.0))
    with pytest.raises(ValueError, match=r"environment\.actions.*2.*1"):
        DreamEvaluator(world_model, controller, pair, OPTIONS, seed=1)


@pytest.mark.parametrize(("name", "value"), [("temperature", 0.0), ("max_steps", 0)])
def test_options_out_of_range_are_refused_by_name(name: str, value: float) -> None:
    document = {"temperature": 1.0, "max_steps": 10, name: value}
    with pytest.raises(ValueError, match=name):
        DreamOptions.model_validate(document)
