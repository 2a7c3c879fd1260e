"""Tests of the curves, read back as TensorBoard reads them."""

import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter

from wm_pipeline.common import progress
from wm_pipeline.tracking.curves import Curves

ALL = {"scalars": 0, "histograms": 0}
"""Everything is read, nothing thinned out."""


def read(folder: Path) -> EventAccumulator:
    accumulator = EventAccumulator(str(folder), size_guidance=ALL)
    return accumulator.Reload()


def scalars(folder: Path, tag: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in read(folder).Scalars(tag)]


def test_scalars_are_named_after_what_is_trained(tmp_path: Path):
    curves = Curves(tmp_path / "run")
    curves("V", 10, {"loss": 0.5, "recall": 0.25}, {})
    curves("V", 20, {"loss": 0.375}, {})
    curves("C", 1, {"mean": -100.0}, {})
    curves.close()
    found = read(tmp_path / "run").Tags()
    assert sorted(found["scalars"]) == ["C/mean", "V/loss", "V/recall"]
    assert found["histograms"] == []
    assert scalars(tmp_path / "run", "V/loss") == [(10, 0.5), (20, 0.375)]
    assert scalars(tmp_path / "run", "V/recall") == [(10, 0.25)]
    assert scalars(tmp_path / "run", "C/mean") == [(1, -100.0)]


def test_ctrl_c_comes_when_a_step_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job's may be ignored
    curves, add = Curves(tmp_path), SummaryWriter.add_scalar

    def add_amid_ctrl_c(*given: Any) -> None:
        signal.raise_signal(signal.SIGINT)
        add(*given)

    monkeypatch.setattr(SummaryWriter, "add_scalar", add_amid_ctrl_c)
    with pytest.raises(KeyboardInterrupt):
        curves("C", 1, {"mean": 2.0, "best": 3.0}, {})
    curves.close()
    assert scalars(tmp_path, "C/mean") == [(1, 2.0)]
    assert scalars(tmp_path, "C/best") == [(1, 3.0)]


def test_weights_become_histograms(tmp_path: Path):
    values = np.random.default_rng(1).normal(2, 3, (20, 10))
    curves = Curves(tmp_path)
    curves("C", 3, {}, {"mean": values, "step": np.array([0.5])})
    curves.close()
    accumulator = read(tmp_path)
    tags = ["C/weights of the mean", "C/weights of the step"]
    assert sorted(accumulator.Tags()["histograms"]) == tags
    (event,) = accumulator.Histograms(tags[0])
    histogram = event.histogram_value
    assert (event.step, histogram.num) == (3, 200)
    assert histogram.min == pytest.approx(values.min(), rel=1e-12)
    assert histogram.max == pytest.approx(values.max(), rel=1e-12)
    assert histogram.sum == pytest.approx(values.sum(), rel=1e-9)
    assert histogram.sum_squares == pytest.approx((values**2).sum(), rel=1e-9)
    # Each bucket holds the values up to its limit.
    below = [(values <= limit).sum() for limit in histogram.bucket_limit]
    np.testing.assert_array_equal(np.cumsum(histogram.bucket), below)


def test_curves_can_be_watched_while_they_are_written(tmp_path: Path):
    curves = Curves(tmp_path)
    for step in (1, 2, 3):
        curves("M", step, {"nll": step / 4}, {})
        assert scalars(tmp_path, "M/nll")[-1] == (step, step / 4)
    assert len(list(tmp_path.iterdir())) == 1
    curves.close()


def test_without_a_figure_there_is_no_folder(tmp_path: Path):
    curves = Curves(tmp_path / "run")
    curves.close()
    assert list(tmp_path.iterdir()) == []


def test_figures_that_are_no_numbers_are_kept(tmp_path: Path):
    # A generation all of whose candidates failed has no finite mean.
    curves = Curves(tmp_path)
    curves("C", 1, {"mean": float("-inf"), "best": float("nan")}, {})
    curves("C", 2, {"mean": 1.0}, {})
    curves.close()
    assert scalars(tmp_path, "C/mean") == [(1, float("-inf")), (2, 1.0)]
    assert np.isnan(scalars(tmp_path, "C/best")[0][1])


def test_curves_listen_and_may_be_closed_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    curves = Curves(str(tmp_path))
    monkeypatch.setattr(progress, "listeners", [curves])
    progress.record("V", 4, {"loss": 0.5}, {"decoder": np.ones(2)})
    curves.close()
    curves.close()
    assert scalars(tmp_path, "V/loss") == [(4, 0.5)]
    assert read(tmp_path).Tags()["histograms"] == ["V/weights of the decoder"]
