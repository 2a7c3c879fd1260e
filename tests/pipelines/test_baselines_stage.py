"""The baselines stage on a catalog in memory, in the mock game."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.pipelines.in_memory import catalog_of, options, run_node
from wm_pipeline.models.controller import Controller
from wm_pipeline.pipelines.baselines.nodes import (
    BaselinesOptions,
    compare_baselines,
    judge_baselines,
    train_in_dream,
    train_in_game,
)
from wm_pipeline.pipelines.blind.nodes import find_blind_policies
from wm_pipeline.pipelines.evaluation.nodes import evaluate
from wm_pipeline.pipelines.mock.nodes import make_mock_world_model

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def mock(bare_project: Path) -> dict[str, Any]:
    mock = options(bare_project, "mock")
    evaluation = mock["evaluation"].model_copy(update={"episodes": 4, "workers": 1})
    blind = mock["blind"].model_copy(update={"games": 2, "workers": 1})
    ppo = {"steps": 4096, "update_steps": 1024, "batch_size": 256}
    baselines = mock["baselines"].model_dump() | {"ppo": ppo, "workers": 1}
    return mock | {
        "evaluation": evaluation,
        "blind": blind,
        "baselines": BaselinesOptions.model_validate(baselines),
    }


def test_ppo_plays_the_games_of_c(mock: dict[str, Any], tmp_path: Path) -> None:
    catalog = catalog_of(mock, tmp_path)
    run_node(catalog, "mock", make_mock_world_model)
    world_model = catalog.load("world_model")
    outputs = mock["environment"].actions.outputs
    model = mock["controller"].model
    catalog["controller"] = Controller.for_world(model, world_model, outputs)
    run_node(catalog, "blind", find_blind_policies)
    run_node(catalog, "evaluation", evaluate)
    for function in (
        train_in_dream,
        train_in_game,
        judge_baselines,
        compare_baselines,
    ):
        run_node(catalog, "baselines", function)
    episodes = catalog.load("baseline_episodes")
    assert (episodes["world"] == "real").all()
    seeds = episodes.groupby("policy")["seed"].agg(list)
    assert seeds["ppo_dream"] == seeds["ppo_game"] == seeds["controller"]
    judged = catalog.load("evaluation_episodes").query("world == 'real'")
    kept = episodes[~episodes["policy"].str.startswith("ppo")]
    pd.testing.assert_frame_equal(kept, judged.reset_index(drop=True))

    scores = catalog.load("baseline_scores").set_index("policy")
    means = episodes.groupby("policy")["return"].mean()
    for name in ("ppo_dream", "ppo_game", "blind"):
        gain = means["controller"] - means[name]
        assert scores.loc[name, "mean"] == pytest.approx(means[name])
        assert scores.loc[name, "gain"] == pytest.approx(gain)
    cost = scores[["dream_steps", "game_steps"]]
    assert cost.loc["ppo_dream"].tolist() == [4096, 0]
    assert cost.loc["ppo_game"].tolist() == [0, 4096]
    assert cost.drop(["ppo_dream", "ppo_game"]).isna().all(axis=None)
    assert scores.loc[["ppo_dream", "ppo_game"], "seconds"].gt(0).all()
    assert pd.isna(scores.loc["controller", "gain"])
    drawn = {trace.name for trace in catalog.load("baseline_histogram").data}
    assert {"ppo_dream", "ppo_game", "controller"} <= drawn

    catalog["evaluation_episodes"] = catalog.load("baseline_episodes")
    with pytest.raises(ValueError, match=r"ppo_dream, ppo_game is a baseline's name"):
        run_node(catalog, "baselines", judge_baselines)


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
    with pytest.raises(ValueError, match=r"baselines: .*wm-pipeline\[sb3\]"):
        run_node(catalog, "baselines", train_in_dream)
