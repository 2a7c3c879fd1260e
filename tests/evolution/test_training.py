"""The search: what it logs, what it delivers, and that failures never win."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wm_pipeline.environments.actions import ThresholdActions
from wm_pipeline.evolution.evaluators import DreamEvaluator, DreamOptions
from wm_pipeline.evolution.strategies import StrategyOptions
from wm_pipeline.evolution.training import (
    EvolutionOptions,
    EvolutionResult,
    evolve,
    finite,
)
from wm_pipeline.models.controller import Controller, ControllerOptions
from wm_pipeline.models.world_model import WorldModel
from wm_pipeline.rollouts.dream import DreamResult

ACTIONS = ThresholdActions(kind="threshold", low=2, middle=0, high=1)
CLOCKED = ["ask_seconds", "evaluate_seconds", "tell_seconds", "steps_per_second"]
SUMMIT = np.linspace(-1, 1, 12)


@pytest.fixture
def options() -> EvolutionOptions:
    return EvolutionOptions(
        strategy=StrategyOptions(population=4, sigma=1.0),
        generations=4,
        rollouts=3,
        final_rollouts=5,
    )


@pytest.fixture
def evaluator(world_model: WorldModel) -> DreamEvaluator:
    random, head = torch.Generator().manual_seed(4), world_model.mdn_rnn.head
    with torch.no_grad():
        head.weight[-2:] = torch.randn(2, 8, generator=random) * 6
        head.bias[-1] = -3
    controller = Controller(ControllerOptions(inputs="zh", bias=False), 4, 8, 1)
    dreams = DreamOptions(temperature=1.0, max_steps=30)
    return DreamEvaluator(world_model, controller, ACTIONS, dreams, seed=1)


class Hill(DreamEvaluator):
    """No dream: a candidate's returns fall with its distance from ``SUMMIT``."""

    def __init__(self, evaluator: DreamEvaluator) -> None:
        super().__init__(
            evaluator.world_model,
            evaluator.controller,
            evaluator.actions,
            evaluator.options,
            evaluator.seed,
        )
        self.calls: list[tuple[np.ndarray, int, str, tuple[int, ...]]] = []

    def evaluate(
        self, candidates: np.ndarray, rollouts: int, stage: str, *index: int
    ) -> DreamResult:
        self.calls.append((candidates.copy(), rollouts, stage, index))
        heights = torch.from_numpy(-np.square(candidates - SUMMIT).sum(1)).float()
        # The rollouts differ, around the height.
        spread = torch.arange(rollouts) - (rollouts - 1) / 2
        returns = self.spoiled(heights[:, None] + spread, stage)
        return DreamResult(returns, torch.full(returns.shape, 7))

    def spoiled(self, returns: torch.Tensor, stage: str) -> torch.Tensor:
        return returns


class FirstFails(Hill):
    """One return of the first candidate is NaN; all others do equally well."""

    def spoiled(self, returns: torch.Tensor, stage: str) -> torch.Tensor:
        returns = torch.full_like(returns, 5.0)
        if stage == "training dreams":
            returns[0, -1] = torch.nan
        return returns


class MeanFails(Hill):
    """In the final dreams the distribution's mean fails."""

    def spoiled(self, returns: torch.Tensor, stage: str) -> torch.Tensor:
        if stage != "training dreams":
            returns[0, 0] = torch.nan
        return returns


class AllFail(Hill):
    """No candidate ever returns a finite number in training."""

    def spoiled(self, returns: torch.Tensor, stage: str) -> torch.Tensor:
        if stage == "training dreams":
            returns[:] = -torch.inf
        return returns


def reproducible(result: EvolutionResult) -> pd.DataFrame:
    return result.fitness_log.drop(columns=CLOCKED)


def test_same_seed_same_log_other_seed_other_log(
    evaluator: DreamEvaluator, options: EvolutionOptions
) -> None:
    first, again, other = (evolve(evaluator, options, seed) for seed in (1, 1, 2))
    pd.testing.assert_frame_equal(
        reproducible(first), reproducible(again), check_exact=True
    )
    assert torch.equal(
        first.controller.parameters_vector, again.controller.parameters_vector
    )
    assert first.delivered == again.delivered
    for name in ("best", "mean", "worst", "sigma"):
        assert not first.fitness_log[name].equals(other.fitness_log[name])


def test_other_dreams_another_log(
    evaluator: DreamEvaluator, options: EvolutionOptions
) -> None:
    first = evolve(evaluator, options, 1)
    evaluator.seed = 2
    other = evolve(evaluator, options, 1)
    assert not first.fitness_log["mean"].equals(other.fitness_log["mean"])


def test_the_log_says_what_the_dreams_returned(
    evaluator: DreamEvaluator, options: EvolutionOptions
) -> None:
    hill = Hill(evaluator)
    log = evolve(hill, options, 1).fitness_log
    assert list(log.columns) == [
        "generation",
        "evaluations",
        "best",
        "mean",
        "median",
        "worst",
        "std",
        "sigma",
        "best_so_far",
        "non_finite",
        "dream_steps",
        *CLOCKED,
    ]
    assert log["generation"].tolist() == [0, 1, 2, 3]
    assert log["evaluations"].tolist() == [4, 8, 12, 16]
    assert log["dream_steps"].tolist() == [4 * 3 * 7] * 4
    assert log["non_finite"].tolist() == [0] * 4
    assert (log["sigma"] > 0).all()
    assert (log[CLOCKED] > 0).all(axis=None)
    for row, (candidates, *_) in zip(log.itertuples(), hill.calls[:-1], strict=True):
        heights = -np.square(candidates - SUMMIT).sum(1)
        expected = {
            "best": heights.max(),
            "mean": heights.mean(),
            "median": np.median(heights),
            "worst": heights.min(),
            "std": heights.std(),
        }
        found = {name: getattr(row, name) for name in expected}
        assert found == pytest.approx(expected, rel=1e-5)
    assert log["best_so_far"].tolist() == log["best"].cummax().tolist()


