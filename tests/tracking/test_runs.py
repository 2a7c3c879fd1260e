"""Tests of the runs side by side."""

import io
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from rich.console import Console

from wm_pipeline.common.errors import InputError
from wm_pipeline.datasets import TableDataset
from wm_pipeline.search.chain import OF_C
from wm_pipeline.tracking.runs import list_runs, options_of, runs_tables, whole

COMMIT = "0123456789" * 4
FIRST, SECOND, THIRD = (f"2026-01-0{n}T00.00.00.000Z" for n in (1, 2, 3))


def scores(mean: float) -> dict[str, Any]:
    interval = {"mean": mean, "low": mean - 100, "high": mean + 100}
    return interval | {"std": 9.0, "episodes": 20}


CHOICE = {
    "world": "dream",
    "selected": "mean",
    "final_scores": {"mean": 1800.0, "best": 1700.0},
    "parameters": 161,
    "generations": 50,
}
WORLD = {"controller": scores(1234)}
SUMMARY = {
    "real": WORLD,
    "dream": {"controller": scores(2000)},
    "gains": {"blind": {"mean": 300.0, "low": 200.0, "high": 400.0}},
}


def record(seed: int, stages: list[str], temperature: float) -> dict[str, Any]:
    """A record as a run writes it, shorter."""
    return {
        "began": "2026-01-01T00:00:00+00:00",
        "ended": None,
        "env": "base",
        "task": "doom",
        "chain": stages,
        "stages": stages,
        "other_inputs": {},
        "asked": {},
        "git": {"commit": COMMIT, "dirty": True},
        "versions": {"wm_pipeline": "0.1.0", "torch": "2.13.0"},
        "machine": {"cores": 2, "processor": "A processor"},
        "cpu": {},
        "steps": {},
        "options": {
            "seed": seed,
            "vision": {"seed": seed, "training": {"steps": 3000}},
            "controller": {
                "seed": seed,
                "model": {"hidden_sizes": [], "policy": "deterministic"},
            },
            "dream": {"temperature": temperature},
        },
    }


@pytest.fixture
def documents() -> dict[str, dict[str, Any]]:
    """A run of C elsewhere than in a repository, a whole one, one that is not over."""
    whole = ["collection", "vision", "memory", "dream", "controller", "evaluation"]
    return {
        FIRST: {
            "run_record": record(1, whole[-2:], 1.15) | {"git": None},
            "stage_seconds": {"controller": 30.0, "evaluation": 40.0},
            "controller_choice": CHOICE,
            "evaluation_summary": SUMMARY,
        },
        SECOND: {
            "run_record": record(1, whole, 1.15),
            "stage_seconds": dict.fromkeys(whole, 100.0),
            "controller_choice": CHOICE,
        },
        THIRD: {"run_record": record(2, ["controller"], 1.3)},
    }


def test_every_run_is_a_row_with_what_is_known(documents: dict[str, Any]):
    runs = list_runs(documents).set_index("version")
    assert list(runs.index) == [FIRST, SECOND, THIRD]
    first, whole, going = (runs.loc[version] for version in runs.index)
    assert (first["seconds"], first["dream"], first["real"]) == (70, 2000, 1234)
    assert (first["real_low"], first["real_high"]) == (1134, 1334)
    assert first["stages"] == "controller, evaluation"
    assert pd.isna(first["commit"])
    assert pd.isna(first["dirty"])
    # Without an evaluation the dream score is that of the choice.
    assert (whole["seconds"], whole["dream"]) == (600, 1800)
    assert pd.isna(whole["real"])
    assert whole["commit"] == COMMIT
    assert whole["dirty"]
    assert pd.isna(going["seconds"])
    assert runs["state"].tolist() == ["finished", "finished", "not over"]


def test_a_run_that_ended_in_an_error_has_failed(documents: dict[str, Any]):
    documents[THIRD]["run_record"]["ended"] = "2026-01-03T00:01:00+00:00"
    runs = list_runs(documents)
    assert runs["state"].tolist() == ["finished", "finished", "failed"]
    assert f"3 {THIRD} failed - - 0123456*".split() in [
        line.split() for line in drawn(runs).splitlines()
    ]


