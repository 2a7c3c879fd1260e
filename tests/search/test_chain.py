"""Runs with some options changed: what they set, make, report and depend on."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kedro.pipeline import Node
from pydantic import Field

from wm_pipeline.common.errors import InputError
from wm_pipeline.common.options import Options
from wm_pipeline.common.randomness import game_seeds
from wm_pipeline.common.steps import STEPS
from wm_pipeline.dreaming.evaluator import DreamEvaluator, DreamOptions
from wm_pipeline.environments.actions import ThresholdActions
from wm_pipeline.environments.mock import mock_world_model
from wm_pipeline.environments.real import EnvironmentOptions
from wm_pipeline.episodes.shards import EpisodeShards, Shard
from wm_pipeline.models.controller import Controller, ControllerOptions
from wm_pipeline.models.world_model import WorldModel
from wm_pipeline.policies.controller_policy import ControllerPolicy
from wm_pipeline.search.chain import (
    ENDLESS,
    Chain,
    ChainRuns,
    Judge,
    _alone,
    changed_options,
)
from wm_pipeline.search.loop import EvolutionOptions, evolve
from wm_pipeline.search.selection import select
from wm_pipeline.search.state import SearchState
from wm_pipeline.search.strategies import StrategyOptions
from wm_pipeline.workers.engine import LOCAL
from wm_pipeline.workers.evaluators import EvaluatorOptions
from wm_pipeline.workers.playing import Player

ACTIONS = ThresholdActions(kind="threshold", low=0, middle=1, high=2)
DREAM = DreamOptions(temperature=1, max_steps=50)
BALANCE = EnvironmentOptions.model_validate(
    {
        "id": "wm_pipeline.environments:wm_pipeline/Balance-v0",
        "max_steps": 60,
        "actions": ACTIONS.model_dump(),
    }
)


class Searched(Options):
    """What a stage with a search has."""

    seed: int = 1
    resume: bool = True
    push: float = 0.0
    start: str = "zero"
    model: ControllerOptions = ControllerOptions()
    evaluator: EvaluatorOptions = EvaluatorOptions(workers=3)
    evolution: EvolutionOptions = EvolutionOptions(
        strategy=StrategyOptions(kind="full", population=4, sigma=1.0),
        generations=4,
        rollouts=2,
        save_every=1000,
    )


def evaluator(world_model: WorldModel, dream: DreamOptions) -> DreamEvaluator:
    controller = Controller.for_world(ControllerOptions(), world_model, 1)
    return DreamEvaluator(world_model, controller, ACTIONS, dream, 1)


def search(
    world_model: WorldModel, dream: DreamOptions, options: Searched
) -> Iterator[tuple[int, SearchState]]:
    assert not options.resume
    assert options.evaluator.workers == 0
    for state in evolve(evaluator(world_model, dream), options.evolution, options.seed):
        yield state.generations, state


def choose(
    world_model: WorldModel, dream: DreamOptions, options: Searched, state: SearchState
) -> Controller:
    controller = select(evaluator(world_model, dream), state, 2).controller
    moved = controller.get_parameters() + options.push
    controller.set_parameters(moved)
    return controller


def write(options: Searched) -> Iterator[Shard]:
    for index in range(2):
        yield Shard(index, 2, [{"value": np.full(3, options.seed + index)}])


def read(sets: EpisodeShards) -> int:
    return int(sets.read(1)["value"][0])


READS = ["world_model", "params:dream", "params:controller"]
CHAIN = Chain(
    (
        Node(search, READS, ["log", "search_state"], name="search"),
        Node(choose, [*READS, "search_state"], "controller", name="choose"),
        Node(write, ["params:controller"], "sets", name="write"),
        Node(read, "sets", "read_again", name="read"),
    )
)
JUDGE = Judge(5, "test", "real", 6, False)


@pytest.fixture
def inputs() -> dict[str, Any]:
    return {
        "world_model": mock_world_model(),
        "params:environment": BALANCE,
        "params:engine": LOCAL,
        "params:dream": DREAM,
        "params:controller": Searched(),
        "earlier": lambda: None,
    }


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def returns_of(controller: Controller, world_model: WorldModel, n: int) -> list[float]:
    """In the first of the judge's games."""
    policy = ControllerPolicy(world_model, controller, ACTIONS, False)
    player = Player(BALANCE, {"controller": policy})
    played = player.play("controller", JUDGE.games[:n], frames="none")
    player.close()
    return [float(episode.rewards.sum()) for episode in played]


