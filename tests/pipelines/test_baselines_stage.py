"""The baselines stage on a catalog in memory, in the mock game."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from kedro.io import DataCatalog

from tests.pipelines.in_memory import catalog_of, options, run_node
from wm_pipeline.common.errors import InputError
from wm_pipeline.models.controller import Controller
from wm_pipeline.pipelines.baselines.nodes import (
    TRAINED_IN,
    BaselinesOptions,
    compare_baselines,
    judge_baselines,
    search_at_random,
    search_cmaes_in_dream,
    search_cmaes_in_game,
    take_actors,
    take_controllers,
    train_in_dream,
    train_in_game,
)
from wm_pipeline.pipelines.blind.nodes import find_blind_policies
from wm_pipeline.pipelines.evaluation.nodes import evaluate
from wm_pipeline.pipelines.mock.nodes import make_mock_world_model
from wm_pipeline.search import ppo
from wm_pipeline.workers.engine import EngineOptions

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def mock(bare_project: Path) -> dict[str, Any]:
    mock = options(bare_project, "mock")
    evaluation = mock["evaluation"].model_copy(update={"episodes": 4})
    blind = mock["blind"].model_copy(update={"games": 2})
    ppo = {"steps": 4096, "update_steps": 1024, "batch_size": 256}
    search = {"population": 8, "rollouts": 2, "sigma": 1.0}
    changed = {"ppo": ppo, "search": search, "sample_latents": False}
    baselines = mock["baselines"].model_dump() | changed
    return mock | {
        "engine": EngineOptions(workers=1),
        "evaluation": evaluation,
        "blind": blind,
        "baselines": BaselinesOptions.model_validate(baselines),
    }


@pytest.fixture(scope="module")
def played(
    mock: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> DataCatalog:
    """What all nodes of the stage have left."""
    catalog = catalog_of(mock, tmp_path_factory.mktemp("played"))
    run_node(catalog, "mock", make_mock_world_model)
    world_model = catalog.load("world_model")
    outputs = mock["environment"].actions.outputs
    model = mock["controller"].model
    catalog["controller"] = Controller.for_world(model, world_model, outputs)
    run_node(catalog, "blind", find_blind_policies)
    run_node(catalog, "evaluation", evaluate)
    catalog["earlier_search"] = lambda: None
    for name in TRAINED_IN:
        for kind in ("search", "training"):
            catalog[f"earlier_{name}_{kind}"] = lambda: None
    for function in (
        search_cmaes_in_dream,
        search_cmaes_in_game,
        search_at_random,
        take_controllers,
        train_in_dream,
        train_in_game,
        take_actors,
        judge_baselines,
        compare_baselines,
    ):
        run_node(catalog, "baselines", function)
    return catalog


def test_all_play_the_games_of_c(played: DataCatalog) -> None:
    episodes = played.load("baseline_episodes")
    assert (episodes["world"] == "real").all()
    seeds = episodes.groupby("policy")["seed"].agg(list)
    assert all(seeds[name] == seeds["controller"] for name in TRAINED_IN)
    judged = played.load("evaluation_episodes").query("world == 'real'")
    kept = episodes[~episodes["policy"].isin(TRAINED_IN)]
    pd.testing.assert_frame_equal(kept, judged.reset_index(drop=True))

    drawn = {trace.name for trace in played.load("baseline_histogram").data}
    assert {*TRAINED_IN, "controller"} <= drawn


def test_what_ppo_sees_of_z_is_remembered(played: DataCatalog) -> None:
    assert played.load("ppo_game_training").conditions["sample_latents"] is False
    assert "sample_latents" not in played.load("ppo_dream_training").conditions


def test_each_is_compared_with_c_at_a_known_cost(played: DataCatalog) -> None:
    episodes = played.load("baseline_episodes")
    scores = played.load("baseline_scores").set_index("policy")
    means = episodes.groupby("policy")["return"].mean()
    for name in (*TRAINED_IN, "blind"):
        gain = means["controller"] - means[name]
        assert scores.loc[name, "mean"] == pytest.approx(means[name])
        assert scores.loc[name, "gain"] == pytest.approx(gain)
    cost = scores[["dream_steps", "game_steps"]]
    assert cost.loc["ppo_dream"].tolist() == [4096, 0]
    assert cost.loc["ppo_game"].tolist() == [0, 4096]
    # A search ends with the generation in which its steps are spent.
    for name in ("cmaes_dream", "random_search"):
        log = played.load(f"{name}_log")
        assert log["steps"].iloc[-2] < 4096 <= log["steps"].iloc[-1]
        assert cost.loc[name].tolist() == [log["steps"].iloc[-1], 0]
        assert (log["episodes"] == 16).all()
    log = played.load("cmaes_game_log")
    assert cost.loc["cmaes_game"].tolist() == [0, log["steps"].iloc[-1]]
    assert cost.drop(list(TRAINED_IN)).isna().all(axis=None)
    assert scores.loc[list(TRAINED_IN), "seconds"].gt(0).all()
    assert pd.isna(scores.loc["controller", "gain"])


def test_cmaes_learns_and_the_best_candidate_at_random_is_kept(
    played: DataCatalog,
) -> None:
    for name in ("cmaes_dream", "cmaes_game"):
        returns = played.load(f"{name}_log")["mean_return"]
        assert returns.iloc[-1] > 1.5 * returns.iloc[0]
    searched = played.load("random_search_search")
    best = searched.candidate_log["fitness"].idxmax()
    assert searched.fitness_log["best_so_far"].iloc[-1] == pytest.approx(
        searched.candidate_log["fitness"][best]
    )
    found = played.load("random_search").get_parameters().double().numpy()
    assert found == pytest.approx(searched.best)


@pytest.mark.parametrize(
    ("search", "known"), [("cmaes_dream_search", True), ("random_search_search", False)]
)
def test_cs_own_cost_is_known_if_it_came_of_the_newest_search(
    played: DataCatalog, search: str, known: bool
) -> None:
    names = [
        *("baseline_episodes", "world_model", "cmaes_dream"),
        *(f"{name}_log" for name in TRAINED_IN),
    ]
    given = {name: played.load(name) for name in names}
    state, controller = played.load(search), given.pop("cmaes_dream")
    table, _ = compare_baselines(
        given.pop("baseline_episodes"),
        given.pop("world_model"),
        controller,
        lambda: state,
        played.load("params:baselines"),
        *given.values(),
    )
    cost = table.set_index("policy")[["dream_steps", "game_steps", "seconds"]]
    if known:
        assert cost.loc["controller"].tolist() == cost.loc["cmaes_dream"].tolist()
    else:
        assert cost.loc["controller"].isna().all()


def test_what_rounds_cost_is_known_and_what_the_search_before_them(
    played: DataCatalog,
) -> None:
    names = [f"{name}_log" for name in TRAINED_IN]
    logs = [
        pd.DataFrame({"steps": steps, "dream_seconds": 1.0, "update_seconds": 0.5})
        for steps in ([100, 100], [100])
    ]
    # Then C was trained in the game.
    logs.append(
        pd.DataFrame({"steps": [50], "game_seconds": 2.0, "update_seconds": 0.5})
    )
    episodes = played.load("baseline_episodes")
    searched = episodes[episodes["policy"] == "cmaes_dream"].assign(policy="searched")
    table, _ = compare_baselines(
        pd.concat([episodes, searched]),
        played.load("world_model"),
        played.load("controller"),
        lambda: played.load("cmaes_dream_search"),
        played.load("params:baselines"),
        *map(played.load, names),
        played.load("cmaes_dream"),
        pd.DataFrame({"steps": [30, 12]}),
        *logs,
    )
    cost = table.set_index("policy")[["dream_steps", "game_steps", "seconds"]]
    assert cost.loc["controller"].tolist() == [300, 92, 7.0]
    assert cost.loc["searched"].tolist() == cost.loc["cmaes_dream"].tolist()


def test_names_of_the_evaluation_are_not_taken_twice(
    mock: dict[str, Any], played: DataCatalog
) -> None:
    names = ("world_model", *TRAINED_IN)
    model, *policies = (played.load(name) for name in names)
    where = (mock["environment"], mock["engine"], mock["baselines"])
    with pytest.raises(
        ValueError, match=r"ppo_dream, ppo_game, random_search is a bas"
    ):
        judge_baselines(model, played.load("baseline_episodes"), *where, *policies)


def test_uneven_updates_are_refused(mock: dict[str, Any]) -> None:
    given = mock["baselines"].model_dump()
    with pytest.raises(ValueError, match="a multiple of games, 3, found"):
        BaselinesOptions.model_validate(given | {"games": 3})


def test_without_stable_baselines_it_says_what_to_install(
    mock: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog = catalog_of(mock, tmp_path)
    run_node(catalog, "mock", make_mock_world_model)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for function, earlier in (
        (train_in_dream, "earlier_ppo_dream_training"),
        (search_cmaes_in_dream, "earlier_cmaes_dream_search"),
    ):
        catalog[earlier] = lambda: None
        with pytest.raises(ValueError, match=r"baselines: .*wm-pipeline\[sb3\]"):
            run_node(catalog, "baselines", function)


def test_a_training_is_resumed_if_asked_for(
    mock: dict[str, Any], tmp_path: Path
) -> None:
    catalog = catalog_of(mock, tmp_path)
    run_node(catalog, "mock", make_mock_world_model)
    first: dict[str, Any] = {}
    for function, name, kind in (
        (search_cmaes_in_dream, "cmaes_dream", "search"),
        (train_in_dream, "ppo_dream", "training"),
    ):
        catalog[f"earlier_{name}_{kind}"] = lambda: None
        _, first[name] = run_node(catalog, "baselines", function)
    given = mock["baselines"].model_dump()
    more = {"resume": True, "ppo": given["ppo"] | {"steps": 8192}}
    catalog["params:baselines"] = BaselinesOptions.model_validate(given | more)
    catalog["earlier_cmaes_dream_search"] = lambda: first["cmaes_dream"]
    log, state = run_node(catalog, "baselines", search_cmaes_in_dream)
    before = first["cmaes_dream"].fitness_log
    pd.testing.assert_frame_equal(state.fitness_log[: len(before)], before)
    assert log["steps"].iloc[-1] >= 8192
    search = given["search"] | {"sigma": 0.3}
    catalog["params:baselines"] = BaselinesOptions.model_validate(
        given | more | {"search": search}
    )
    with pytest.raises(InputError, match=r"^baselines\.resume: .* strategy\.sigma"):
        run_node(catalog, "baselines", search_cmaes_in_dream)
    catalog["params:baselines"] = BaselinesOptions.model_validate(given | more)
    catalog["earlier_ppo_dream_training"] = lambda: first["ppo_dream"]
    log, state = run_node(catalog, "baselines", train_in_dream)
    assert log["steps"].tolist() == list(range(1024, 8193, 1024))
    assert state.finished


def test_no_game_is_open_where_the_state_to_resume_is_refused(
    mock: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damaged() -> None:
        raise InputError("expected a whole state")

    catalog = catalog_of(mock, tmp_path)
    run_node(catalog, "mock", make_mock_world_model)
    given = mock["baselines"].model_dump() | {"resume": True}
    catalog["params:baselines"] = BaselinesOptions.model_validate(given)
    catalog["earlier_ppo_game_training"] = damaged
    opened: list[Any] = []
    monkeypatch.setattr(ppo, "games", lambda *given: opened.append(given))
    with pytest.raises(InputError, match="expected a whole state"):
        run_node(catalog, "baselines", train_in_game)
    assert not opened
