"""The newest checkpoint before a run, as a Kedro dataset."""

from pathlib import Path

import pytest
import torch
from kedro.io import DatasetError, Version

from wm_pipeline.datasets import CheckpointDataset, EarlierCheckpointDataset
from wm_pipeline.models.controller import Controller, ControllerOptions

RUNS = ["2026-01-01T00.00.00.000Z", "2026-01-02T00.00.00.000Z"]
MODEL = "wm_pipeline.models.controller.Controller"


def controller_of(value: float) -> Controller:
    controller = Controller(ControllerOptions(), 2, 3, 1)
    controller.set_parameters(torch.full((controller.size,), value))
    return controller


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "controller.safetensors"


def of_run(path: Path, version: str) -> CheckpointDataset:
    return CheckpointDataset(
        filepath=str(path), model=MODEL, version=Version(None, version)
    )


def earlier(path: Path, load: str | None = None) -> EarlierCheckpointDataset:
    return EarlierCheckpointDataset(
        filepath=str(path), model=MODEL, version=Version(load, "now")
    )


def test_the_newest_of_the_earlier_checkpoints_is_read_or_the_one_named(path: Path):
    assert earlier(path).load()() is None
    for version, value in zip(RUNS, (1.0, 2.0), strict=True):
        of_run(path, version).save(controller_of(value))
    read = earlier(path).load()
    of_run(path, "2026-01-03T00.00.00.000Z").save(controller_of(3.0))
    assert (read().get_parameters() == 2).all()
    assert (earlier(path, RUNS[0]).load()().get_parameters() == 1).all()
    with pytest.raises(DatasetError, match="what is earlier is only read"):
        earlier(path).save(controller_of(4.0))
