"""The export stage on a catalog in memory, in the mock games."""

import importlib.util
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from tests.pipelines.in_memory import catalog_of, options, run_node
from wm_pipeline.common.errors import InputError
from wm_pipeline.exporting.pruning import PruningOptions
from wm_pipeline.models.controller import Controller
from wm_pipeline.pipelines.export.nodes import (
    _tell,
    export_int8,
    export_models,
    export_pruned,
    judge_exports,
)
from wm_pipeline.pipelines.mock.nodes import make_mock_world_model
from wm_pipeline.workers.engine import EngineOptions

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def mock(bare_project: Path) -> dict[str, Any]:
    mock = options(bare_project, "mock")
    pruning = PruningOptions(games=3, steps=100, batch_size=16)
    changes = {"episodes": 20, "calibration_games": 2, "decisions": 10}
    changed = {**changes, "pruning": pruning}
    engine = EngineOptions(workers=1)
    return mock | {
        "engine": engine,
        "export": mock["export"].model_copy(update=changed),
    }


def test_the_file_plays_twenty_games_as_c_does_action_by_action(
    mock: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    catalog = catalog_of(mock, tmp_path)
    run_node(catalog, "mock", make_mock_world_model)
    world_model = catalog.load("world_model")
    outputs = mock["environment"].actions.outputs
    controller = Controller.for_world(mock["controller"].model, world_model, outputs)
    torch.manual_seed(1)
    controller.set_parameters(torch.randn(controller.size))
    catalog["controller"] = controller
    contents = run_node(catalog, "export", export_models)
    assert len({*contents}) == 5
    (small,) = run_node(catalog, "export", export_int8)
    assert small not in contents
    (pruned,) = run_node(catalog, "export", export_pruned)
    with caplog.at_level(logging.INFO):
        table, figure = run_node(catalog, "export", judge_exports)
    assert table["agent"].tolist() == ["controller", "exported", "int8", "pruned"]
    scores = table.set_index("agent")
    assert scores.loc["exported", "same_episodes"] == scores.loc["exported", "episodes"]
    assert scores.loc["exported", "episodes"] == 20
    assert scores.loc["exported", "gain"] == 0
    assert (scores["microseconds"] > 0).all()
    assert np.isnan(scores.loc["controller", "bytes"])
    assert scores.loc["int8", "bytes"] == len(small)
    assert scores.loc["pruned", "bytes"] == len(pruned)
    # It balances as C does, or does not.
    assert scores.loc["pruned", "mean"] > 0.7 * scores.loc["controller", "mean"]
    assert "'exported' plays 20 of 20 episodes as C does" in caplog.text
    assert list(figure.data[0].y) == table["mean"].tolist()


def test_what_scores_too_little_is_marked(caplog: pytest.LogCaptureFixture) -> None:
    row = {"agent": "int8", "episodes": 20, "same_episodes": 3, "mean": 12.0}
    gain = {"gain": -3.0, "gain_low": -4.0, "gain_high": -2.0, "below": True}
    _tell(pd.DataFrame([row | gain]))
    assert "'int8' scores 12.0, which is below C's interval" in caplog.text


def test_a_missing_package_is_said(
    mock: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"onnx, onnxscript, onnxruntime: pip install"):
        export_models(None, None, mock["environment"], mock["dream"])  # type: ignore[arg-type]
