"""The search: what it logs and selects, when it stops, and how it is resumed."""

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wm_pipeline.common import progress
from wm_pipeline.common.errors import InputError
from wm_pipeline.dreaming.evaluator import DreamEvaluator, DreamOptions
from wm_pipeline.dreaming.loop import RolloutResult
from wm_pipeline.environments.actions import ThresholdActions
from wm_pipeline.environments.mock import mock_world_model
from wm_pipeline.models.controller import Controller, ControllerOptions
from wm_pipeline.models.world_model import WorldModel
from wm_pipeline.search import loop as training
from wm_pipeline.search.loop import (
    EvolutionOptions,
    StopOptions,
    evolve,
    finite,
)
from wm_pipeline.search.selection import select
from wm_pipeline.search.state import SearchState, load_state, save_state
from wm_pipeline.search.strategies import Kind, StrategyOptions

ACTIONS = ThresholdActions(kind="threshold", low=2, middle=0, high=1)
LINEAR = ControllerOptions()
CLOCKED = ["ask_seconds", "evaluate_seconds", "tell_seconds", "steps_per_second"]
SUMMIT = np.linspace(-1, 1, 12)


def plan(
    generations: int = 4,
    kind: Kind = "full",
    population: int = 4,
    sigma: float = 1.0,
    rollouts: int = 3,
    save_every: float = 0,
    **stop: Any,
) -> EvolutionOptions:
    return EvolutionOptions(
        strategy=StrategyOptions(kind=kind, population=population, sigma=sigma),
        generations=generations,
        rollouts=rollouts,
        stop=StopOptions(**stop),
        save_every=save_every,
    )


@pytest.fixture
def options() -> EvolutionOptions:
    return plan()


@pytest.fixture
def evaluator(world_model: WorldModel) -> DreamEvaluator:
    random, head = torch.Generator().manual_seed(4), world_model.mdn_rnn.head
    with torch.no_grad():
        head.weight[-2:] = torch.randn(2, 8, generator=random) * 6
        head.bias[-1] = -3
    controller = Controller(LINEAR, 4, 8, 1)
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
        self, candidates: np.ndarray, rollouts: int, purpose: str, *index: int
    ) -> RolloutResult:
        self.calls.append((candidates.copy(), rollouts, purpose, index))
        heights = torch.from_numpy(-np.square(candidates - SUMMIT).sum(1)).float()
        # The rollouts differ, around the height.
        spread = torch.arange(rollouts) - (rollouts - 1) / 2
        returns = self.spoiled(heights[:, None] + spread, purpose)
        ended = torch.ones_like(returns, dtype=torch.bool)
        return RolloutResult(returns, torch.full(returns.shape, 7), ended)

    def spoiled(self, returns: torch.Tensor, purpose: str) -> torch.Tensor:
        return returns


class FirstFails(Hill):
    """One return of the first candidate is NaN; all others do equally well."""

    def spoiled(self, returns: torch.Tensor, purpose: str) -> torch.Tensor:
        returns = torch.full_like(returns, 5.0)
        if purpose == "training dreams":
            returns[0, -1] = torch.nan
        return returns


class MeanFails(Hill):
    """In the final dreams the distribution's mean fails."""

    def spoiled(self, returns: torch.Tensor, purpose: str) -> torch.Tensor:
        if purpose != "training dreams":
            returns[0, 0] = torch.nan
        return returns


class BestFails(Hill):
    """In the final dreams the best candidate returns infinity."""

    def spoiled(self, returns: torch.Tensor, purpose: str) -> torch.Tensor:
        if purpose != "training dreams":
            returns[1, 0] = torch.inf
        return returns


class AllFail(Hill):
    """No candidate ever returns a finite number in training."""

    def spoiled(self, returns: torch.Tensor, purpose: str) -> torch.Tensor:
        if purpose == "training dreams":
            returns[:] = -torch.inf
        return returns


class FinalsFail(Hill):
    """No finalist returns a finite number."""

    def spoiled(self, returns: torch.Tensor, purpose: str) -> torch.Tensor:
        if purpose == "final dreams":
            returns[:] = torch.nan
        return returns


