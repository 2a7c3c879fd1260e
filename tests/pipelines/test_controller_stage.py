"""The controller stage as its users run it: live logs, kill -9, resume, Ctrl-C, mock."""

import contextlib
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest
import torch
from kedro.framework.session import KedroSession
from kedro.io import DataCatalog
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.kedro_runs import KEDRO, copy_project, run, start_and_end
from wm_pipeline.models.controller import Controller

pytestmark = pytest.mark.slow

CLOCKED = ["ask_seconds", "evaluate_seconds", "tell_seconds", "steps_per_second"]
LOGS = ("fitness_log", "fitness_log_csv", "candidate_log")
GENERATIONS = 40


@pytest.fixture(scope="module")
def mock_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project in which the mock world model is made, and nothing else."""
    copy = copy_project(tmp_path_factory.mktemp("mock"))
    with contextlib.chdir(copy):
        run(copy, "mock", env="mock")
    return copy


@pytest.fixture
def mock(mock_project: Path, tmp_path: Path) -> Iterator[Path]:
    """A fresh copy of it as the working directory."""
    copy = shutil.copytree(mock_project, tmp_path / "project")
    with contextlib.chdir(copy):
        yield copy


def options(**changes: object) -> dict[str, object]:
    """Parameters of a small search, some of it changed; its end alone is saved."""
    strategy = {"population": 6, "sigma": 1.0, "kind": "full"}
    evolution = {
        "generations": GENERATIONS,
        "rollouts": 2,
        "strategy": strategy,
        "save_every": 3600,
    }
    evolution |= changes.pop("evolution", {})  # type: ignore[operator]
    return {"controller": {"evolution": evolution, "final_rollouts": 4, **changes}}


def as_text(tree: object, path: str = "") -> list[str]:
    """Nested options as ``--params`` takes them."""
    if not isinstance(tree, dict):
        return [f"{path}={tree}"]
    return [
        line
        for key, value in tree.items()
        for line in as_text(value, f"{path}.{key}" if path else key)
    ]


def catalog(project: Path) -> DataCatalog:
    """What the newest versions are."""
    with KedroSession.create(project, env="mock") as session:
        return session.load_context().catalog


def logs(project: Path) -> dict[str, pd.DataFrame]:
    """The newest logs without what a clock says."""
    left = catalog(project)
    return {n: left.load(n).drop(columns=CLOCKED, errors="ignore") for n in LOGS}


def weights(project: Path) -> torch.Tensor:
    controller = catalog(project).load("controller")
    assert isinstance(controller, Controller)
    return controller.get_parameters()


def rows_on_disk(project: Path) -> int:
    """Generations that another process can read in the newest fitness log."""
    files = sorted(
        project.glob("data/07_model_output/mock/fitness_log.parquet/*/*.parquet")
    )
    if not files:
        return 0
    with files[-1].open("rb") as file:
        return len(pd.read_parquet(file))


def generations_drawn(project: Path) -> int:
    """Generations in the newest event file."""
    folders = sorted(project.glob("data/07_model_output/mock/tensorboard/*"))
    if not folders:
        return 0
    events = EventAccumulator(str(folders[-1])).Reload()
    known = "C/mean" in events.Tags()["scalars"]
    return len(events.Scalars("C/mean")) if known else 0


def interrupted(
    project: Path, save_every: int, when: Callable[[], bool], sign: int
) -> tuple[str, int]:
    """Start the stage in a process of its own, end it amid the search by a signal."""
    return start_and_end(
        project,
        "mock",
        "controller",
        as_text(options(evolution={"save_every": save_every})),
        when,
        sign,
        lambda: rows_on_disk(project) < GENERATIONS,
    )


def kill_behind(project: Path, generations: int) -> None:
    """Start the stage, and kill it when so many generations are on the disk, or more."""
    interrupted(
        project, 0, lambda: rows_on_disk(project) >= generations, signal.SIGKILL
    )
    assert generations <= rows_on_disk(project) < GENERATIONS


@pytest.fixture(scope="module")
def killed(mock_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy in which a search was killed behind its 13th generation, to be copied."""
    copy = shutil.copytree(mock_project, tmp_path_factory.mktemp("killed") / "project")
    kill_behind(copy, 13)
    return copy


@pytest.fixture(scope="module")
def uninterrupted(
    mock_project: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, pd.DataFrame], torch.Tensor]:
    """Logs and controller of a search that nothing disturbed."""
    copy = shutil.copytree(mock_project, tmp_path_factory.mktemp("whole") / "project")
    with contextlib.chdir(copy):
        run(copy, "controller", options(), env="mock")
        return logs(copy), weights(copy)


@pytest.mark.parametrize("generations", [1, 13])
def test_a_killed_search_resumes_to_the_same_bits(
    mock: Path,
    killed: Path,
    uninterrupted: tuple[dict[str, pd.DataFrame], torch.Tensor],
    generations: int,
) -> None:
    if generations == 1:
        kill_behind(mock, 1)
    else:
        shutil.copytree(killed / "data", mock / "data", dirs_exist_ok=True)
    run(mock, "controller", options(resume=True), env="mock")
    expected, controller = uninterrupted
    found = logs(mock)
    assert list(found["fitness_log"]["generation"]) == list(range(GENERATIONS))
    for name, log in expected.items():
        pd.testing.assert_frame_equal(found[name], log, check_exact=True)
    assert torch.equal(weights(mock), controller)