@pytest.mark.usefixtures("here")
def test_a_run_goes_on_as_far_as_it_is_asked_to(inputs: dict[str, Any]) -> None:
    values, before = {"controller.seed": 7, "controller.push": 0.25}, STEPS.taken()
    states = [
        state
        for _, state in search(
            inputs["world_model"],
            DREAM,
            Searched(
                seed=7,
                resume=False,
                evaluator=EvaluatorOptions(workers=0),
                evolution=Searched().evolution.model_copy(update={"save_every": 0}),
            ),
        )
    ]
    expected = {}
    for generations in (2, 3):
        mean = Controller.for_world(ControllerOptions(), inputs["world_model"], 1)
        mean.set_parameters(torch.from_numpy(states[generations - 1].mean).float())
        expected[generations] = returns_of(mean, inputs["world_model"], 2)
    chosen = choose(
        inputs["world_model"], DREAM, Searched(seed=7, push=0.25), states[-1]
    )
    dreamed = STEPS.taken()["dream"] - before["dream"]
    judged = returns_of(chosen, inputs["world_model"], 6)
    runs, played = ChainRuns(CHAIN, inputs, JUDGE), 0
    for generations in (2, 3):
        report = runs.advance(0, values, generations, 2)
        assert (report.generation, report.over) == (generations, False)
        assert report.returns.tolist() == expected[generations]
        played += int(sum(expected[generations]))  # the game pays 1 a step
        assert report.game_steps == played
    report = runs.advance(0, values, ENDLESS, 2)
    assert (report.generation, report.over) == (4, True)
    assert report.returns.tolist() == judged
    # What the search and the choice among its candidates took.
    assert report.dream_steps == dreamed > states[-1].fitness_log["steps"].sum()
    assert report.game_steps == played + sum(judged)
    assert report.value == pytest.approx(report.returns.mean())
    assert report.error == pytest.approx(report.returns.std(ddof=1) / 6**0.5)


@pytest.mark.usefixtures("here")
def test_another_number_is_another_run(inputs: dict[str, Any]) -> None:
    runs = ChainRuns(CHAIN, inputs, JUDGE)
    first = runs.advance(0, {"controller.seed": 7}, 2, 2)
    other = runs.advance(1, {"controller.seed": 8}, ENDLESS, 2)
    assert other.over
    again = runs.advance(2, {"controller.seed": 7}, 2, 2)
    assert again.returns.tolist() == first.returns.tolist()
    assert again.game_steps == first.game_steps


@pytest.mark.usefixtures("here")
def test_a_run_that_is_left_closes_what_it_holds(inputs: dict[str, Any]) -> None:
    closed: list[int] = []

    def held(*read: Any) -> Iterator[tuple[int, SearchState]]:
        try:
            yield from search(*read)
        finally:
            closed.append(1)

    node = Node(held, READS, ["log", "search_state"], name="search")
    runs = ChainRuns(replace(CHAIN, nodes=(node,)), inputs, JUDGE)
    runs.close()
    runs.advance(0, {}, 2, 2)
    assert closed == []
    runs.close()
    assert closed == [1]


@pytest.mark.usefixtures("here")
def test_sets_of_episodes_are_read_from_the_runs_own_folder(
    inputs: dict[str, Any], tmp_path: Path
) -> None:
    runs = ChainRuns(CHAIN, inputs, JUDGE)
    runs.advance(0, {"controller.seed": 7}, ENDLESS, 2)
    assert runs._held["read_again"] == 8
    assert (tmp_path / "run" / "sets").is_dir()


@pytest.mark.usefixtures("here")
def test_a_run_that_fails_begins_anew(inputs: dict[str, Any]) -> None:
    runs = ChainRuns(CHAIN, inputs, JUDGE)
    for _ in range(2):
        with pytest.raises(ValueError, match="population"):
            runs.advance(0, {"controller.evolution.strategy.population": 1}, 2, 2)
    assert runs.advance(0, {}, 2, 2).generation == 2


