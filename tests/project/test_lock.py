"""One run at a time: the other is in a process of its own, which is really killed."""

import os
import signal
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.kedro_runs import copy_project, run, start_and_end
from wm_pipeline.cli import run as run_command

pytestmark = pytest.mark.slow

LONG = ["collection.episodes=100000"]


def test_a_second_run_is_refused_and_the_dead_hold_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = copy_project(tmp_path)
    monkeypatch.chdir(project)
    refused = []

    def at_work() -> bool:
        if not list(project.glob("data/01_raw/test/episodes/*/*.parquet")):
            return False
        asked = ["--env", "test", "--pipelines", "collection"]
        refused.append(CliRunner().invoke(run_command, asked))
        return True

    start_and_end(project, "test", "collection", LONG, at_work, signal.SIGKILL)
    (done,) = refused
    assert done.exit_code == 1
    assert "Another run writes the data of the task test:" in done.output
    said = " ".join(done.output.split())
    assert "run --env test --pipelines collection" in said
    assert isinstance(done.exception, SystemExit), "a sentence, and no traceback"
    # Its options were others, so there is nothing to resume; but it may run.
    run(project, "collection")
    assert (project / "data/01_raw/test/episodes/current.json").exists()


def test_looking_at_runs_needs_no_lock(own_project: Path) -> None:
    lock = own_project / "data/.test.lock"
    lock.unlink()
    run(own_project, "runs,results")
    assert not lock.exists()
    run(own_project, "controller")
    assert f"process {os.getpid()}, since 20" in lock.read_text()
