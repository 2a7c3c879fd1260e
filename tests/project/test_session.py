"""A run that ends otherwise than Kedro thinks of."""

import contextlib
import fcntl
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kedro.framework.project import settings
from kedro.runner import SequentialRunner

from tests.kedro_runs import copy_project
from wm_pipeline.common import progress
from wm_pipeline.common.errors import InputError
from wm_pipeline.datasets.shards import ShardsDataset
from wm_pipeline.episodes.episode import Episode
from wm_pipeline.project.hooks import KeepRecord
from wm_pipeline.project.origins import _Reasons
from wm_pipeline.workers.pool import WorkerPool


class Interrupted(SequentialRunner):
    """Ctrl-C comes at the end of the last stage."""

    def run(self, *args: Any, **what: Any) -> dict[str, Any]:
        super().run(*args, **what)
        raise KeyboardInterrupt


@pytest.fixture
def clone(tmp_path: Path) -> Iterator[Path]:
    yield copy_project(tmp_path)
    progress.listeners.clear()


def run_mock(project: Path, **what: Any) -> None:
    with settings.SESSION_CLASS.create(project, env="mock") as session:
        session.run(pipeline_names=["mock"], **what)


def assert_over(project: Path) -> None:
    """Another process could run, nothing listens, and the record says when it ended."""
    with (project / "data/.mock.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert progress.listeners == []
    (record,) = project.glob("data/*/mock/run_record.json/*/run_record.json")
    assert json.loads(record.read_text())["ended"] is not None
    assert list(project.glob("data/*/mock/stage_seconds.json/*")) == []


def test_ctrl_c_in_a_notebook_ends_the_run_for_all(clone: Path, tmp_path: Path) -> None:
    with contextlib.chdir(tmp_path):
        with pytest.raises(KeyboardInterrupt):
            run_mock(clone, runner=Interrupted())
        assert Path.cwd() == tmp_path
    assert_over(clone)


def test_no_other_run_begins_before_the_record_of_this_one_is_written(
    clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded = []

    def interrupted(_: KeepRecord) -> None:
        with (clone / "data/.mock.lock").open() as lock, pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        recorded.append(True)

    monkeypatch.setattr(KeepRecord, "interrupted", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_mock(clone, runner=Interrupted())
    assert recorded == [True]


def test_an_error_behind_the_stages_ends_the_run_for_all(
    clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_Reasons, "other", lambda *_: "another")
    with pytest.raises(InputError, match="was kept, but is not of what was made"):
        run_mock(clone, only_missing_outputs=True)
    assert_over(clone)


def test_what_cannot_be_closed_does_not_hide_why_a_run_ended(
    clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = []

    def yielding() -> Iterator[None]:
        try:
            yield
        finally:
            closed.append(True)
            raise ValueError("it cannot be closed")

    def other(*_: Any) -> None:
        taken = yielding()
        next(taken)
        raise InputError("it reads what is not there")

    monkeypatch.setattr(_Reasons, "other", other)
    with pytest.raises(InputError, match="it reads what is not there"):
        run_mock(clone, only_missing_outputs=True)
    assert closed == [True]
    assert progress.listeners == []


@pytest.mark.slow
@pytest.mark.parametrize("fails", ["save", "steps"])
def test_a_collection_that_fails_leaves_no_workers(
    clone: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    """At saving what it yields, or at what it does with what it is yielded."""
    closed: list[WorkerPool] = []
    close = WorkerPool.close

    def refuse(*_: Any) -> None:
        raise InputError("there is no room for it")

    monkeypatch.setattr(WorkerPool, "close", lambda p: closed.append(p) or close(p))
    failing = {"save": ShardsDataset, "steps": Episode}[fails]
    monkeypatch.setattr(failing, fails, refuse)
    with (
        pytest.raises(InputError, match="no room") as raised,
        settings.SESSION_CLASS.create(clone, env="test") as session,
    ):
        session.run(pipeline_names=["collection"])
    # The error, and all that it refers to, is still there.
    assert raised.tb is not None
    assert len(closed) == 1
