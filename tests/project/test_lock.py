"""One run at a time, in real processes, one of which is really killed."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.kedro_runs import KEDRO, copy_project, run, start_and_end
from wm_pipeline.common.errors import InputError

pytestmark = pytest.mark.slow

LONG = ["collection.episodes=100000"]


def second(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*KEDRO, "run", "--env", "test", *arguments],
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def test_a_second_run_is_refused_and_the_dead_hold_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = copy_project(tmp_path)
    monkeypatch.chdir(project)
    refused = []

    def at_work() -> bool:
        if not list(project.glob("data/01_raw/test/episodes/*/*.parquet")):
            return False
        refused.append(second(project, "--pipelines", "collection"))
        with pytest.raises(InputError, match="Another run writes"):
            run(project, "collection")
        return True

    start_and_end(project, "test", "collection", LONG, at_work, signal.SIGKILL)
    (done,) = refused
    assert done.returncode == 1
    assert "Another run writes the data of the task test:" in done.stderr
    said = " ".join(done.stderr.split())
    assert "run --env test --pipelines collection" in said
    assert "Traceback" not in done.stderr
    # Its options were others, so there is nothing to resume; but it may run.
    run(project, "collection")
    assert (project / "data/01_raw/test/episodes/current.json").exists()


def test_looking_at_runs_needs_no_lock(own_project: Path) -> None:
    lock = own_project / "data/.test.lock"
    lock.unlink()
    run(own_project, "runs,results")
    assert not lock.exists()
    run(own_project, "dream")
    assert f"process {os.getpid()}, since 20" in lock.read_text()