class Slow(Hill):
    """A generation takes two seconds, by a clock of its own."""

    now = 0.0

    def evaluate(
        self, candidates: np.ndarray, rollouts: int, purpose: str, *index: int
    ) -> RolloutResult:
        self.now += 2
        return super().evaluate(candidates, rollouts, purpose, *index)


class Interrupted(Slow):
    """Ctrl-C in the middle of the generation given."""

    generation = 0

    def evaluate(
        self, candidates: np.ndarray, rollouts: int, purpose: str, *index: int
    ) -> RolloutResult:
        if index == (self.generation,):
            raise KeyboardInterrupt
        return super().evaluate(candidates, rollouts, purpose, *index)


def last(
    evaluator: DreamEvaluator,
    options: EvolutionOptions,
    seed: int = 1,
    before: SearchState | None = None,
) -> SearchState:
    return list(evolve(evaluator, options, seed, before))[-1]


def reproducible(state: SearchState) -> pd.DataFrame:
    return state.fitness_log.drop(columns=CLOCKED)


def assert_same(found: SearchState, expected: SearchState) -> None:
    for name in ("conditions", "stopped"):
        assert getattr(found, name) == getattr(expected, name)
    for name in ("mean", "best"):
        assert np.array_equal(getattr(found, name), getattr(expected, name))
    pd.testing.assert_frame_equal(
        reproducible(found), reproducible(expected), check_exact=True
    )
    pd.testing.assert_frame_equal(
        found.candidate_log, expected.candidate_log, check_exact=True
    )


@pytest.fixture
def heard() -> Iterator[list[tuple[str, int, dict[str, float], list[str]]]]:
    """What listeners heard: name, step, scalars, and the names of the weights."""
    records: list[tuple[str, int, dict[str, float], list[str]]] = []

    def listen(
        name: str,
        step: int,
        scalars: Mapping[str, float],
        weights: Mapping[str, np.ndarray],
    ) -> None:
        records.append((name, step, dict(scalars), list(weights)))

    progress.listeners.append(listen)
    yield records
    progress.listeners.remove(listen)


def test_same_seed_same_log_other_seed_other_log(
    evaluator: DreamEvaluator, options: EvolutionOptions
) -> None:
    first, again, other = (last(evaluator, options, seed) for seed in (1, 1, 2))
    assert_same(again, first)
    for name in ("best", "mean", "worst", "sigma"):
        assert not first.fitness_log[name].equals(other.fitness_log[name])


def test_other_dreams_another_log(
    evaluator: DreamEvaluator, options: EvolutionOptions
) -> None:
    first = last(evaluator, options)
    evaluator.seed = 2
    other = last(evaluator, options)
    assert not first.fitness_log["mean"].equals(other.fitness_log["mean"])


def test_the_log_says_what_the_dreams_returned(
    evaluator: DreamEvaluator, options: EvolutionOptions
) -> None:
    hill = Hill(evaluator)
    state = last(hill, options)
    log = state.fitness_log
    assert list(log.columns) == [
        "generation",
        "evaluations",
        "best",
        "mean",
        "median",
        "worst",
        "std",
        "sigma",
        "axis_ratio",
        "best_so_far",
        "non_finite",
        "steps",
        *CLOCKED,
    ]
    assert log["generation"].tolist() == [0, 1, 2, 3]
    assert log["evaluations"].tolist() == [4, 8, 12, 16]
    assert log["steps"].tolist() == [4 * 3 * 7] * 4
    assert log["non_finite"].tolist() == [0] * 4
    assert (log["sigma"] > 0).all()
    assert (log["axis_ratio"] >= 1).all()
    assert (log[CLOCKED] > 0).all(axis=None)
    assert len(hill.calls) == 4
    for row, (candidates, *_) in zip(log.itertuples(), hill.calls, strict=True):
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


