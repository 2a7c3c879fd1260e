"""Architectures under one budget: the order, the same searches, fresh dreams."""

import numpy as np
import pandas as pd
import pytest
import torch

from wm_pipeline.common.errors import InputError
from wm_pipeline.dreaming.evaluator import DreamEvaluator, DreamOptions
from wm_pipeline.environments.actions import ThresholdActions
from wm_pipeline.environments.mock import mock_world_model
from wm_pipeline.models.controller import Controller, ControllerOptions
from wm_pipeline.search.comparison import (
    ArchitectureOptions,
    ComparisonOptions,
    TrainedArchitecture,
    train_architectures,
)
from wm_pipeline.search.loop import evolve
from wm_pipeline.search.selection import select

ACTIONS = ThresholdActions(kind="threshold", low=0, middle=1, high=2)
DREAMS = DreamOptions(temperature=1, max_steps=50)
MLP = ControllerOptions(hidden_sizes=(3,))


def options(**architectures: ArchitectureOptions) -> ComparisonOptions:
    return ComparisonOptions(
        seeds=(1, 2),
        architectures=architectures,
        population=4,
        sigma=1.0,
        generations=3,
        rollouts=2,
        final_rollouts=5,
    )


@pytest.fixture(scope="module")
def compared() -> ComparisonOptions:
    return options(
        linear=ArchitectureOptions(model=ControllerOptions(), strategy="full"),
        mlp=ArchitectureOptions(model=MLP, strategy="separable"),
    )


@pytest.fixture(scope="module")
def trained(compared: ComparisonOptions) -> list[TrainedArchitecture]:
    return list(train_architectures(mock_world_model(), ACTIONS, DREAMS, compared))


def test_every_architecture_is_trained_with_every_seed(
    trained: list[TrainedArchitecture],
) -> None:
    assert [(each.architecture, each.seed, each.strategy) for each in trained] == [
        ("linear", 1, "full"),
        ("mlp", 1, "separable"),
        ("linear", 2, "full"),
        ("mlp", 2, "separable"),
    ]
    assert trained[1].name == "mlp, seed 1"
    for each in trained:
        assert each.state.stopped == "all 3 generations are done"
        assert each.seconds > 0
        log = each.fitness_log
        assert set(log["architecture"]) == {each.architecture}
        assert set(log["seed"]) == {each.seed}
        assert log["evaluations"].tolist() == [4, 8, 12]


def test_each_is_the_search_that_runs_alone(
    compared: ComparisonOptions, trained: list[TrainedArchitecture]
) -> None:
    world_model = mock_world_model()
    controller = Controller.for_world(MLP, world_model, ACTIONS.outputs)
    evaluator = DreamEvaluator(world_model, controller, ACTIONS, DREAMS, seed=2)
    *_, state = evolve(evaluator, compared.evolution("separable"), seed=2)
    found = trained[3]
    pd.testing.assert_frame_equal(
        found.state.candidate_log, state.candidate_log, check_exact=True
    )
    result = select(evaluator, state, 5)
    assert found.result.scores == result.scores
    parameters = result.controller.get_parameters()
    assert torch.equal(found.result.controller.get_parameters(), parameters)
    # Its score is of dreams by which nothing was selected.
    fresh = evaluator.evaluate(
        parameters.double().numpy()[None], 5, "comparison dreams"
    )
    assert np.array_equal(found.dream_returns, fresh.returns[0])


def test_a_strategy_that_is_not_for_its_architecture_is_refused_before_any_search() -> (
    None
):
    unfit = options(
        linear=ArchitectureOptions(model=ControllerOptions(), strategy="full"),
        tiny=ArchitectureOptions(model=ControllerOptions(), strategy="vd"),
    )
    with pytest.raises(InputError, match="at least 10 parameters for 'vd'"):
        next(train_architectures(mock_world_model(), ACTIONS, DREAMS, unfit))