@pytest.mark.usefixtures("here")
def test_dreams_that_judge_are_those_of_the_options_that_stay(
    inputs: dict[str, Any],
) -> None:
    judge = Judge(5, "test", "dream", 6, False)
    other = ChainRuns(CHAIN, inputs, judge)
    # The search has short dreams, and what it finds is judged in long ones.
    changed = other.advance(0, {"dream.max_steps": 5}, ENDLESS, 2)
    # The search has dreams of 5 steps at most, as has the choice among its candidates.
    assert changed.dream_steps - changed.returns.sum() <= (4 * 4 + 4) * 2 * 5
    assert changed.returns.max() > 5
    controller = other._held["controller"]
    candidate = controller.get_parameters().double().numpy()[None]
    dreams = DreamEvaluator(inputs["world_model"], controller, ACTIONS, DREAM, 5)
    expected = dreams.evaluate(candidate, 6, "test dreams").returns[0]
    assert changed.returns.tolist() == expected.tolist()
    assert changed.game_steps == 0


def test_what_c_depends_on_is_told_and_the_rest_is_not(inputs: dict[str, Any]) -> None:
    found = CHAIN.conditions(inputs)
    for name, value in (
        ("params:controller", Searched(resume=False)),
        ("params:controller", Searched(evaluator=EvaluatorOptions(workers=1))),
        ("params:engine", LOCAL.model_copy(update={"workers": 9})),
        ("earlier", lambda: 1),
    ):
        assert CHAIN.conditions({**inputs, name: value}) == found
    other = mock_world_model()
    with torch.no_grad():
        next(other.parameters()).add_(1)
    for name, value in (
        ("params:controller", Searched(seed=2)),
        ("params:dream", DreamOptions(temperature=2, max_steps=50)),
        ("world_model", other),
    ):
        assert CHAIN.conditions({**inputs, name: value}) != found
    assert Chain().conditions(inputs) != found


def test_a_run_plays_in_as_many_workers_as_it_has_threads() -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        assert _alone(LOCAL.model_copy(update={"workers": 9})).workers == 3
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize(
    ("start", "changed"), [("newest", []), ("zero", ["controller.start"])]
)
def test_where_a_search_begins_counts(
    inputs: dict[str, Any], start: str, changed: list[str]
) -> None:
    inputs["params:controller"] = Searched(start=start)

    def conditions(earlier: Controller | None) -> dict[str, Any]:
        given = {**inputs, "earlier_controller": lambda: earlier}
        return CHAIN.conditions(given, changed)

    controller = Controller.for_world(ControllerOptions(), mock_world_model(), 1)
    before = conditions(controller)
    assert before != conditions(None) == CHAIN.conditions(inputs)
    controller.set_parameters(torch.ones(controller.size))
    assert conditions(controller) != before


def test_a_newer_controller_counts_for_nothing_where_none_begins_at_it(
    inputs: dict[str, Any],
) -> None:
    """A study, or an ablation, goes on behind a run that has made another."""
    controller = Controller.for_world(ControllerOptions(), mock_world_model(), 1)
    given = {**inputs, "earlier_controller": lambda: controller}
    assert CHAIN.conditions(given, ["controller.push"]) == CHAIN.conditions(inputs)


class Followed(Options):
    """Options that others take."""

    steps: int = 1
    push: float = 0.5
    model: ControllerOptions = ControllerOptions()


class Narrow(Options):
    """Options of which one is refused where another is not."""

    steps: int = Field(default=1, le=2)


FOLLOWS = {
    "second.steps": "first.steps",
    "first.steps": "zeroth.steps",
    "second.push": "first.push",
    "second.model": "first.model",
    "second.seed": "seed",  # of no group
    "other.steps": "first.steps",  # of a group that nobody reads
}


