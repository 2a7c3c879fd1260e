"""From the world model to its pictures on a catalog in memory, node by node."""

import copy
import logging
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from kedro.io import DataCatalog

from tests.pipelines.in_memory import catalog_of, options, run_node
from wm_pipeline.models.controller import Controller
from wm_pipeline.models.vae import ConvVAE
from wm_pipeline.pipelines.blind.nodes import find_blind_policies
from wm_pipeline.pipelines.compare.nodes import compare
from wm_pipeline.pipelines.controller.nodes import (
    search_controller,
    select_controller,
)
from wm_pipeline.pipelines.dream.nodes import measure_dream, measure_sweeps
from wm_pipeline.pipelines.evaluation.nodes import (
    EvaluationOptions,
    evaluate,
    measure_controller,
    summarise,
)
from wm_pipeline.pipelines.mock.nodes import make_mock_world_model
from wm_pipeline.pipelines.pictures.nodes import (
    animate_controller_dreams,
    animate_real_episode,
)
from wm_pipeline.reporting.figures import (
    comparison_figure,
    dream_against_real,
    fitness_curve,
)
from wm_pipeline.search.comparison_state import ComparisonState
from wm_pipeline.search.state import SearchState
from wm_pipeline.workers.engine import EngineOptions

ALONE = EngineOptions(workers=1)
CLOCKED = ["ask_seconds", "evaluate_seconds", "tell_seconds", "steps_per_second"]


def nothing_earlier() -> SearchState:
    raise AssertionError("nothing is resumed")


@pytest.fixture(scope="module")
def mock(bare_project: Path) -> dict[str, Any]:
    """The options of conf/mock, in one process and smaller still."""
    mock = options(bare_project, "mock")
    evaluation = mock["evaluation"].model_copy(update={"episodes": 3, "watched": 12})
    check = mock["dream_check"].model_copy(
        update={"rollouts": 20, "watched": 12, "sweeps": 9}
    )
    blind = mock["blind"].model_copy(update={"games": 2})
    compared = mock["compare"]
    architectures = {
        name: compared.architectures[name] for name in ("linear", "mlp_32")
    }
    smaller = {
        "architectures": architectures,
        "seeds": (1, 2),
        "generations": 2,
        "final_rollouts": 4,
        "real_episodes": 2,
    }
    return mock | {
        "engine": ALONE,
        "evaluation": evaluation,
        "dream_check": check,
        "blind": blind,
        "compare": compared.model_copy(update=smaller),
        "pictures": mock["pictures"].model_copy(update={"frames": 6}),
    }


def searching(mock: dict[str, Any], folder: Path) -> DataCatalog:
    """The mock world, and nothing searched yet."""
    catalog = catalog_of(mock, folder)
    run_node(catalog, "mock", make_mock_world_model)
    catalog["earlier_search"] = catalog["earlier_comparison"] = nothing_earlier
    catalog["earlier_controller"] = nothing_earlier
    return catalog


