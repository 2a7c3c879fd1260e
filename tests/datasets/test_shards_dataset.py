"""Tests of episodes as a Kedro dataset."""

from pathlib import Path

import numpy as np
import pytest
from kedro.io import DataCatalog, DatasetError
from kedro.pipeline import Node, Pipeline
from kedro.runner import SequentialRunner

from wm_pipeline.datasets import ShardsDataset, UnfinishedShardsDataset
from wm_pipeline.episodes.shards import Shard


def shards():
    """Two shards of two episodes, as a generator node makes them."""
    for index in (0, 1):
        episodes = [{"x": np.full(3, 2 * index + n)} for n in (0, 1)]
        yield Shard(index, 2, episodes, {"game": "doom"})


@pytest.fixture
def dataset(tmp_path: Path) -> ShardsDataset:
    return ShardsDataset(filepath=str(tmp_path / "episodes"))


def test_it_exists_and_loads_once_the_set_is_complete(dataset: ShardsDataset):
    for shard in shards():
        assert not dataset.exists()
        with pytest.raises(DatasetError, match=r"episodes: expected a complete set"):
            dataset.load()
        dataset.save(shard)
    assert dataset.exists()
    episodes = dataset.load()
    assert [episodes.read(n)["x"].tolist() for n in range(4)] == [
        [n] * 3 for n in range(4)
    ]
    assert episodes.metadata == {"game": "doom"}


def test_a_set_that_lost_a_shard_does_not_exist(dataset: ShardsDataset, tmp_path: Path):
    for shard in shards():
        dataset.save(shard)
    (tmp_path / "episodes/set-000001/shard-00000-of-00002.parquet").unlink()
    assert not dataset.exists()


def test_a_generator_node_fills_it(dataset: ShardsDataset):
    pipeline = Pipeline([Node(shards, inputs=None, outputs="episodes", name="play")])
    SequentialRunner().run(pipeline, DataCatalog({"episodes": dataset}))
    assert len(dataset.load()) == 4


def test_a_generator_node_that_fails_leaves_the_older_set(dataset: ShardsDataset):
    for shard in shards():
        dataset.save(shard)

    def failing():
        yield Shard(0, 2, [{"x": np.zeros(9)}])
        raise RuntimeError("the game crashed")

    pipeline = Pipeline([Node(failing, inputs=None, outputs="episodes", name="play")])
    with pytest.raises(RuntimeError, match="the game crashed"):
        SequentialRunner().run(pipeline, DataCatalog({"episodes": dataset}))
    assert dataset.load().lengths.tolist() == [3, 3, 3, 3]


def test_an_unfinished_set_is_looked_for_when_it_is_asked_for(
    dataset: ShardsDataset, tmp_path: Path
):
    unfinished = UnfinishedShardsDataset(filepath=str(tmp_path / "episodes"))
    ask = unfinished.load()
    assert ask(2, {"game": "doom"}) == 0
    dataset.save(next(shards()))
    assert ask(2, {"game": "doom"}) == 1
    with pytest.raises(DatasetError, match="only read"):
        unfinished.save(next(shards()))
