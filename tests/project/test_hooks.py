"""Tests of what Kedro calls around a run."""

import contextlib
import logging
from pathlib import Path
from typing import Any

import pytest
from kedro.framework.session import KedroSession
from kedro.pipeline import Node
from kedro.runner import AbstractRunner, SequentialRunner, ThreadRunner

from tests.kedro_runs import copy_project, run
from wm_pipeline.project.hooks import ALL_STAGES, TimeStages
from wm_pipeline.project.stages import stage_of
from wm_pipeline.tracking import curves
from wm_pipeline.tracking.stage_clock import StageClock


def nothing() -> int:
    return 0


@pytest.mark.parametrize(
    ("runner", "clocked"),
    [
        (None, ["vision", "memory"]),
        ("None", ["vision", "memory"]),
        ("<kedro.runner.sequential_runner.SequentialRunner object>", ["vision", "memory"]),
        ("<kedro.runner.thread_runner.ThreadRunner object>", [ALL_STAGES]),
    ],
)  # fmt: skip
def test_stages_are_clocked_one_by_one_where_they_run_so(
    runner: str | None, clocked: list[str]
) -> None:
    clock = StageClock()
    hooks = TimeStages(clock)
    hooks.before_pipeline_run({"runner": runner})
    for stage in ("vision", "memory"):
        hooks.before_node_run(Node(nothing, None, "x", name="n", namespace=stage))
    hooks.after_pipeline_run()
    assert list(clock.seconds) == clocked


def test_a_node_belongs_to_the_stage_of_its_namespace() -> None:
    assert stage_of(Node(nothing, None, "x", name="n", namespace="vision")) == "vision"


@pytest.mark.slow
@pytest.mark.parametrize("runner", [SequentialRunner, ThreadRunner])
def test_every_runner_leaves_its_seconds(
    tmp_path: Path, runner: type[AbstractRunner]
) -> None:
    project = copy_project(tmp_path)
    with contextlib.chdir(project):
        tiny = {"controller": {"evolution": {"generations": 1}}}
        run(project, "mock,controller", tiny, env="mock", runner=runner())
        with KedroSession.create(project, env="mock") as session:
            catalog = session.load_context().catalog
            seconds, record = catalog.load("stage_seconds"), catalog.load("run_record")
    expected = ["mock", "controller"] if runner is SequentialRunner else [ALL_STAGES]
    assert list(seconds) == list(record["cpu"]) == expected
    assert sum(seconds.values()) > 0
    assert record["ended"] is not None


def test_without_tensorboard_there_are_no_curves_and_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    missing: Any = lambda name: None  # noqa: E731
    monkeypatch.setattr(curves.importlib.util, "find_spec", missing)
    caplog.set_level(logging.INFO)
    quiet = curves.Curves(tmp_path / "run")
    quiet("V", 1, {"loss": 1.0}, {})
    quiet.close()
    assert "wm-pipeline[tensorboard]" in caplog.text
    assert not (tmp_path / "run").exists()
