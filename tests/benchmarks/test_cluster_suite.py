"""Ray's rows, measured in a Ray that is really started."""

import math
import shutil
import tempfile
from typing import Any

import pytest

from tests.benchmarks.test_suites import ACTIONS, LINEAR, OPTIONS
from wm_pipeline.benchmarks import cluster_suite
from wm_pipeline.benchmarks.cluster_suite import ray_rows
from wm_pipeline.benchmarks.options import BenchmarkOptions
from wm_pipeline.benchmarks.worlds import World
from wm_pipeline.environments.actions import ThresholdActions
from wm_pipeline.environments.mock import mock_world_model
from wm_pipeline.models.controller import Controller, ControllerOptions
from wm_pipeline.workers import ray_pool

CLUSTER = {
    "workers": [1, 2, 40],
    "population": 40,
    "steps": 100,
    "bytes_per_second": 1e6,
    "searches": {"small": {"kind": "separable", "world": "tiny", "model": LINEAR}},
}


def world() -> World:
    model = mock_world_model()
    options = ControllerOptions.model_validate(LINEAR)
    actions = ThresholdActions.model_validate(ACTIONS)
    return World(model, Controller.for_world(options, model, 1), actions, 6)


def options(**others: Any) -> BenchmarkOptions:
    return BenchmarkOptions.model_validate({**OPTIONS, **others})


def test_without_ray_there_are_no_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ray_rows(world(), options(ray_workers=0, cluster=CLUSTER)) == []
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert ray_rows(world(), options(ray_workers=1, cluster=CLUSTER)) == []


def test_a_search_dreams_in_a_world_that_is_measured() -> None:
    search = {**CLUSTER["searches"]["small"], "world": "elsewhere"}  # type: ignore[index]
    with pytest.raises(ValueError, match=r"searches.one.world: expected one of tiny"):
        options(cluster={**CLUSTER, "searches": {"one": search}})


def test_a_clusters_generation_is_put_together_from_its_parts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rates: dict[Any, float] = {}
    measured = cluster_suite.measured

    def kept(*given: Any) -> list[dict[str, Any]]:
        rows = measured(*given)
        rates.update({row["what"]: row["per_second"] for row in rows if "what" in row})
        return rows

    monkeypatch.setattr(cluster_suite, "measured", kept)
    folder = tempfile.mkdtemp(prefix="ray_", dir="/tmp")  # paths of sockets are short
    monkeypatch.setenv("RAY_TMPDIR", folder)
    rows = ray_rows(world(), options(ray_workers=1, cluster=CLUSTER))
    shutil.rmtree(folder, ignore_errors=True)
    assert not ray_pool._bridges
    engines, clusters = rows[:3], rows[3:]
    assert [row["name"] for row in engines] == ["local", "local, beside Ray", "Ray"]
    assert {row["subject"] for row in engines} == {"engine"}
    assert [row["workers"] for row in clusters] == [1, 2, 40]
    size = clusters[0]["parameters"]
    own = 1 / rates["search"]
    sent = 40 * (4 * size + 12 * 2) / 1e6
    for row, share, few in zip(clusters, (40, 20, 1), (32, 20, 1), strict=True):
        dreams = share * 2 * 100 / rates["dream", few]
        whole = own + 1 / rates["hand out", share] + sent + dreams
        assert row["per_second"] == pytest.approx(1 / whole)
        assert row["share"] == pytest.approx(own / whole)
        assert math.isfinite(whole)