def test_who_refers_to_a_changed_option_follows_it() -> None:
    groups = {name: Followed() for name in ("zeroth", "first", "second")}
    assert changed_options(groups, {}, FOLLOWS) == groups
    found = changed_options(groups, {"zeroth.steps": 3}, FOLLOWS)
    assert [each.steps for each in found.values()] == [3, 3, 3]
    # Whoever is given a value of its own has that.
    given = {"first.push": 0.1, "second.push": 0.2, "first.steps": 4}
    found = changed_options(groups, given, FOLLOWS)
    assert [each.push for each in found.values()] == [0.5, 0.1, 0.2]
    assert [each.steps for each in found.values()] == [1, 4, 4]
    found = changed_options(groups, {"first.model.hidden_sizes": [4]}, FOLLOWS)
    sizes = [each.model.hidden_sizes for each in found.values()]
    assert sizes == [(), (4,), (4,)]
    own = {"first.model.hidden_sizes": [4], "second.model.hidden_sizes": [5]}
    found = changed_options(groups, own, FOLLOWS)
    assert found["second"].model.hidden_sizes == (5,)


def test_a_value_that_suits_its_option_and_no_follower_is_refused() -> None:
    groups = {"first": Followed(), "second": Narrow()}
    follows = {"second.steps": "first.steps"}
    assert changed_options(groups, {"first.steps": 2}, follows)["second"].steps == 2
    with pytest.raises(InputError) as refused:
        changed_options(groups, {"first.steps": 3}, follows)
    assert str(refused.value) == (
        "second.steps takes 3 of first.steps: steps: Input should be less than or equal "
        "to 2"
    )


@pytest.mark.usefixtures("here")
def test_a_run_follows_what_refers_to_its_options(inputs: dict[str, Any]) -> None:
    follows = {"dream.max_steps": "environment.max_steps"}
    chain = replace(CHAIN, references=follows)
    inputs["params:dream"] = DreamOptions(temperature=1, max_steps=60)
    runs = ChainRuns(chain, inputs, JUDGE)
    report = runs.advance(0, {"environment.max_steps": 5}, ENDLESS, 2)
    assert report.dream_steps <= (4 * 4 + 4) * 2 * 5
    assert chain.conditions(inputs) != CHAIN.conditions(inputs)


@pytest.mark.usefixtures("here")
def test_returns_that_are_not_finite_are_refused(
    inputs: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = ChainRuns(CHAIN, inputs, JUDGE)
    monkeypatch.setattr(runs, "_play", lambda *_: np.array([1.0, np.nan]))
    with pytest.raises(InputError, match="expected finite returns"):
        runs.advance(0, {}, 2, 2)


def test_references_of_others_do_not_count(inputs: dict[str, Any]) -> None:
    elsewhere = {"export.seed": "seed", "pictures.steps": "dream.max_steps"}
    chain = replace(CHAIN, references=elsewhere)
    assert chain.conditions(inputs) == CHAIN.conditions(inputs)


def test_what_no_run_can_change_is_refused() -> None:
    CHAIN.check("here", "controller.seed")
    with pytest.raises(InputError, match=r"^here: .*found vision.seed: no stage"):
        CHAIN.check("here", "vision.seed")
    rounds = Chain((Node(read, "params:rounds", "count", name="count"),))
    rounds.check("here", "rounds.games")
    with pytest.raises(InputError, match=r"^here: .*--params rounds.count=N"):
        rounds.check("here", "rounds.count")


def test_games_that_judge_are_nobody_elses() -> None:
    def games(purpose: str) -> set[int]:
        return set(Judge(1, purpose, "real", 300, False).games)

    evaluated = game_seeds(300, 1, "evaluation")
    assert len(games("validation")) == 300
    assert not games("validation") & {*games("ablation"), *evaluated}


def test_a_chain_says_whether_it_trains_the_world() -> None:
    made = Node(read, "sets", "world_model", name="join")
    trained = Node(read, "sets", "mdn_rnn", name="train")
    assert not CHAIN.trains_the_world
    assert not Chain((made,)).trains_the_world
    assert Chain((made, trained)).trains_the_world
    last = Node(read, "sets", "round_1_world_model", name="round")
    assert Chain((last,), "round_1_world_model").trains_the_world
    assert CHAIN.groups == {"dream", "controller"}