def test_the_candidate_log_has_a_row_a_candidate_and_generation(
    evaluator: DreamEvaluator, options: EvolutionOptions
) -> None:
    hill = Hill(evaluator)
    log = last(hill, options).candidate_log
    assert list(log.columns) == [
        "generation",
        "candidate",
        "fitness",
        "std",
        "steps",
    ]
    assert list(zip(log["generation"], log["candidate"], strict=True)) == list(
        itertools.product(range(4), range(4))
    )
    asked = np.concatenate([call[0] for call in hill.calls])
    heights = -np.square(asked - SUMMIT).sum(1)
    np.testing.assert_allclose(log["fitness"], heights, rtol=1e-5)
    # Three rollouts, 1 apart.
    np.testing.assert_allclose(log["std"], (2 / 3) ** 0.5, rtol=1e-5)
    assert log["steps"].tolist() == [3 * 7] * 16


def test_generations_share_no_dreams_and_the_final_ones_are_fresh(
    evaluator: DreamEvaluator, options: EvolutionOptions
) -> None:
    hill = Hill(evaluator)
    select(hill, last(hill, options), 5)
    assert [call[1:] for call in hill.calls] == [
        *((3, "training dreams", (generation,)) for generation in range(4)),
        (5, "final dreams", ()),
    ]
    assert [len(call[0]) for call in hill.calls] == [4, 4, 4, 4, 2]


def test_the_search_climbs_and_selects_a_controller_near_the_summit(
    evaluator: DreamEvaluator,
) -> None:
    hill = Hill(evaluator)
    state = last(hill, plan(generations=80, population=16, sigma=0.3))
    log = state.fitness_log
    assert log["mean"].iloc[-1] > -0.1 > log["mean"].iloc[0]
    result = select(hill, state, 5)
    found = result.controller.parameters_vector.numpy()
    np.testing.assert_allclose(found, SUMMIT, atol=0.15)
    assert result.controller.config() == evaluator.controller.config()


@pytest.mark.parametrize("winner", [0, 1])
def test_the_better_of_mean_and_best_is_selected(
    evaluator: DreamEvaluator, options: EvolutionOptions, winner: int
) -> None:
    hill = Hill(evaluator)
    state = last(hill, options)
    asked = np.concatenate([call[0] for call in hill.calls])
    best = asked[np.square(asked - SUMMIT).sum(1).argmin()]
    assert np.array_equal(state.best, best)
    # Which of the two wins is luck, so one of them is put on the summit.
    object.__setattr__(state, ("mean", "best")[winner], SUMMIT)
    result = select(hill, state, 5)
    assert np.array_equal(hill.calls[-1][0], [state.mean, state.best])
    assert result.selected == ("mean", "best")[winner]
    heights = -np.square(hill.calls[-1][0] - SUMMIT).sum(1)
    assert list(result.scores) == ["mean", "best"]
    np.testing.assert_allclose(list(result.scores.values()), heights, atol=1e-5)
    expected = torch.from_numpy(SUMMIT).float()
    assert torch.equal(result.controller.parameters_vector, expected)


def test_a_failed_candidate_is_counted_and_never_the_best(
    evaluator: DreamEvaluator, options: EvolutionOptions
) -> None:
    failing = FirstFails(evaluator)
    state = last(failing, options)
    log = state.fitness_log
    assert log["non_finite"].tolist() == [1] * 4
    assert log[["best", "worst", "best_so_far"]].eq(5.0).all(axis=None)
    failed = np.stack([call[0][0] for call in failing.calls])
    assert not (failed == state.best).all(1).any()
    # As measured: what failed stays visible.
    measured = state.candidate_log["fitness"].to_numpy().reshape(4, 4)
    assert np.isnan(measured[:, 0]).all()
    assert (measured[:, 1:] == 5).all()


@pytest.mark.parametrize(("kind", "winner"), [(MeanFails, "best"), (BestFails, "mean")])
def test_a_finalist_that_fails_is_not_selected(
    evaluator: DreamEvaluator,
    options: EvolutionOptions,
    kind: type[Hill],
    winner: str,
) -> None:
    failing = kind(evaluator)
    state = last(failing, options)
    result = select(failing, state, 5)
    assert result.selected == winner
    expected = torch.from_numpy(getattr(state, winner)).float()
    assert torch.equal(result.controller.parameters_vector, expected)