def test_generations_share_no_dreams_and_the_final_ones_are_fresh(
    evaluator: DreamEvaluator, options: EvolutionOptions
) -> None:
    hill = Hill(evaluator)
    evolve(hill, options, 1)
    assert [call[1:] for call in hill.calls] == [
        *((3, "training dreams", (generation,)) for generation in range(4)),
        (5, "final dreams", ()),
    ]
    assert [len(call[0]) for call in hill.calls] == [4, 4, 4, 4, 2]


def test_the_search_climbs_and_delivers_a_controller_near_the_summit(
    evaluator: DreamEvaluator, options: EvolutionOptions
) -> None:
    strategy = StrategyOptions(population=16, sigma=0.3)
    hill = Hill(evaluator)
    result = evolve(
        hill, options.model_copy(update={"strategy": strategy, "generations": 80}), 1
    )
    log = result.fitness_log
    assert log["mean"].iloc[-1] > -0.1 > log["mean"].iloc[0]
    found = result.controller.parameters_vector.numpy()
    np.testing.assert_allclose(found, SUMMIT, atol=0.15)
    assert result.controller.config() == evaluator.controller.config()


def test_the_better_of_mean_and_best_is_delivered(
    evaluator: DreamEvaluator, options: EvolutionOptions
) -> None:
    hill = Hill(evaluator)
    result = evolve(hill, options, 1)
    asked = np.concatenate([call[0] for call in hill.calls[:-1]])
    best = asked[np.square(asked - SUMMIT).sum(1).argmin()]
    finalists = hill.calls[-1][0]
    assert np.array_equal(finalists[1], best)
    winner = int(np.square(finalists - SUMMIT).sum(1).argmin())
    assert result.delivered == ("mean", "best")[winner]
    expected = torch.from_numpy(finalists[winner]).float()
    assert torch.equal(result.controller.parameters_vector, expected)


def test_a_failed_candidate_is_counted_and_never_the_best(
    evaluator: DreamEvaluator, options: EvolutionOptions
) -> None:
    failing = FirstFails(evaluator)
    log = evolve(failing, options, 1).fitness_log
    assert log["non_finite"].tolist() == [1] * 4
    assert log[["best", "worst", "best_so_far"]].eq(5.0).all(axis=None)
    finalists = failing.calls[-1][0]
    failed = np.stack([call[0][0] for call in failing.calls[:-1]])
    assert not (failed == finalists[1]).all(1).any()


def test_a_finalist_that_fails_is_not_delivered(
    evaluator: DreamEvaluator, options: EvolutionOptions
) -> None:
    failing = MeanFails(evaluator)
    result = evolve(failing, options, 1)
    assert result.delivered == "best"
    expected = torch.from_numpy(failing.calls[-1][0][1]).float()
    assert torch.equal(result.controller.parameters_vector, expected)


def test_a_search_in_which_all_fail_goes_on_and_says_so(
    evaluator: DreamEvaluator, options: EvolutionOptions
) -> None:
    failing = AllFail(evaluator)
    result = evolve(failing, options, 1)
    assert result.fitness_log["non_finite"].tolist() == [4] * 4
    assert result.fitness_log["best_so_far"].tolist() == [-np.inf] * 4
    # Nobody was best, so the untouched beginning stands for it.
    assert not failing.calls[-1][0][1].any()
    assert result.controller.parameters_vector.isfinite().all()


def test_the_evaluators_own_controller_is_left_alone(
    evaluator: DreamEvaluator, options: EvolutionOptions
) -> None:
    result = evolve(evaluator, options, 1)
    assert result.controller is not evaluator.controller
    assert not evaluator.controller.parameters_vector.any()


values = st.floats(allow_nan=True, allow_infinity=True, width=32)


@given(st.lists(values, min_size=1, max_size=12))
@settings(max_examples=200, deadline=None)
def test_finite_makes_failures_the_worst_and_keeps_the_rest(
    numbers: list[float],
) -> None:
    given_ = np.array(numbers)
    kept = given_.copy()
    found, failed = finite(given_)
    assert np.array_equal(given_, kept, equal_nan=True)
    assert np.array_equal(failed, [not np.isfinite(number) for number in numbers])
    assert np.isfinite(found).all()
    assert np.array_equal(found[~failed], given_[~failed])
    if failed.any():
        assert len(set(found[failed])) == 1
        assert found[failed][0] == found.min()
        assert found[failed][0] == (0 if failed.all() else given_[~failed].min())


@pytest.mark.parametrize(
    ("name", "value"),
    [("generations", 0), ("rollouts", 0), ("final_rollouts", 0), ("population", 1)],
)
def test_options_out_of_range_are_refused_by_name(
    options: EvolutionOptions, name: str, value: int
) -> None:
    document = options.model_dump()
    holder = document if name in document else document["strategy"]
    holder[name] = value
    with pytest.raises(ValueError, match=name):
        EvolutionOptions.model_validate(document)