def test_options_that_differ_and_the_important_ones_are_columns(
    documents: dict[str, Any],
):
    runs = list_runs(documents).astype(object).fillna("unknown")
    assert runs["seed"].tolist() == ["1", "1", "2"]
    assert runs["vision.seed"].tolist() == ["1", "1", "2"]
    assert runs["dream.temperature"].tolist() == ["1.15", "1.15", "1.3"]
    assert runs["controller.model.hidden_sizes"].tolist() == ["[]", "[]", "[]"]
    assert runs["memory.model.hidden_size"].tolist() == ["unknown"] * 3
    assert "vision.training.steps" not in runs


def test_a_run_has_the_options_of_the_c_that_its_stages_made(
    documents: dict[str, Any],
):
    for left in documents.values():
        model = {"hidden_sizes": [8]}
        left["run_record"]["options"]["rounds"] = {"model": model}
    documents[SECOND]["run_record"]["stages"] = ["dream", "rounds", "evaluation"]
    documents[THIRD]["run_record"]["stages"] = ["tune"]
    runs = list_runs(documents).astype(object).fillna("unknown")
    searched = ["[]", "unknown", "[]"]
    assert runs["controller.model.hidden_sizes"].tolist() == searched
    assert runs["rounds.model.hidden_sizes"].tolist() == ["unknown", "[8]", "[8]"]


@pytest.mark.parametrize(
    ("stages", "chain", "expected"),
    [
        (["rounds"], ["controller", "rounds"], {"rounds"}),
        (["finetune"], ["controller", "rounds"], {"rounds", "finetune"}),
        (["finetune", "evaluation"], ["dream", "finetune"], {"finetune"}),
        (["controller"], ["controller", "rounds", "finetune"], {"controller"}),
        (["evaluation"], ["dream"], {"controller", "rounds", "finetune"}),
    ],
)
def test_a_c_that_the_game_taught_has_the_options_of_that(
    stages: list[str], chain: list[str], expected: set[str]
) -> None:
    made = record(1, stages, 1.0) | {"chain": chain}
    made["options"] = {key: {"games": 2} for key in OF_C} | {"dream": {"hold": 1}}
    assert {name.split(".")[0] for name in options_of(made)} == expected | {"dream"}


