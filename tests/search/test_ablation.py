"""Variants and seeds in the same games: all are run once, finished ones are kept."""

import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from kedro.pipeline import Node
from pydantic import ValidationError

from wm_pipeline.common.files import UNFINISHED
from wm_pipeline.common.options import Options
from wm_pipeline.dreaming.evaluator import DreamOptions
from wm_pipeline.environments.actions import ThresholdActions
from wm_pipeline.environments.mock import mock_world_model
from wm_pipeline.environments.real import EnvironmentOptions
from wm_pipeline.models.controller import Controller, ControllerOptions
from wm_pipeline.models.world_model import WorldModel
from wm_pipeline.search.ablation import COLUMNS, AblationOptions, run_variants
from wm_pipeline.search.chain import Chain
from wm_pipeline.workers.engine import LOCAL

pytestmark = pytest.mark.slow

BALANCE = EnvironmentOptions.model_validate(
    {
        "id": "wm_pipeline.environments:wm_pipeline/Balance-v0",
        "max_steps": 60,
        "actions": ThresholdActions(
            kind="threshold", low=0, middle=1, high=2
        ).model_dump(),
    }
)


class Made(Options):
    """Of a stage that makes C."""

    seed: int = 0
    weight: float = 0.0
    calls: str = ""
    fails_behind: int = 0


def make(world_model: WorldModel, options: Made) -> Controller:
    calls = Path(options.calls)
    with calls.open("a") as file:
        file.write(f"{options.weight}, {options.seed}\n")
    if options.fails_behind:
        while len(calls.read_text().splitlines()) < options.fails_behind:
            time.sleep(0.02)
        raise ArithmeticError("there is no C")
    controller = Controller.for_world(ControllerOptions(), world_model, 1)
    weights = torch.full((controller.size,), options.weight + options.seed / 100)
    controller.set_parameters(weights)
    return controller


CHAIN = Chain((Node(make, ["world_model", "params:made"], "controller", name="make"),))


def options(**changes: Any) -> AblationOptions:
    variants = {"zero": {}, "one": {"made.weight": 1.0}, "two": {"made.weight": -1.0}}
    return AblationOptions.model_validate(
        {
            "seeds": [3, 4],
            "variants": variants,
            "episodes": 5,
            "games_seed": 1,
            "workers": 2,
            **changes,
        }
    )


def inputs(calls: Path) -> dict[str, Any]:
    """What the runs read; they write down in the file what they make."""
    return {
        "world_model": mock_world_model(),
        "params:environment": BALANCE,
        "params:engine": LOCAL,
        "params:dream": DreamOptions(temperature=1, max_steps=50),
        "params:made": Made(calls=str(calls)),
    }


def run(
    calls: Path, options: AblationOptions, before: pd.DataFrame | None = None
) -> tuple[list[pd.DataFrame], list[str]]:
    """The tables, and what was made for them."""
    calls.unlink(missing_ok=True)
    tables = list(run_variants(CHAIN, inputs(calls), LOCAL, options, before))
    made = calls.read_text().splitlines() if calls.exists() else []
    return tables, sorted(made)


def test_every_variant_plays_the_same_games_with_every_seed(tmp_path: Path) -> None:
    tables, made = run(tmp_path / "calls", options())
    assert made == sorted(f"{w}, {s}" for w in (0.0, 1.0, -1.0) for s in (3, 4))
    assert [len(table) for table in tables] == [5, 10, 15, 20, 25, 30]
    assert [UNFINISHED in table.attrs for table in tables] == 5 * [True] + [False]
    table = tables[-1]
    assert list(table.columns) == list(COLUMNS)
    runs = table.groupby(["variant", "seed"], sort=False)
    wanted = [(v, s) for s in (3, 4) for v in ("zero", "one", "two")]
    assert list(runs.groups) == wanted
    games = runs["game"].agg(tuple)
    assert set(games) == {tuple(options().judge.games)}
    assert table.groupby(["variant", "seed"])["conditions"].nunique().eq(1).all()
    assert table["conditions"].nunique() == 6
    # The game pays a step, and what it cost is known.
    assert (runs["return"].sum() == runs["game_steps"].first()).all()
    assert runs["return"].mean().nunique() > 1


def test_finished_runs_are_kept_and_others_are_not(tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    tables, _ = run(calls, options())
    again, made = run(calls, options(), tables[3])
    assert len(made) == 2
    assert [len(table) for table in again] == [20, 25, 30]
    timeless = [name for name in COLUMNS if name != "seconds"]
    pd.testing.assert_frame_equal(again[-1][timeless], tables[-1][timeless])
    # One has another weight, one another name.
    variants = {"zero": {}, "one": {"made.weight": 2.0}, "three": {"made.weight": -1.0}}
    (first, *_, last), made = run(calls, options(variants=variants), tables[-1])
    assert made == ["2.0, 3", "2.0, 4"]
    assert set(first["variant"]) == {"zero", "three"}
    assert last["variant"].unique().tolist() == ["zero", "one", "three"]
    # In other games all are run again.
    _, made = run(calls, options(episodes=4), tables[-1])
    assert len(made) == 6


def test_variants_that_change_the_same_are_kept_apart(tmp_path: Path) -> None:
    alike = options(variants={"first": {}, "again": {}})
    *_, before = run(tmp_path / "calls", alike)[0]
    assert len(before) == 2 * 2 * 5
    *_, after = run(tmp_path / "calls", alike, before)[0]
    pd.testing.assert_frame_equal(after, before)


def test_nothing_is_left_of_a_finished_ablation(tmp_path: Path) -> None:
    tables, _ = run(tmp_path / "calls", options(seeds=[3]))
    (again,), made = run(tmp_path / "calls", options(seeds=[3]), tables[-1])
    assert made == []
    pd.testing.assert_frame_equal(again, tables[-1])


def test_runs_behind_one_that_fails_are_kept(tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    variants = {"failing": {"made.fails_behind": 4}, **options().variants}
    asked = options(variants=variants, seeds=[3])
    tables: list[pd.DataFrame] = []
    with pytest.raises(ArithmeticError, match="there is no C"):
        tables.extend(run_variants(CHAIN, inputs(calls), LOCAL, asked, None))
    # The last one may be under way when the first fails.
    assert tables[-1]["variant"].unique().tolist()[:2] == ["zero", "one"]


def test_the_command_line_changes_an_option_of_a_variant() -> None:
    tree = {"zero": {}, "one": {"made": {"weight": 1.0, "inner": {"x": 2}}}}
    found = options(variants=tree).variants
    assert found == {"zero": {}, "one": {"made.weight": 1.0, "made.inner.x": 2}}


def test_an_option_that_is_set_to_an_empty_mapping_is_set() -> None:
    changes = {"environment.kwargs": {}, "rounds": {"memory": {"inner": {}}}}
    found = options(variants={"zero": {}, "none": changes}).variants
    assert found["zero"] == {}
    assert found["none"] == {"environment.kwargs": {}, "rounds.memory.inner": {}}


def test_a_variant_of_the_conf_files_may_be_left_out() -> None:
    variants = {"zero": {}, "one": None, "two": {"made.weight": 2}}
    assert list(options(variants=variants).variants) == ["zero", "two"]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"seeds": [1, 1]}, "expected each once, found"),
        ({"seeds": []}, "at least 1 item"),
        ({"variants": {"zero": {}}}, "at least 2 items"),
        ({"variants": {"zero": {}, "one": 1}}, "valid dictionary"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    changes: dict[str, Any], expected: str
) -> None:
    with pytest.raises(ValidationError, match=expected):
        options(**changes)