@pytest.mark.parametrize(
    ("sign", "name", "code"),
    [(signal.SIGINT, "Ctrl-C", 130), (signal.SIGTERM, "SIGTERM", 143)],
)
def test_an_ended_search_keeps_every_finished_generation(
    mock: Path,
    uninterrupted: tuple[dict[str, pd.DataFrame], torch.Tensor],
    sign: int,
    name: str,
    code: int,
) -> None:
    # Nothing of the logs is saved before the end; the curves are.
    said, ended_with = interrupted(
        mock, 3600, lambda: generations_drawn(mock) >= 5, sign
    )
    assert f"Aborted! {name} came." in said
    assert ended_with == code
    assert "Traceback" not in said
    done = rows_on_disk(mock)
    assert 4 <= done < GENERATIONS
    expected, controller = uninterrupted
    pd.testing.assert_frame_equal(
        logs(mock)["fitness_log"], expected["fitness_log"][:done], check_exact=True
    )
    run(mock, "controller", options(resume=True), env="mock")
    assert torch.equal(weights(mock), controller)


def test_no_controller_is_selected_from_an_interrupted_search(
    mock: Path, killed: Path
) -> None:
    shutil.copytree(killed / "data", mock / "data", dirs_exist_ok=True)
    with pytest.raises(ValueError, match=r"search_state.*controller\.resume=true"):
        run(
            mock,
            "controller",
            options(),
            env="mock",
            node_names=["controller.select_controller"],
        )
    # And it does not count as finished: only what is missing is run, which is all.
    run(mock, "controller", options(), env="mock", only_missing_outputs=True)
    assert len(logs(mock)["fitness_log"]) == GENERATIONS


def test_a_finished_search_can_be_given_more_generations(
    mock: Path, uninterrupted: tuple[dict[str, pd.DataFrame], torch.Tensor]
) -> None:
    run(mock, "controller", options(evolution={"generations": 5}), env="mock")
    run(mock, "controller", options(resume=True), env="mock")
    assert torch.equal(weights(mock), uninterrupted[1])


def test_worker_processes_give_the_same_bits(
    mock: Path, uninterrupted: tuple[dict[str, pd.DataFrame], torch.Tensor]
) -> None:
    run(mock, "controller", options(evaluator={"workers": 2}), env="mock")
    expected, controller = uninterrupted
    found = logs(mock)
    for name, log in expected.items():
        pd.testing.assert_frame_equal(found[name], log, check_exact=True)
    assert torch.equal(weights(mock), controller)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"evolution": {"strategy": {"population": 8, "sigma": 1.0, "kind": "full"}}}, "strategy.population: it has 6, the options 8"),
        ({"model": {"hidden_sizes": [3]}}, "parameters: it has"),
        ({"seed": 5}, "seed: it has 1, the options 5"),
    ],
)  # fmt: skip
def test_a_state_of_other_options_is_refused(
    mock: Path, changes: dict[str, object], said: str
) -> None:
    run(mock, "controller", options(evolution={"generations": 1}), env="mock")
    with pytest.raises(ValueError, match=said):
        run(mock, "controller", options(resume=True, **changes), env="mock")


def test_where_there_is_no_search_to_resume_one_begins(
    mock: Path,
    uninterrupted: tuple[dict[str, pd.DataFrame], torch.Tensor],
    caplog: pytest.LogCaptureFixture,
) -> None:
    run(mock, "controller", options(resume=True), env="mock")
    assert "nothing to resume" in caplog.text
    assert torch.equal(weights(mock), uninterrupted[1])


def test_the_curves_are_those_of_the_log(mock: Path) -> None:
    run(mock, "controller", options(evolution={"generations": 3}), env="mock")
    left = catalog(mock)
    events = EventAccumulator(str(left.load("tensorboard"))).Reload()
    log = left.load("fitness_log")
    for name in ("mean", "sigma", "steps_per_second"):
        values = [event.value for event in events.Scalars(f"C/{name}")]
        assert values == pytest.approx(log[name].tolist())
    assert events.Tags()["histograms"] == ["C/weights of the mean"]


def test_the_mock_environment_needs_no_trained_weights(mock: Path) -> None:
    shutil.rmtree(mock / "data")
    few = ["evaluation.episodes=6", "evaluation.watched=4", "blind.games=1"]
    done = subprocess.run(
        [*KEDRO, "run", "--env", "mock", "--params", ",".join(few)],
        cwd=mock,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    # The run ends with what came of it.
    assert "over random play, a new action each step: +" in done.stdout.splitlines()[-1]
    left = catalog(mock)
    summary = left.load("evaluation_summary")
    for world in ("dream", "real"):
        # The optimum is known: to survive to the cap of 200.
        assert summary[world]["controller"]["mean"] >= 190
        assert summary[world]["random_held"]["mean"] < 60
    assert sorted(left.load("stage_seconds")) == [
        "blind",
        "controller",
        "evaluation",
        "mock",
        "pictures",
    ]


def test_an_unknown_stage_in_globals_is_refused(mock: Path) -> None:
    globals_file = mock / "conf/mock/globals.yml"
    globals_file.write_text("stages: [mock, sleep]\n")
    with (
        pytest.raises(ValueError, match=r"globals\.yml.*found sleep"),
        KedroSession.create(mock, env="mock") as session,
    ):
        session.load_context()