def test_a_search_in_which_all_fail_is_no_success(
    evaluator: DreamEvaluator, options: EvolutionOptions
) -> None:
    failing = AllFail(evaluator)
    search = evolve(failing, options, 1)
    *_, state = itertools.islice(search, options.generations)
    with pytest.raises(InputError, match="found none in 4 generations"):
        next(search)
    # The logs say how it went.
    assert state.fitness_log["non_finite"].tolist() == [4] * 4
    assert state.fitness_log["best_so_far"].tolist() == [-np.inf] * 4
    assert state.stopped is None
    with pytest.raises(InputError, match="found none in 4 generations"):
        list(evolve(failing, options, 1, state))


def test_finalists_that_both_fail_are_no_controller(
    evaluator: DreamEvaluator, options: EvolutionOptions
) -> None:
    failing = FinalsFail(evaluator)
    with pytest.raises(InputError, match="found nan and nan"):
        select(failing, last(failing, options), 5)


def test_the_evaluators_own_controller_is_left_alone(
    evaluator: DreamEvaluator, options: EvolutionOptions
) -> None:
    result = select(evaluator, last(evaluator, options), 5)
    assert result.controller is not evaluator.controller
    assert not evaluator.controller.parameters_vector.any()


def test_the_search_of_another_controller_is_refused(
    evaluator: DreamEvaluator, options: EvolutionOptions
) -> None:
    state = last(evaluator, options)
    other = replace(state, mean=state.mean[1:], best=state.best[1:])
    with pytest.raises(InputError, match=r"search state: expected the .* parameters"):
        select(evaluator, other, 5)


def test_a_state_whose_log_lacks_a_column_is_not_resumed(
    evaluator: DreamEvaluator, options: EvolutionOptions
) -> None:
    state = last(evaluator, options)
    other = replace(state, fitness_log=state.fitness_log.drop(columns="best_so_far"))
    with pytest.raises(InputError, match="expected a fitness log with best_so_far"):
        last(evaluator, options, before=other)


@pytest.mark.parametrize("kind", ["full", "separable"])
@pytest.mark.parametrize("stopped_after", [1, 2, 3, 6])
def test_a_search_goes_on_from_a_file_as_if_it_had_never_stopped(
    evaluator: DreamEvaluator, tmp_path: Any, kind: Kind, stopped_after: int
) -> None:
    options = plan(generations=7, kind=kind)
    whole = last(evaluator, options)
    first = last(evaluator, plan(generations=stopped_after, kind=kind))
    save_state(tmp_path / "state", first)
    resumed = last(evaluator, options, before=load_state(tmp_path / "state"))
    assert_same(resumed, whole)
    expected, found = (select(evaluator, state, 5) for state in (whole, resumed))
    assert found.selected == expected.selected
    assert found.scores == expected.scores
    assert torch.equal(
        found.controller.parameters_vector, expected.controller.parameters_vector
    )


@given(
    stops=st.lists(st.integers(1, 11), min_size=1, max_size=4),
    kind=st.sampled_from(["full", "separable", "vd", "vkd", "random"]),
    population=st.integers(4, 7),
)
@settings(max_examples=25, deadline=None)
def test_however_often_a_search_is_stopped_its_course_is_the_same(
    stops: list[int], kind: Kind, population: int
) -> None:
    twelve = LINEAR.model_copy(update={"policy": "gaussian"})  # parameters
    hill = Hill(mock_evaluator(Controller(twelve, 2, 4, 1)))
    whole = last(hill, plan(generations=12, kind=kind, population=population))
    state = None
    for generations in (*sorted(stops), 12):
        options = plan(generations=generations, kind=kind, population=population)
        state = last(hill, options, before=state)
    assert state is not None
    assert_same(state, whole)


def test_a_state_is_not_changed_by_the_search_that_goes_on_from_it(
    evaluator: DreamEvaluator, options: EvolutionOptions
) -> None:
    states = list(evolve(Hill(evaluator), options, 1))
    again = list(evolve(Hill(evaluator), options, 1))
    last(Hill(evaluator), plan(generations=9), before=states[1])
    for state, expected in zip(states, again, strict=True):
        assert_same(state, expected)


