"""Architectures under one budget: the order, the same searches, fresh dreams."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from wm_pipeline.common.checkpoints import read_safetensors, write_safetensors
from wm_pipeline.common.errors import InputError
from wm_pipeline.dreaming.evaluator import DreamEvaluator, DreamOptions
from wm_pipeline.environments.actions import ThresholdActions
from wm_pipeline.environments.mock import mock_world_model
from wm_pipeline.models.controller import Controller, ControllerOptions
from wm_pipeline.search.comparison import (
    ArchitectureOptions,
    ComparisonOptions,
    train_architectures,
)
from wm_pipeline.search.comparison_state import (
    ComparisonState,
    load_comparison_state,
    save_comparison_state,
)
from wm_pipeline.search.loop import evolve
from wm_pipeline.search.selection import select
from wm_pipeline.workers.engine import LOCAL

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


def states(
    options: ComparisonOptions, *before: ComparisonState
) -> list[ComparisonState]:
    world_model = mock_world_model()
    return list(
        train_architectures(world_model, ACTIONS, LOCAL, DREAMS, options, *before)
    )


@pytest.fixture(scope="module")
def trained(compared: ComparisonOptions) -> list[ComparisonState]:
    return states(compared)


def assert_same(found: ComparisonState, expected: ComparisonState) -> None:
    """All but the clocks."""
    assert found.finished == expected.finished
    for one, other in zip(found.searches, expected.searches, strict=True):
        for name in ("name", "strategy", "conditions", "selected"):
            assert getattr(one, name) == getattr(other, name)
        np.testing.assert_array_equal(one.parameters, other.parameters)
        np.testing.assert_array_equal(one.dream_returns, other.dream_returns)
        columns = ["generation", "evaluations", "best", "mean", "sigma"]
        pd.testing.assert_frame_equal(
            one.fitness_log[columns], other.fitness_log[columns], check_exact=True
        )


def test_every_architecture_is_trained_with_every_seed(
    trained: list[ComparisonState],
) -> None:
    assert [len(state.searches) for state in trained] == [1, 2, 3, 4]
    assert [state.finished for state in trained] == [False, False, False, True]
    searches = trained[-1].searches
    assert [(each.architecture, each.seed, each.strategy) for each in searches] == [
        ("linear", 1, "full"),
        ("mlp", 1, "separable"),
        ("linear", 2, "full"),
        ("mlp", 2, "separable"),
    ]
    assert searches[1].name == "mlp, seed 1"
    for each in searches:
        assert each.seconds > 0
        assert each.fitness_log["evaluations"].tolist() == [4, 8, 12]


def test_each_is_the_search_that_runs_alone(
    compared: ComparisonOptions, trained: list[ComparisonState]
) -> None:
    world_model = mock_world_model()
    controller = Controller.for_world(MLP, world_model, ACTIONS.outputs)
    evaluator = DreamEvaluator(world_model, controller, ACTIONS, DREAMS, seed=2)
    *_, state = evolve(evaluator, compared.evolution("separable"), seed=2)
    found = trained[-1].searches[3]
    columns = ["generation", "best", "mean", "worst", "std", "sigma", "steps"]
    pd.testing.assert_frame_equal(
        found.fitness_log[columns], state.fitness_log[columns], check_exact=True
    )
    result = select(evaluator, state, 5)
    assert found.selected == result.selected
    parameters = result.controller.get_parameters().numpy()
    np.testing.assert_array_equal(found.parameters, parameters)
    # Its score is of dreams by which nothing was selected.
    fresh = evaluator.evaluate(
        parameters.astype(np.float64)[None], 5, "comparison dreams"
    )
    np.testing.assert_array_equal(found.dream_returns, fresh.returns[0])


@pytest.mark.parametrize("after", [0, 1, 3])
def test_it_goes_on_after_the_searches_that_are_finished(
    compared: ComparisonOptions,
    trained: list[ComparisonState],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    after: int,
) -> None:
    path = tmp_path / "comparison_state.safetensors"
    save_comparison_state(path, trained[after])
    before = load_comparison_state(path)
    assert_same(before, trained[after])
    searched = []

    def counted(*arguments: Any, **named: Any) -> Any:
        searched.append(named["name"])
        return evolve(*arguments, **named)

    monkeypatch.setattr("wm_pipeline.search.comparison.evolve", counted)
    resumed = states(compared, before)
    assert searched == [each.name for each in trained[-1].searches[after + 1 :]]
    assert_same(resumed[-1], trained[-1])
    for one, other in zip(before.searches, resumed[-1].searches, strict=False):
        assert one is other


def test_a_comparison_may_grow_and_shrink_when_it_is_resumed(
    compared: ComparisonOptions, trained: list[ComparisonState]
) -> None:
    architectures = {
        "mlp": compared.architectures["mlp"],
        "other": ArchitectureOptions(
            model=ControllerOptions(bias=True), strategy="full"
        ),
    }
    changed = compared.model_copy(update={"architectures": architectures})
    found = states(changed, trained[-1])
    # What is known is in every state, so that a kill does not lose it.
    assert [[each.name for each in state.searches] for state in found] == [
        ["mlp, seed 1", "mlp, seed 2"],
        ["mlp, seed 1", "other, seed 1", "mlp, seed 2"],
        ["mlp, seed 1", "other, seed 1", "mlp, seed 2", "other, seed 2"],
    ]
    assert [state.finished for state in found] == [False, False, True]
    assert found[-1].searches[0] is trained[-1].searches[1]


def test_a_search_of_other_conditions_is_refused_before_any_search(
    compared: ComparisonOptions, trained: list[ComparisonState]
) -> None:
    longer = compared.model_copy(update={"generations": 4})
    with pytest.raises(
        InputError,
        match=r"compare\.resume: the search of linear, seed 1 was written under other "
        r"options\. search\.generations: it has 3, the options 4",
    ):
        states(longer, trained[0])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ({"class": "search state"}, "expected a comparison state, found search state"),
        ({"searches": [{}]}, "expected a whole comparison state, found one that lacks"),
        ({"searches": None}, "expected a whole comparison state, found searches None"),
    ],
)
def test_a_file_that_is_no_comparison_state_is_refused(
    trained: list[ComparisonState],
    tmp_path: Path,
    damage: dict[str, Any],
    message: str,
) -> None:
    path = tmp_path / "comparison_state.safetensors"
    save_comparison_state(path, trained[0])
    header, arrays = read_safetensors(path)
    write_safetensors(path, arrays, header | damage)
    with pytest.raises(InputError, match=message):
        load_comparison_state(path)


def test_a_strategy_that_is_not_for_its_architecture_is_refused_before_any_search() -> (
    None
):
    unfit = options(
        linear=ArchitectureOptions(model=ControllerOptions(), strategy="full"),
        tiny=ArchitectureOptions(model=ControllerOptions(), strategy="vd"),
    )
    with pytest.raises(
        InputError,
        match=r"compare\.architectures\.tiny\.strategy: .*at least 10 parameters for 'vd'",
    ):
        next(train_architectures(mock_world_model(), ACTIONS, LOCAL, DREAMS, unfit))
