"""Studies: pinned by their seed, killed and continued, pruned, failing; real workers."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from optuna.distributions import (
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from tests.trial_states import states
from wm_pipeline.common.errors import InputError
from wm_pipeline.datasets import TableDataset
from wm_pipeline.search.chain import Report
from wm_pipeline.search.tuning import Study, distribution
from wm_pipeline.search.tuning_options import RangeOptions, TuneOptions
from wm_pipeline.workers.engine import LOCAL, EngineOptions

pytestmark = pytest.mark.slow

SPACE = {
    "a.x": {"low": 0.0, "high": 1.0},
    "a.hidden": {"choices": [[], [32]]},
}


class Parabola:
    """A trial whose value is known: the nearer x to 0.7 the better, from the first on.

    Args:
        seconds: That a generation takes.
        killer: A file; the trial that finds it removes it and is killed.
        fails: The x above which a trial fails.
        endless: The number of a trial that does not end.
    """

    def __init__(
        self,
        seconds: float = 0.0,
        killer: str = "",
        fails: float = 2.0,
        endless: int = -1,
    ) -> None:
        self._seconds, self._killer, self._fails = seconds, Path(killer), fails
        self._endless = endless
        self._number, self._generation = -1, 0

    def advance(
        self, number: int, values: dict[str, Any], generations: int, episodes: int
    ) -> Report:
        if number != self._number:
            self._number, self._generation = number, 0
        if values["a.x"] > self._fails:
            raise InputError(f"x: expected at most {self._fails}")
        while self._generation < min(generations, 5):
            time.sleep(3600 if number == self._endless else self._seconds)
            self._generation += 1
            if self._generation == 3 and self._killer.is_file():
                self._killer.unlink()
                os.kill(os.getpid(), signal.SIGKILL)
        value = -abs(values["a.x"] - 0.7) - 0.01 * len(values["a.hidden"])
        over = self._generation == 5
        returns = np.full(episodes, value)
        return Report(returns, self._generation, over, 10, 0, 1.0)


def options(**changes: Any) -> TuneOptions:
    return TuneOptions.model_validate(
        {
            "seed": 3,
            "trials": 12,
            "random_trials": 4,
            "workers": 1,
            "space": SPACE,
            "pruning": None,
            **changes,
        }
    )


def study(storage: Path, options: TuneOptions) -> Study:
    space = {name: distribution(each, False) for name, each in options.ranges.items()}
    return Study(storage, options, space, {"of": "a parabola"})


def run(storage: Path, options: TuneOptions, *arguments: Any) -> pd.DataFrame:
    found = study(storage, options)
    found.run(LOCAL, Parabola, *arguments)
    return found.trials()


COLUMNS = ["state", "value", "a.x", "a.hidden"]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    return run(tmp_path_factory.mktemp("study") / "tune.db", options())


def test_a_range_is_of_whole_numbers_or_of_all_or_a_choice() -> None:
    ends = RangeOptions(low=1, high=8, log=True)
    assert distribution(ends, True) == IntDistribution(1, 8, log=True)
    assert distribution(ends, False) == FloatDistribution(1, 8, log=True)
    choice = distribution(RangeOptions(choices=([], [32])), True)
    assert choice == CategoricalDistribution(["[]", "[32]"])


def test_a_study_finds_what_is_best(uninterrupted: pd.DataFrame) -> None:
    assert uninterrupted["trial"].tolist() == list(range(12))
    assert set(uninterrupted["state"]) == {"complete"}
    learned = uninterrupted["value"][4:]
    assert learned.mean() > uninterrupted["value"][:4].mean()
    assert uninterrupted["value"].max() > -0.1


def test_the_best_is_told_with_its_score(tmp_path: Path) -> None:
    found = study(tmp_path / "tune.db", options(trials=4))
    found.run(LOCAL, Parabola)
    trials = found.trials()
    number, score, values = found.best()
    row = trials.iloc[trials["value"].argmax()]
    assert number == row["trial"]
    assert score == pytest.approx({"value": row["value"], "error": 0.0})
    assert values == {name: row[name] for name in SPACE}
    assert found.importances().data
    assert len(found.history().data[0]["y"]) == 4


def test_a_study_depends_on_its_seed_alone(
    tmp_path: Path, uninterrupted: pd.DataFrame
) -> None:
    again = run(tmp_path / "same.db", options(trials=6))
    pd.testing.assert_frame_equal(again[COLUMNS], uninterrupted[COLUMNS][:6])
    other = run(tmp_path / "other.db", options(trials=2, seed=4))
    assert other["a.x"].tolist() != uninterrupted["a.x"].tolist()[:2]


def test_more_trials_go_on_with_the_study_and_other_conditions_begin_one(
    tmp_path: Path, uninterrupted: pd.DataFrame
) -> None:
    storage = tmp_path / "tune.db"
    run(storage, options(trials=5))
    assert study(storage, options(trials=12)).ended == 5
    assert study(storage, options(seed=4)).ended == 0
    found = run(storage, options(trials=12))
    pd.testing.assert_frame_equal(found[COLUMNS], uninterrupted[COLUMNS])


def test_a_killed_study_goes_on_without_loss(
    tmp_path: Path, uninterrupted: pd.DataFrame
) -> None:
    storage = tmp_path / "tune.db"
    for number in (2, 7):
        kill_amid(storage, number)
    found = run(storage, options())
    killed = found[found["state"] == "killed"]
    assert killed["trial"].tolist() == [2, 7]
    # Each is known, and is run again with the same options.
    again = found[found["repeats"].notna()]
    assert again["repeats"].tolist() == killed["trial"].tolist()
    asked = killed["a.x"].notna().to_numpy()  # it may be killed while it is asked for
    assert again["a.x"][asked].tolist() == killed["a.x"][asked].tolist()
    whole = found[found["state"] != "killed"].reset_index(drop=True)
    pd.testing.assert_frame_equal(whole[COLUMNS], uninterrupted[COLUMNS])


@pytest.mark.parametrize("asked", [0, 1, 2])
def test_a_study_killed_while_it_asks_is_the_same(
    tmp_path: Path, uninterrupted: pd.DataFrame, asked: int
) -> None:
    storage = tmp_path / "tune.db"
    run(storage, options(trials=5))
    found = study(storage, options())
    # In place of a killed process: a trial that runs, and has some of its options.
    found._space, space = dict(list(found._space.items())[:asked]), found._space
    found._ask()
    found._space = space
    found.run(LOCAL, Parabola)
    trials = found.trials()
    (again,) = trials[trials["repeats"].notna()].itertuples()
    assert again.repeats == 5
    whole = trials[trials["state"] != "killed"].reset_index(drop=True)
    pd.testing.assert_frame_equal(whole[COLUMNS], uninterrupted[COLUMNS])


def kill_amid(storage: Path, number: int) -> None:
    """Run the study in a process of its own, which is killed amid this trial."""
    program = (
        "import sys; from pathlib import Path; from tests.search import test_tuning as t;"
        "t.run(Path(sys.argv[1]), t.options(), 0.0, '', 2.0, int(sys.argv[2]))"
    )
    storage.parent.mkdir(exist_ok=True)
    with subprocess.Popen(
        [sys.executable, "-c", program, str(storage), str(number)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "TMPDIR": str(storage.parent)},
    ) as running:  # fmt: skip
        try:
            deadline = time.monotonic() + 600
            while states(storage)[number:] != ["RUNNING"]:
                assert running.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.05)
        finally:
            running.kill()


def test_a_trial_whose_worker_is_killed_begins_again(
    tmp_path: Path, uninterrupted: pd.DataFrame, caplog: pytest.LogCaptureFixture
) -> None:
    killer = tmp_path / "killer"
    killer.touch()
    found = run(tmp_path / "tune.db", options(trials=3), 0.0, str(killer))
    assert not killer.exists()
    assert "A worker process died at trial 0" in caplog.text
    pd.testing.assert_frame_equal(found[COLUMNS], uninterrupted[COLUMNS][:3])


def test_trials_run_side_by_side(tmp_path: Path) -> None:
    found = run(tmp_path / "tune.db", options(workers=3, trials=9), 0.02)
    assert found["trial"].tolist() == list(range(9))
    assert set(found["state"]) == {"complete"}


def test_what_scores_less_than_half_of_the_others_is_given_up(tmp_path: Path) -> None:
    pruning = {"every": 2, "episodes": 2, "after_trials": 3}
    found = run(tmp_path / "tune.db", options(pruning=pruning))
    given_up = found[found["state"] == "pruned"]
    assert set(given_up["generation"]) == {2}
    assert len(given_up) > 0
    assert (found["state"][:3] == "complete").all()
    for row in given_up.itertuples():
        before = found[: row.Index]
        assert row.value < before["value"].median()


def test_a_trial_that_fails_says_why_and_the_study_goes_on(tmp_path: Path) -> None:
    found = run(tmp_path / "tune.db", options(), 0.0, "", 0.8)
    failed = found[found["state"] == "failed"]
    assert len(failed) > 0
    assert (failed["a.x"] > 0.8).all()
    assert set(failed["reason"]) == {"x: expected at most 0.8"}
    # The sampler learns from it.
    assert 12 - len(failed) == (found["state"] == "complete").sum() > len(failed)


def test_a_study_in_which_every_trial_fails_ends(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the last 5 trials failed, one by: x: exp"):
        run(tmp_path / "tune.db", options(), 0.0, "", -1.0)
    with pytest.raises(InputError, match="all 5 trials failed, the last by: x: exp"):
        study(tmp_path / "tune.db", options()).best()


def test_a_cluster_has_to_be_told_how_many_trials(tmp_path: Path) -> None:
    engine = EngineOptions(kind="ray")
    with pytest.raises(InputError, match=r"tune\.workers: expected how many trials"):
        study(tmp_path / "tune.db", options(workers=None)).run(engine, Parabola)


def test_choices_of_several_kinds_are_one_column(tmp_path: Path) -> None:
    space = {
        "a.x": {"low": 0.0, "high": 1.0},
        "a.hidden": {"choices": [[], "many", {}, {"k": None}]},
    }
    found = run(tmp_path / "tune.db", options(space=space, trials=8))
    file = tmp_path / "trials.parquet"
    TableDataset(filepath=str(file)).save(found)
    kept = pd.read_parquet(file)["a.hidden"]
    assert set(kept) <= {json.dumps(each) for each in space["a.hidden"]["choices"]}
    assert kept.nunique() > 1