@pytest.mark.parametrize(
    ("save_every", "expected"),
    [
        (0, [1, 2, 3, 4, 5]),
        (2, [1, 2, 3, 4, 5]),
        (3, [2, 4, 5]),
        (10, [5]),
        (1e9, [5]),
    ],
)
def test_states_come_as_often_as_asked_and_at_the_end(
    evaluator: DreamEvaluator,
    monkeypatch: pytest.MonkeyPatch,
    save_every: float,
    expected: list[int],
) -> None:
    options = plan(generations=5, save_every=save_every)
    slow = Slow(evaluator)
    monkeypatch.setattr(training.time, "monotonic", lambda: slow.now)
    states = list(evolve(slow, options, 1))
    assert [state.generations for state in states] == expected
    assert [len(state.candidate_log) for state in states] == [4 * n for n in expected]
    assert [state.stopped for state in states[:-1]] == [None] * (len(states) - 1)
    assert states[-1].stopped == "all 5 generations are done"


def test_states_are_saved_while_the_search_goes_on(
    evaluator: DreamEvaluator, options: EvolutionOptions
) -> None:
    hill = Hill(evaluator)
    states = evolve(hill, options, 1)
    assert next(states).generations == 1
    assert len(hill.calls) == 1


def test_a_mean_return_that_is_reached_ends_the_search(
    evaluator: DreamEvaluator,
) -> None:
    climb = {"generations": 60, "population": 16, "sigma": 0.3}
    means = last(Hill(evaluator), plan(**climb)).fitness_log["mean"]
    goal = float(means[20])
    state = last(Hill(evaluator), plan(**climb, mean_return=goal))
    assert state.generations == int((means >= goal).argmax()) + 1 < 60
    assert state.stopped == f"a mean return of {goal:g} was reached"