@pytest.fixture(scope="module")
def judged(
    mock: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> DataCatalog:
    """All that the stages behind the dream make."""
    catalog = searching(mock, tmp_path_factory.mktemp("shards"))
    run_node(catalog, "blind", find_blind_policies)
    for function in (search_controller, select_controller, fitness_curve):
        run_node(catalog, "controller", function)
    for function in (evaluate, summarise):
        run_node(catalog, "evaluation", function)
    for function in (
        animate_real_episode,
        animate_controller_dreams,
        dream_against_real,
    ):
        run_node(catalog, "pictures", function)
    for function in (compare, comparison_figure):
        run_node(catalog, "compare", function)
    return catalog


def test_the_search_is_logged_and_selects_its_controller(judged: DataCatalog) -> None:
    log, choice = judged.load("fitness_log"), judged.load("controller_choice")
    # conf/mock: 15 generations of 16.
    assert log["generation"].tolist() == list(range(15))
    assert log.equals(judged.load("fitness_log_csv"))
    assert len(judged.load("candidate_log")) == 15 * 16
    assert choice["selected"] in {"mean", "best"}
    assert choice["parameters"] == judged.load("controller").size
    best = choice["final_scores"][choice["selected"]]
    assert best == max(choice["final_scores"].values())
    assert judged.load("fitness_curve").data


def test_whoever_came_before_c_plays_the_same_games(
    mock: dict[str, Any], judged: DataCatalog
) -> None:
    """What the search has left holds the pole; the others, all zero, let it fall."""
    world, searched = judged.load("world_model"), judged.load("controller")
    falls = Controller.from_config(searched.config())
    blind = judged.load("blind_policies")
    where = (mock["environment"], ALONE, mock["dream"], mock["evaluation"])
    for holds in ("dreamed", "searched"):
        episodes = evaluate(
            world,
            falls,
            blind,
            *where,
            searched_world_model=world,
            searched_controller=searched if holds == "searched" else falls,
            dreamed_controller=searched if holds == "dreamed" else falls,
        )
        means = episodes.groupby(["world", "policy"])["return"].mean()
        expected = judged.load("evaluation_summary")
        for at in ("dream", "real"):
            mean = expected[at]["controller"]["mean"]
            assert means[at, holds] == pytest.approx(mean)
            fallen = {"controller", "dreamed", "searched"} - {holds}
            assert all(means[at, policy] < mean / 2 for policy in fallen)


def test_the_controller_holds_the_pole_in_both_worlds(judged: DataCatalog) -> None:
    episodes = judged.load("evaluation_episodes")
    summary = judged.load("evaluation_summary")
    means = episodes.groupby(["world", "policy"])["return"].mean()
    for world in ("dream", "real"):
        assert means[world, "controller"] > 2 * means[world, "random_held"]
        mean = summary[world]["controller"]["mean"]
        assert mean == pytest.approx(means[world, "controller"])
    assert (episodes.groupby(["policy", "world"]).size() == 3).all()
    # It balances by what it sees: other games' frames are of no use to it.
    for policy in ("blind", "blindfolded"):
        assert means["real", "controller"] > 2 * means["real", policy]
        assert summary["gains"][policy]["low"] > 0
    assert judged.load("evaluation_histogram").data


@pytest.mark.slow
def test_agents_made_elsewhere_play_the_same_games(
    judged: DataCatalog,
    mock: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = "class Still:\n    def act(self, frame):\n        return 1\n"
    (tmp_path / "wm_test_still.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    still = {"kind": "python", "name": "wm_test_still.Still"}
    stage = mock["evaluation"].model_dump() | {"policies": {"still": still}}
    stage = EvaluationOptions.model_validate(stage)
    catalog = catalog_of(mock | {"evaluation": stage}, tmp_path)
    for name in ("world_model", "controller", "blind_policies"):
        catalog[name] = judged.get(name)
    for function in (evaluate, summarise):
        run_node(catalog, "evaluation", function)
    episodes = catalog.load("evaluation_episodes")
    theirs = episodes[episodes["policy"] == "still"]
    ours = episodes[
        (episodes["policy"] == "controller") & (episodes["world"] == "real")
    ]
    assert (theirs["world"] == "real").all()
    assert theirs["seed"].tolist() == ours["seed"].tolist()
    # Nobody else's games are others for its being there.
    known = episodes[episodes["policy"] != "still"].reset_index(drop=True)
    pd.testing.assert_frame_equal(known, judged.load("evaluation_episodes"))
    gain = catalog.load("evaluation_summary")["gains"]["still"]["mean"]
    assert gain == pytest.approx(ours["return"].mean() - theirs["return"].mean())
    assert "still" in {
        trace.name for trace in catalog.load("evaluation_histogram").data
    }


def test_the_evaluation_depends_on_what_is_in_an_agents_file(
    mock: dict[str, Any], tmp_path: Path
) -> None:
    file = tmp_path / "agent.onnx"
    file.write_bytes(b"one")
    agent = {"kind": "onnx", "file": str(file)}
    stage = mock["evaluation"].model_dump() | {"policies": {"mine": agent}}
    options = EvaluationOptions.model_validate(stage)
    before = options.determining()
    assert options.determining() == before
    file.write_bytes(b"two")
    assert options.determining() != before


def test_the_names_of_agents_are_their_own(mock: dict[str, Any]) -> None:
    agent = {"kind": "python", "name": "fractions.Fraction"}
    stage = mock["evaluation"].model_dump() | {"policies": {"blind": agent}}
    with pytest.raises(ValueError, match="names of their own, found blind"):
        EvaluationOptions.model_validate(stage)


def test_an_agent_that_is_none_is_named(
    judged: DataCatalog, mock: dict[str, Any], tmp_path: Path
) -> None:
    agent = {"kind": "python", "name": "fractions.Fraction"}
    stage = mock["evaluation"].model_dump() | {"policies": {"mine": agent}}
    stage = EvaluationOptions.model_validate(stage)
    catalog = catalog_of(mock | {"evaluation": stage}, tmp_path)
    for name in ("world_model", "controller", "blind_policies"):
        catalog[name] = judged.get(name)
    with pytest.raises(
        ValueError, match=r"evaluation\.policies\.mine: fractions\.Fraction"
    ):
        run_node(catalog, "evaluation", evaluate)


def test_the_pictures_have_as_many_frames_as_asked(judged: DataCatalog) -> None:
    lengths = {
        len(judged.load(name))
        for name in ("real_episode", "dreamed_cold", "dreamed_warm")
    }
    assert len(lengths) == 1
    drawn = judged.load("dream_against_real").data[1]
    summary = judged.load("evaluation_summary")
    assert drawn.x[0] == summary["real"]["controller"]["mean"]


def test_the_comparison_trains_all_under_one_budget(judged: DataCatalog) -> None:
    table, log = judged.load("comparison"), judged.load("comparison_log")
    searches = [(name, seed) for seed in (1, 2) for name in ("linear", "mlp_32")]
    assert list(zip(table["architecture"], table["seed"], strict=True)) == searches
    # 2 generations of 16.
    assert (table["evaluations"] == 32).all()
    assert table[["dream_return", "real_return"]].gt(0).all(axis=None)
    dreamed = [each.dream_returns for each in judged.load("comparison_state").searches]
    spread = [returns.std(ddof=1) for returns in dreamed]
    assert table["dream_std"].tolist() == pytest.approx(spread)
    assert len(log) == 2 * len(searches)
    assert judged.load("comparison_figure").data


def test_a_comparison_goes_on_from_an_earlier_state(
    judged: DataCatalog, mock: dict[str, Any], tmp_path: Path
) -> None:
    whole = judged.load("comparison_state")
    assert whole.finished
    begun = ComparisonState(whole.searches[:3], False)
    resumed = mock["compare"].model_copy(update={"resume": True})
    catalog = searching(mock | {"compare": resumed}, tmp_path)
    catalog["earlier_comparison"] = lambda: begun
    run_node(catalog, "compare", compare)
    timed = ["seconds"]
    pd.testing.assert_frame_equal(
        catalog.load("comparison").drop(columns=timed),
        judged.load("comparison").drop(columns=timed),
        check_exact=True,
    )
    log = catalog.load("comparison_log")
    # The three searches were kept, clocks and all; the fourth was run again.
    kept = log["evaluate_seconds"].eq(judged.load("comparison_log")["evaluate_seconds"])
    assert kept.tolist() == [True] * 6 + [False] * 2


def test_a_comparison_is_finished_when_the_real_game_was_played(
    judged: DataCatalog, mock: dict[str, Any]
) -> None:
    found = compare(
        judged.load("world_model"),
        mock["environment"],
        ALONE,
        mock["dream"],
        mock["compare"].model_copy(update={"resume": True}),
        lambda: judged.load("comparison_state"),
    )
    made = [(table["real_return"].count(), state) for table, _, state in found]
    assert [(played, state.finished) for played, state in made] == [
        (0, False),
        (4, True),
    ]


@pytest.mark.parametrize(
    ("episodes", "said"), [(2, r"dream \S+, real \S+"), (0, r"dream \S+")]
)
def test_a_comparison_tells_of_the_worlds_in_which_there_was_play(
    judged: DataCatalog,
    mock: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
    episodes: int,
    said: str,
) -> None:
    changes = {"resume": True, "real_episodes": episodes}
    with caplog.at_level(logging.INFO):
        for _ in compare(
            judged.load("world_model"),
            mock["environment"],
            ALONE,
            mock["dream"],
            mock["compare"].model_copy(update=changes),
            lambda: judged.load("comparison_state"),
        ):
            pass
    told = [m for m in caplog.messages if "parameters, " in m]
    assert len(told) == 4
    assert all(
        re.fullmatch(rf".*, seed \d: [\d,]+ parameters, {said}", m) for m in told
    )


def test_the_seed_decides_the_search(
    judged: DataCatalog, mock: dict[str, Any], tmp_path: Path
) -> None:
    def searched(seed: int) -> pd.DataFrame:
        stage = mock["controller"].model_copy(update={"seed": seed})
        catalog = searching(mock | {"controller": stage}, tmp_path)
        run_node(catalog, "controller", search_controller)
        log: pd.DataFrame = catalog.load("fitness_log")
        return log.drop(columns=CLOCKED)

    first = judged.load("fitness_log").drop(columns=CLOCKED)
    pd.testing.assert_frame_equal(searched(1), first, check_exact=True)
    assert not searched(2)["mean"].equals(first["mean"])


@pytest.mark.slow
def test_c_may_be_trained_in_the_game_itself_and_resumed(
    mock: dict[str, Any], tmp_path: Path
) -> None:
    stage = mock["controller"]
    strategy = stage.evolution.strategy.model_copy(update={"population": 6})
    evolution = stage.evolution.model_copy(
        update={"generations": 3, "rollouts": 2, "strategy": strategy}
    )
    shorter = evolution.model_copy(update={"generations": 1})
    changes = {"world": "real", "final_rollouts": 3, "evolution": evolution}
    in_game = stage.model_copy(update=changes)
    catalog = searching(mock | {"controller": in_game}, tmp_path)
    run_node(catalog, "controller", search_controller)
    controller, choice = run_node(catalog, "controller", select_controller)
    log = catalog.load("fitness_log").drop(columns=CLOCKED)
    assert choice["world"] == "real"
    # Every step of the game pays 1, and 2 x 6 games were played a generation.
    assert (log["steps"] == (log["mean"] * 12).round()).all()
    best = choice["final_scores"][choice["selected"]]
    assert best == max(choice["final_scores"].values())

    begun = searching(
        mock | {"controller": in_game.model_copy(update={"evolution": shorter})},
        tmp_path,
    )
    run_node(begun, "controller", search_controller)
    state = begun.load("search_state")
    resumed = in_game.model_copy(update={"resume": True})
    catalog = searching(mock | {"controller": resumed}, tmp_path)
    catalog["earlier_search"] = lambda: state
    run_node(catalog, "controller", search_controller)
    again, _ = run_node(catalog, "controller", select_controller)
    found = catalog.load("fitness_log").drop(columns=CLOCKED)
    pd.testing.assert_frame_equal(found, log, check_exact=True)
    assert torch.equal(again.get_parameters(), controller.get_parameters())


def test_a_search_in_the_dream_is_not_resumed_in_the_game(
    judged: DataCatalog, mock: dict[str, Any], tmp_path: Path
) -> None:
    stage = mock["controller"].model_copy(update={"world": "real", "resume": True})
    catalog = searching(mock | {"controller": stage}, tmp_path)
    state = judged.load("search_state")
    catalog["earlier_search"] = lambda: state
    with pytest.raises(ValueError, match=r"controller\.resume.*game_seed"):
        run_node(catalog, "controller", search_controller)


@pytest.mark.slow
def test_the_dreams_controller_may_go_on_in_the_game(
    judged: DataCatalog, mock: dict[str, Any], tmp_path: Path
) -> None:
    evolution = mock["controller"].evolution
    near = evolution.strategy.model_copy(update={"sigma": 1e-6, "population": 4})
    evolution = evolution.model_copy(
        update={"generations": 1, "rollouts": 2, "strategy": near}
    )
    changes = {"world": "real", "start": "newest", "final_rollouts": 2}
    stage = mock["controller"].model_copy(update={**changes, "evolution": evolution})
    catalog = searching(mock | {"controller": stage}, tmp_path)
    trained = judged.load("controller")
    catalog["earlier_controller"] = lambda: trained
    run_node(catalog, "controller", search_controller)
    # With so small a sigma every candidate is the dream's controller, still.
    found = catalog.load("search_state").mean
    np.testing.assert_allclose(found, trained.get_parameters().numpy(), atol=1e-4)
    before = judged.load("controller_choice")
    assert before["began_at"] is None

    # A search that is resumed has begun already: the controller is not read.
    state = catalog.load("search_state")
    longer = evolution.model_copy(update={"generations": 2})
    resumed = stage.model_copy(update={"resume": True, "evolution": longer})
    catalog = searching(mock | {"controller": resumed}, tmp_path)
    catalog["earlier_search"] = lambda: state
    run_node(catalog, "controller", search_controller)
    assert len(catalog.load("fitness_log")) == 2
    _, choice = run_node(catalog, "controller", select_controller)
    assert choice["began_at"] == before["digest"] != choice["digest"]


@pytest.mark.parametrize(
    ("earlier", "message"),
    [
        (None, "expected a controller of an earlier run, found none.*--pipelines"),
        (
            [3],
            r"newest controller.*options\.hidden_sizes: it has \[3\], the options \[",
        ),
    ],
)
def test_a_search_begins_at_no_missing_or_other_controller(
    judged: DataCatalog,
    mock: dict[str, Any],
    tmp_path: Path,
    earlier: list[int] | None,
    message: str,
) -> None:
    stage = mock["controller"].model_copy(update={"start": "newest"})
    catalog = searching(mock | {"controller": stage}, tmp_path)
    controller = None
    if earlier is not None:
        config = judged.load("controller").config()
        options = config["options"] | {"hidden_sizes": earlier}
        controller = Controller.from_config(config | {"options": options})
    catalog["earlier_controller"] = lambda: controller
    with pytest.raises(ValueError, match=rf"controller\.start: newest.*{message}"):
        run_node(catalog, "controller", search_controller)


@pytest.mark.slow
def test_the_dream_is_compared_with_the_game(
    judged: DataCatalog,
    mock: dict[str, Any],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    catalog = catalog_of(mock, tmp_path)
    needed = ("world_model", "controller", "blind_policies", "evaluation_episodes")
    for name in needed:
        catalog[name] = judged.get(name)
    table, scores, figure = run_node(catalog, "evaluation", measure_controller)
    assert (table["policy"] == "the controller").all()
    hazard = table.query("measure == 'hazard' and at == 0").iloc[0]
    assert hazard["game"] == hazard["dream"] == 0
    assert np.isnan(scores["ends_foreseen"])
    assert len(figure.data) == 8
    episodes = judged.load("evaluation_episodes")
    fallen = episodes.assign(terminated=episodes["world"] == "dream", steps=100)
    catalog["evaluation_episodes"] = fallen
    table, *_ = run_node(catalog, "evaluation", measure_controller)
    hazard = table.query("measure == 'hazard' and at == 0").iloc[0]
    # Three dreams of C end at 100; the twelve that are watched do not.
    lived = 3 * 100 + 12 * min(300, mock["dream"].max_steps)
    assert (hazard["game"], hazard["dream"]) == (0, pytest.approx(300 / lived))
    catalog["evaluation_episodes"] = episodes
    table, figure = run_node(catalog, "dream", measure_dream)
    # The world model's equations are the game's.
    assert not table.query("measure == 'hazard'")["off"].any()
    assert set(table["policy"]) == {"random play", "the best blind policy"}
    assert len(figure.data) == 16
    sweeps, figure = run_node(catalog, "dream", measure_sweeps)
    assert len(sweeps) == mock["dream_check"].sweeps
    assert sweeps["game"].rank().corr(sweeps["dream"].rank()) > 0.5
    assert list(figure.data[1].y) == sweeps["dream"].tolist()
    blind = copy.deepcopy(judged.load("blind_policies"))
    for policy in blind["policies"]:
        policy["mean"] = 7.0
    catalog["blind_policies"] = blind
    with caplog.at_level("INFO"):
        run_node(catalog, "dream", measure_sweeps)
    assert "all score the same in the game: there is no order" in caplog.text


def test_what_v_paints_is_no_fault_of_the_dream(
    judged: DataCatalog,
    mock: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where V shows a black frame, whatever there is, dream and game show the same."""

    def black(self: ConvVAE, latents: torch.Tensor) -> np.ndarray:
        return np.zeros((len(latents), 64, 64, 3), np.uint8)

    monkeypatch.setattr(ConvVAE, "decode_frames", black)
    catalog = catalog_of(mock, tmp_path)
    for name in ("world_model", "blind_policies"):
        catalog[name] = judged.get(name)
    table, _ = run_node(catalog, "dream", measure_dream)
    shown = table.query("measure == 'pixels' and at == 0")
    assert (shown["game"] > 1000).all()
    assert (shown["ratio"] == 1).all()


def test_the_seed_decides_the_games_played(
    judged: DataCatalog, mock: dict[str, Any], tmp_path: Path
) -> None:
    stage = mock["evaluation"].model_copy(update={"seed": 2})
    catalog = catalog_of(mock | {"evaluation": stage}, tmp_path)
    for name in ("world_model", "controller", "blind_policies"):
        catalog[name] = judged.get(name)
    (other,) = run_node(catalog, "evaluation", evaluate)
    assert not other["seed"].equals(judged.load("evaluation_episodes")["seed"])


def test_an_interrupted_search_selects_nothing(
    judged: DataCatalog, mock: dict[str, Any], tmp_path: Path
) -> None:
    catalog = searching(mock, tmp_path)
    stage = mock["controller"]
    every = stage.evolution.model_copy(update={"save_every": 0})
    pending = search_controller(
        catalog.load("world_model"),
        mock["environment"],
        ALONE,
        mock["dream"],
        stage.model_copy(update={"evolution": every}),
        nothing_earlier,
        nothing_earlier,
    )
    *_, state = next(iter(pending))
    pending.close()
    catalog["search_state"] = state
    with pytest.raises(ValueError, match=r"search_state.*controller\.resume=true"):
        run_node(catalog, "controller", select_controller)


def test_a_search_goes_on_from_an_earlier_state(
    judged: DataCatalog, mock: dict[str, Any], tmp_path: Path
) -> None:
    stage = mock["controller"]
    shorter = stage.model_copy(
        update={"evolution": stage.evolution.model_copy(update={"generations": 4})}
    )
    begun = searching(mock | {"controller": shorter}, tmp_path)
    run_node(begun, "controller", search_controller)
    resumed = stage.model_copy(update={"resume": True})
    catalog = searching(mock | {"controller": resumed}, tmp_path)
    state = begun.load("search_state")
    catalog["earlier_search"] = lambda: state
    run_node(catalog, "controller", search_controller)
    controller, _ = run_node(catalog, "controller", select_controller)
    expected = judged.load("controller").get_parameters()
    assert torch.equal(controller.get_parameters(), expected)
