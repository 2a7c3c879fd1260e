"""The tune stage as its users run it: any option, kill -9, and what it leaves to copy."""

import contextlib
import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from kedro.framework.session import KedroSession
from kedro.io import DataCatalog

from tests.kedro_runs import load, run, start_and_end
from tests.trial_states import states
from wm_pipeline.common.errors import InputError

SIGMA = "controller.evolution.strategy.sigma"


@pytest.fixture
def copy(finished_project: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of the finished project as the working directory."""
    made = shutil.copytree(finished_project, tmp_path / "project")
    with contextlib.chdir(made):
        yield made


def only(space: dict[str, Any], **changes: Any) -> dict[str, object]:
    """Parameters of a study over these options alone."""
    without = {SIGMA: None, "dream.temperature": None}
    return {"tune": {"space": without | space, **changes}}


def test_a_study_leaves_a_table_and_what_won(catalog: DataCatalog) -> None:
    trials = catalog.load("tune_trials")
    assert trials["trial"].tolist() == [0, 1, 2]
    assert trials[SIGMA].between(0.03, 1.0).all()
    assert trials["dream.temperature"].between(0.5, 2.0).all()
    complete = trials[trials["state"] == "complete"]
    assert (complete["generation"] == 3).all()
    assert (complete["dream_steps"] > 0).all()
    assert (complete["game_steps"] > complete["value"] * 3).all()
    best = complete.loc[complete["value"].idxmax()]
    text = catalog.load("tuned_parameters")
    assert yaml.safe_load(text) == {
        "controller": {"evolution": {"strategy": {"sigma": best[SIGMA]}}},
        "dream": {"temperature": best["dream.temperature"]},
    }
    assert f"# Trial {best['trial']} of 3 of the study " in text
    assert len(catalog.load("tune_history").data[0].y) == len(complete)


def test_what_won_is_a_conf_file(
    project: Path, catalog: DataCatalog, tmp_path: Path
) -> None:
    text = catalog.load("tuned_parameters")
    conf = shutil.copytree(project / "conf", tmp_path / "conf")
    (conf / "won").mkdir()
    (conf / "won" / "parameters.yml").write_text(text)
    with KedroSession.create(project, conf_source=str(conf), env="won") as session:
        params = session.load_context().params
    assert params["dream"].temperature == yaml.safe_load(text)["dream"]["temperature"]
    assert params["dream"].max_steps == 2100  # the others stay those of base


def test_a_trial_is_what_a_run_with_its_options_is(copy: Path) -> None:
    space = {
        "memory.training.learning_rate": {"low": 1e-3, "high": 1e-2, "log": True},
        "memory.model.hidden_size": {"choices": [6, 7]},
    }
    run(copy, "tune", only(space, trials=1, pruning=None))
    (trial,) = load(copy, "tune_trials").itertuples()
    won = yaml.safe_load(load(copy, "tuned_parameters"))
    assert won["memory"]["model"]["hidden_size"] in (6, 7)
    run(copy, "memory,dream,controller", won, to_outputs=["controller"])
    taken = load(copy, "run_record")["steps"]["controller"]["dream"]
    assert taken == trial.dream_steps > load(copy, "fitness_log")["steps"].sum()
    assert load(copy, "mdn_rnn").hidden_size == won["memory"]["model"]["hidden_size"]


def test_a_killed_study_goes_on_and_loses_no_trial(copy: Path) -> None:
    storage = copy / "data/06_models/test/tune.db"
    before = len(states(storage))

    def at_work() -> bool:
        return states(storage)[before:] == ["COMPLETE", "RUNNING"]

    options = ["tune.seed=5", "tune.trials=3", "tune.workers=1"]
    start_and_end(copy, "test", "tune", options, at_work, signal.SIGKILL, at_work)
    run(copy, "tune", {"tune": {"seed": 5, "trials": 3, "workers": 1}})
    trials = load(copy, "tune_trials")
    assert trials["state"].tolist().count("killed") == 1
    assert trials["repeats"].dropna().tolist() == [1]
    assert len(trials) == 4
    run(copy, "tune", {"tune": {"seed": 5, "trials": 3, "workers": 1}})
    pd.testing.assert_frame_equal(load(copy, "tune_trials"), trials)


@pytest.mark.parametrize(
    ("space", "expected"),
    [
        ({"controler.seed": {"low": 1, "high": 2}}, "tune.space: controler.seed is no option; did you mean controller.seed?"),
        ({"seed": {"low": 1, "high": 2}}, "tune.space: expected options of stages, such as controller.seed, found seed"),
        ({"dream.temperature": {"low": 0, "high": 2}}, "tune.space.dream.temperature: Input should be greater than or equal to 0.001; found [0]."),
        ({"dream.temperature": {"low": 2, "high": 1}}, "tune.space.dream.temperature: expected low below high, found 2 and 1"),
        ({"dream.temperature": {"low": 0, "high": 1, "log": True}}, "tune.space.dream.temperature: expected low above 0, as log is true, found 0: a log"),
        ({"controller.model.bias": {"low": 0, "high": 1}}, "tune.space.controller.model.bias: expected choices"),
    ],
)  # fmt: skip
def test_a_bad_space_is_refused_before_anything_runs(
    project: Path, space: dict[str, Any], expected: str
) -> None:
    with pytest.raises(InputError, match=re.escape(expected)):
        run(project, "tune", only(space))


def test_what_makes_another_c_is_left_out(
    copy: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rate = {"rounds.gradient.learning_rate": {"low": 0.001, "high": 0.01}}
    space = {SIGMA: None, **rate}
    run(copy, "tune", {"tune": {"space": space, "trials": 1}})
    assert f"tune.space: {next(iter(rate))} left out, as another stage" in caplog.text
    trials = load(copy, "tune_trials")
    assert "dream.temperature" in trials
    assert not {SIGMA, *rate} & {*trials}
    with pytest.raises(InputError, match="on which C depends, found rounds"):
        run(copy, "tune", only(rate))


def test_what_a_study_could_not_judge_is_refused_before_a_trial(copy: Path) -> None:
    ends = {"low": 2, "high": 9}
    with pytest.raises(InputError, match="on which C depends, found evaluation"):
        run(copy, "tune", only({"evaluation.episodes": ends}))
    dream = {"objective": {"world": "dream"}}
    with pytest.raises(InputError, match="expected real, as options of the world mod"):
        run(copy, "tune", only({"memory.seed": ends}, **dream))