def test_a_choice_counts_whose_other_candidate_failed(
    documents: dict[str, dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    """Its mean return was NaN, which JSON has as null."""
    scored = CHOICE | {"final_scores": {"mean": 1800.0, "best": None}}
    documents[SECOND]["controller_choice"] = scored
    assert whole(documents)[SECOND]["controller_choice"] == scored
    assert list_runs(documents)["dream"].tolist()[1] == 1800
    assert not caplog.records


def test_a_number_is_the_same_validated_or_not(documents: dict[str, Any]):
    for version, low in ((FIRST, [-1, 0.5]), (SECOND, [-1, 0.5]), (THIRD, [-1.0, 0.5])):
        documents[version]["run_record"]["options"]["actions"] = {"low": low}
    assert "actions.low" not in list_runs(documents)


def test_the_table_is_the_same_when_it_has_been_stored(
    documents: dict[str, Any], tmp_path: Path
):
    runs = list_runs(documents)
    dataset = TableDataset(filepath=str(tmp_path / "runs.parquet"))
    dataset.save(runs)
    assert drawn(dataset.load()) == drawn(runs)


def drawn(runs: pd.DataFrame) -> str:
    screen = io.StringIO()
    console = Console(file=screen, width=80)
    for table in runs_tables(runs):
        console.print(table)
    return screen.getvalue()


def test_the_tables_fit_80_columns_with_nothing_cut_off(documents: dict[str, Any]):
    text = drawn(list_runs(documents))
    assert max(len(line) for line in text.splitlines()) <= 80
    assert "…" not in text
    lines = [line.split() for line in text.splitlines()]
    assert f"1 {FIRST} 70 s 2000 1234 (1134 to 1334) -".split() in lines
    assert f"2 {SECOND} 10.0 min 1800 - 0123456*".split() in lines
    assert f"3 {THIRD} not over - - 0123456*".split() in lines
    assert [
        "2",
        "collection",
        "to",
        "evaluation",
        "seed",
        "1,",
        "temperature",
        "1.15",
    ] in lines
    # Every stage's own seed is as different; it is said once.
    assert ["3", "controller", "seed", "2,", "temperature", "1.3"] in lines
    assert "* with changes that were not committed" in text


def test_a_run_that_read_what_other_options_made_is_marked(
    documents: dict[str, Any],
):
    assert list_runs(documents)["other_inputs"].isna().all()
    assert "other options" not in drawn(list_runs(documents))
    others = {"world_model": "dream.temperature was 1, is 1.3", "controller": "damaged"}
    documents[THIRD]["run_record"]["other_inputs"] = others
    runs = list_runs(documents)
    assert runs["other_inputs"].isna().tolist() == [True, True, False]
    assert runs["other_inputs"].iloc[-1] == "world_model, controller"
    text = " ".join(drawn(runs).split())
    assert text.count("not of its options") == 1
    assert (
        "3 controller seed 2, temperature 1.3; it read what is not of its options: "
        "world_model, controller"
    ) in text


def test_what_all_runs_share_is_said_once(documents: dict[str, Any]):
    del documents[FIRST], documents[THIRD]
    text = " ".join(drawn(list_runs(documents)).split())
    assert (
        "In all: seed 1, temperature 1.15, hidden_sizes [], policy deterministic"
        in text
    )


def test_options_that_change_alike_are_all_shown() -> None:
    documents = {}
    for seed, version in enumerate((FIRST, SECOND), start=1):
        documents[version] = {"run_record": record(seed, ["vision"], 1.0)}
        options = documents[version]["run_record"]["options"]
        options["vision"]["training"]["steps"] = seed
        options["ablation"] = {"games_seed": seed}
    lines = drawn(list_runs(documents)).splitlines()
    for seed in (1, 2):
        assert f"{seed} vision seed {seed}, steps {seed}".split() in [
            line.split() for line in lines
        ]


def test_lists_are_shown_as_they_are(documents: dict[str, Any]) -> None:
    for version, mark in ((FIRST, "[first]"), (SECOND, "[/second]")):
        documents[version]["run_record"]["options"]["dream"] = {"mark": mark}
    text = drawn(list_runs(documents))
    assert "[first]" in text
    assert "[/second]" in text


def test_without_a_run_there_is_no_table():
    with pytest.raises(InputError, match="`kedro run`"):
        list_runs({})


@pytest.mark.parametrize(
    ("name", "values", "place"),
    [
        ("stage_seconds", {"vision": {"real": 3}}, "vision"),
        ("stage_seconds", {"vision": None}, "vision"),
        ("evaluation_summary", {}, "real"),
        ("evaluation_summary", {"real": {"blind": scores(1)}}, "real.controller"),
        (
            "evaluation_summary",
            {"real": WORLD | {"ppo": 3}, "dream": WORLD},
            "real.ppo",
        ),
        ("evaluation_summary", SUMMARY | {"gains": [1]}, "gains"),
        ("controller_choice", CHOICE | {"selected": 1}, "selected"),
        ("controller_choice", CHOICE | {"selected": "worst"}, "controller_choice"),
        ("controller_choice", CHOICE | {"final_scores": None}, "final_scores"),
        (
            "controller_choice",
            CHOICE | {"final_scores": {"mean": None, "best": 1.0}},
            "controller_choice",
        ),
    ],
)
def test_what_is_of_another_shape_is_left_out(
    documents: dict[str, dict[str, Any]],
    caplog: pytest.LogCaptureFixture,
    name: str,
    values: dict[str, Any],
    place: str,
):
    assert whole(documents) == documents
    documents[SECOND][name] = values
    assert name not in whole(documents)[SECOND]
    (message,) = caplog.messages
    assert message.startswith(f"{name} of the run {SECOND} is left out: {place}: ")
    assert len(list_runs(documents)) == 3


@pytest.mark.parametrize(
    ("values", "place"),
    [
        ({}, "options"),
        (record(1, [], 1.0) | {"options": 7}, "options"),
        (record(1, [], 1.0) | {"stages": [1]}, "stages.0"),
    ],
)
def test_a_run_whose_record_is_of_another_shape_is_left_out(
    documents: dict[str, dict[str, Any]],
    caplog: pytest.LogCaptureFixture,
    values: dict[str, Any],
    place: str,
):
    documents[SECOND]["run_record"] = values
    assert list_runs(documents)["version"].tolist() == [FIRST, THIRD]
    shape, run = caplog.messages
    assert shape.startswith(f"run_record of the run {SECOND} is left out: {place}: ")
    assert run == f"The run {SECOND} is left out: it has no run_record"


def test_a_run_without_a_record_is_left_out(
    documents: dict[str, dict[str, Any]], caplog: pytest.LogCaptureFixture
):
    del documents[SECOND]["run_record"]
    assert list_runs(documents)["version"].tolist() == [FIRST, THIRD]
    assert caplog.messages == [f"The run {SECOND} is left out: it has no run_record"]