def test_a_budget_of_seconds_ends_the_search_and_counts_those_before(
    evaluator: DreamEvaluator, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A clock that says a second later whenever it is asked: 3 seconds a generation.
    ticks: Callable[[], float] = itertools.count().__next__
    monkeypatch.setattr(training.time, "perf_counter", ticks)
    state = last(Hill(evaluator), plan(generations=50, seconds=10.0))
    assert state.generations == 4
    assert state.stopped == "the budget of 10 seconds is spent"
    log = state.fitness_log
    assert log[CLOCKED[:3]].eq(1).all(axis=None)
    assert log["steps_per_second"].eq(4 * 3 * 7).all()
    first = last(Hill(evaluator), plan(generations=2))
    resumed = last(Hill(evaluator), plan(generations=50, seconds=10.0), before=first)
    assert resumed.generations == 4


def test_a_budget_of_steps_ends_it_with_a_whole_generation(
    evaluator: DreamEvaluator, caplog: pytest.LogCaptureFixture
) -> None:
    whole = last(evaluator, plan(generations=6)).fitness_log["steps"]
    spent = int(whole[:3].sum())
    for steps, generations in ((spent, 3), (spent + 1, 4)):
        state = last(evaluator, plan(generations=6, steps=steps))
        assert state.stopped == f"the budget of {steps:,} steps is spent"
        assert state.fitness_log["steps"].tolist() == whole[:generations].tolist()
    # Its progress is told in steps.
    caplog.set_level("INFO")
    last(evaluator, plan(generations=6, steps=spent))
    assert f"Training C: {spent} steps to go" in caplog.text
    # A search that goes on counts what was spent before.
    before = last(evaluator, plan(generations=2))
    (*_, state) = evolve(evaluator, plan(generations=6, steps=spent), 1, before)
    assert state.generations == 3


def test_pycmas_own_criteria_end_a_search_that_converged_if_asked(
    evaluator: DreamEvaluator,
) -> None:
    climb = {"generations": 120, "population": 6}
    flat = FirstFails(evaluator)
    assert last(flat, plan(**climb)).generations == 120
    state = last(flat, plan(**climb, converged=True))
    assert state.generations < 120
    assert state.stopped is not None
    assert state.stopped.startswith("pycma stopped by tol")


def test_a_finished_search_returns_at_once_with_the_same_log(
    evaluator: DreamEvaluator, options: EvolutionOptions
) -> None:
    finished = last(evaluator, options)
    hill = Hill(evaluator)
    states = list(evolve(hill, options, 1, finished))
    assert not hill.calls
    assert len(states) == 1
    assert_same(states[0], finished)
    pd.testing.assert_frame_equal(states[0].fitness_log, finished.fitness_log)


def test_a_finished_search_goes_on_when_it_is_given_more_generations(
    evaluator: DreamEvaluator, options: EvolutionOptions
) -> None:
    hill = Hill(evaluator)
    finished = last(hill, options)
    states = list(evolve(hill, plan(generations=6), 1, finished))
    assert [state.generations for state in states] == [5, 6]
    assert [call[3] for call in hill.calls] == [(n,) for n in range(6)]
    assert states[-1].stopped == "all 6 generations are done"


@pytest.mark.parametrize(
    ("save_every", "generation", "expected"),
    [(0, 3, [1, 2, 3]), (3, 3, [2, 3]), (100, 3, [3]), (3, 2, [2]), (0, 0, [])],
)
def test_ctrl_c_saves_the_last_whole_generation_once_and_is_raised_again(
    evaluator: DreamEvaluator,
    monkeypatch: pytest.MonkeyPatch,
    save_every: float,
    generation: int,
    expected: list[int],
) -> None:
    subject = Interrupted(evaluator)
    subject.generation = generation
    monkeypatch.setattr(training.time, "monotonic", lambda: subject.now)
    states: list[SearchState] = []
    with pytest.raises(KeyboardInterrupt):
        # It keeps what came before the exception.
        states.extend(evolve(subject, plan(6, save_every=save_every), 1))
    assert [state.generations for state in states] == expected
    assert [state.stopped for state in states] == [None] * len(expected)
    if states:
        whole = last(Hill(evaluator), plan(6))
        assert_same(last(Hill(evaluator), plan(6), before=states[-1]), whole)


def test_ctrl_c_in_a_resumed_search_before_its_first_generation_saves_nothing(
    evaluator: DreamEvaluator,
) -> None:
    before = last(Hill(evaluator), plan(2))
    subject = Interrupted(evaluator)
    subject.generation = 2
    states: list[SearchState] = []
    with pytest.raises(KeyboardInterrupt):
        states.extend(evolve(subject, plan(6), 1, before))
    # That state is saved already.
    assert states == []


@pytest.mark.parametrize(
    ("name", "other", "seed"),
    [
        ("rollouts", plan(9, rollouts=4), 1),
        (r"strategy\.kind", plan(9, kind="separable"), 1),
        (r"strategy\.population", plan(9, population=5), 1),
        (r"strategy\.sigma", plan(9, sigma=0.9), 1),
        ("seed", plan(9), 2),
    ],
)
def test_other_options_are_refused_before_anything_is_evaluated(
    evaluator: DreamEvaluator, name: str, other: EvolutionOptions, seed: int
) -> None:
    hill = Hill(evaluator)
    state = last(hill, plan())
    hill.calls.clear()
    with pytest.raises(ValueError, match=rf"controller\.resume.* {name}: it has"):
        list(evolve(hill, other, seed, state))
    assert not hill.calls


def test_a_search_that_has_done_more_is_refused_before_anything_is_evaluated(
    evaluator: DreamEvaluator,
) -> None:
    """What it has found, fewer generations would not have."""
    hill = Hill(evaluator)
    state = last(hill, plan(3))
    hill.calls.clear()
    said = r"controller\.resume: .*evolution\.generations has, 2, found one of 3"
    with pytest.raises(InputError, match=said):
        list(evolve(hill, plan(2), 1, state))
    assert not hill.calls
    assert last(hill, plan(3), before=state).finished


def test_another_world_or_dream_is_refused_before_anything_is_evaluated(
    evaluator: DreamEvaluator,
) -> None:
    hill = Hill(evaluator)
    state = last(hill, plan())
    hill.calls.clear()
    hill.options = DreamOptions(temperature=1.1, max_steps=30)
    with torch.no_grad():
        hill.world_model.mdn_rnn.head.bias[0] += 1
    with pytest.raises(ValueError, match=r"dream\.temperature: .*world_model: "):
        list(evolve(hill, plan(9), 1, state))
    assert not hill.calls


def test_length_and_ends_of_a_search_may_change_when_it_goes_on(
    evaluator: DreamEvaluator,
) -> None:
    state = last(Hill(evaluator), plan())
    other = plan(6, save_every=3, mean_return=1e9, seconds=1e9, converged=True)
    assert last(Hill(evaluator), other, before=state).generations == 6


def test_each_generation_is_heard_once_with_the_weights(
    evaluator: DreamEvaluator,
    heard: list[tuple[str, int, dict[str, float], list[str]]],
) -> None:
    state = last(Hill(evaluator), plan())
    assert [(name, step) for name, step, *_ in heard] == [("C", n) for n in range(4)]
    assert [weights for *_, weights in heard] == [["mean"]] * 4
    log = state.fitness_log
    for row, (_, _, scalars, _) in zip(log.to_dict("records"), heard, strict=True):
        assert scalars == {name: row[name] for name in row if name != "generation"}
        assert all(type(scalar) is float for scalar in scalars.values())
    # A resumed one tells the whole story, for curves that begin at the beginning.
    heard.clear()
    last(Hill(evaluator), plan(6), before=state)
    assert [step for _, step, *_ in heard] == list(range(6))
    assert [weights for *_, weights in heard] == [[]] * 4 + [["mean"]] * 2


def test_the_name_given_is_heard(
    evaluator: DreamEvaluator,
    heard: list[tuple[str, int, dict[str, float], list[str]]],
) -> None:
    list(evolve(Hill(evaluator), plan(1), 1, name="C of vd"))
    assert [name for name, *_ in heard] == ["C of vd"]


def mock_evaluator(controller: Controller | None = None) -> DreamEvaluator:
    return DreamEvaluator(
        mock_world_model(),
        controller or Controller(LINEAR, 2, 4, 1),
        ThresholdActions(kind="threshold", low=0, middle=1, high=2),
        DreamOptions(temperature=1, max_steps=200),
        seed=1,
    )


@pytest.mark.parametrize("kind", ["full", "separable", "vkd"])
def test_a_controller_learns_to_balance_in_the_mock_dream(kind: Kind) -> None:
    evaluator = mock_evaluator()
    search = plan(generations=15, kind=kind, population=16, sigma=1.0, rollouts=8)
    result = select(evaluator, last(evaluator, search), 100)
    trained = result.controller.parameters_vector.numpy()
    fresh = evaluator.evaluate(
        np.stack((np.zeros_like(trained), trained)), 200, "fresh dreams of the test"
    )
    untrained_mean, trained_mean = fresh.returns.double().mean(1).tolist()
    assert untrained_mean < 0.25 * 200
    assert trained_mean >= 0.95 * 200


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
    [
        ("generations", 0),
        ("rollouts", 0),
        ("save_every", -1),
        ("population", 1),
        ("seconds", 0.0),
    ],
)
def test_options_out_of_range_are_refused_by_name(
    options: EvolutionOptions, name: str, value: float
) -> None:
    document = options.model_dump()
    holders = (document, document["strategy"], document["stop"])
    next(holder for holder in holders if name in holder)[name] = value
    with pytest.raises(ValueError, match=name):
        EvolutionOptions.model_validate(document)


def test_by_default_nothing_stops_a_search_and_every_generation_gives_a_state(
    evaluator: DreamEvaluator,
) -> None:
    strategy = StrategyOptions(kind="full", population=4, sigma=1.0)
    options = EvolutionOptions(strategy=strategy, generations=3, rollouts=2)
    states = evolve(Hill(evaluator), options, 1)
    assert [state.generations for state in states] == [1, 2, 3]
    assert options.stop == StopOptions(
        mean_return=None, seconds=None, steps=None, converged=False
    )
