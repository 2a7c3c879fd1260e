"""From play to the world model on a catalog in memory, node by node."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from kedro.io import DataCatalog

from tests.pipelines.in_memory import catalog_of, options, run_node
from wm_pipeline.models.world_model import WorldModel, digest
from wm_pipeline.pipelines.collection.nodes import collect_episodes
from wm_pipeline.pipelines.dream.nodes import (
    animate_dream,
    check_dream,
    load_world_model,
)
from wm_pipeline.pipelines.memory.nodes import train_memory
from wm_pipeline.pipelines.vision.nodes import (
    encode_episodes,
    score_vision,
    train_vision,
)

TIMES = "seconds|per_second"


def none_begun(of: int, metadata: dict[str, Any]) -> int:
    raise AssertionError("nothing is resumed")


@pytest.fixture(scope="module")
def tiny(bare_project: Path) -> dict[str, Any]:
    """The sizes of conf/test, on the balance game."""
    tiny = options(bare_project, "test")
    tiny["environment"] = options(bare_project, "mock")["environment"]
    tiny["collection"] = tiny["collection"].model_copy(update={"workers": 1})
    return tiny


@pytest.fixture(scope="module")
def learned(
    tiny: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> DataCatalog:
    """All that the stages up to the dream make."""
    catalog = catalog_of(tiny, tmp_path_factory.mktemp("shards"))
    catalog["unfinished_episodes"] = none_begun
    run_node(catalog, "collection", collect_episodes)
    for function in (train_vision, score_vision, encode_episodes):
        run_node(catalog, "vision", function)
    run_node(catalog, "memory", train_memory)
    for function in (load_world_model, check_dream, animate_dream):
        run_node(catalog, "dream", function)
    return catalog


def beside(learned: DataCatalog, folder: Path, tiny: dict[str, Any]) -> DataCatalog:
    """A catalog with other options that reads what was learned."""
    catalog = catalog_of(tiny, folder)
    for name in ("episodes", "latents", "vae", "unfinished_episodes"):
        catalog[name] = learned.get(name)
    return catalog


def test_the_collection_makes_shards_of_episodes(learned: DataCatalog) -> None:
    episodes = learned.load("episodes")
    # conf/test: 8 episodes, 3 in a file.
    assert episodes.episodes_per_shard == [3, 3, 2]
    assert episodes.lengths.max() <= 200
    assert episodes.read(0)["frame"].shape[1:] == (64, 64, 3)
    seeds = [int(episodes.read(number)["seed"][0]) for number in range(8)]
    assert len(set(seeds)) == 8


def test_latents_take_the_frames_places(learned: DataCatalog) -> None:
    episodes, latents = learned.load("episodes"), learned.load("latents")
    assert latents.metadata["vae_digest"] == digest(learned.load("vae"))
    assert latents.lengths.tolist() == episodes.lengths.tolist()
    played, encoded = episodes.read(3), latents.read(3)
    assert encoded.keys() == played.keys() - {"frame"} | {"mean", "log_variance"}
    assert (encoded["action"] == played["action"]).all()
    mean, _ = learned.load("vae").encode_frames(played["frame"])
    assert encoded["mean"] == pytest.approx(mean.numpy(), abs=1e-2)


def test_training_leaves_curves_and_scores(learned: DataCatalog) -> None:
    for name, steps in (("vae_history", 20), ("mdn_rnn_history", 10)):
        history = learned.load(name)
        assert list(history.columns) == ["step", "split", "metric", "value"]
        assert history["step"].max() == steps
    assert learned.load("vae_scores")["loss"] > 0
    assert np.isfinite(learned.load("mdn_rnn_scores")["nll"])
    assert learned.load("reconstructions").dtype == np.uint8


def test_dreams_begin_where_episodes_did(learned: DataCatalog) -> None:
    world_model, latents = learned.load("world_model"), learned.load("latents")
    assert isinstance(world_model, WorldModel)
    first = latents.read(0)["mean"][0]
    assert world_model.start_means[0].numpy() == pytest.approx(first)
    scores = learned.load("dream_scores")
    assert scores["collected_real"] == pytest.approx(latents.lengths.mean())
    # conf/test: dreams of 80 steps at most.
    for name in ("still_dream", "longest_constant_dream", "random_held_dream"):
        assert 0 < scores[name] <= 80
    film = learned.load("dreamed_episode")
    assert film.ndim == 4
    assert film.shape[-1] == 3


@pytest.mark.parametrize(
    ("stage", "function", "log"),
    [
        ("vision", train_vision, "vae_history"),
        ("memory", train_memory, "mdn_rnn_history"),
    ],
)
def test_the_seed_decides_the_training(
    learned: DataCatalog,
    tiny: dict[str, Any],
    tmp_path: Path,
    stage: str,
    function: Any,
    log: str,
) -> None:
    first = learned.load(log)

    def trained(seed: int) -> pd.DataFrame:
        changed = {**tiny, stage: tiny[stage].model_copy(update={"seed": seed})}
        catalog = beside(learned, tmp_path, changed)
        run_node(catalog, stage, function)
        table: pd.DataFrame = catalog.load(log)
        return table[~table["metric"].str.contains(TIMES)].reset_index(drop=True)

    clocked = first["metric"].str.contains(TIMES)
    same, other = trained(tiny[stage].seed), trained(tiny[stage].seed + 1)
    pd.testing.assert_frame_equal(
        same, first[~clocked].reset_index(drop=True), check_exact=True
    )
    assert not other["value"].equals(same["value"])


def test_latents_of_another_vae_are_refused(
    learned: DataCatalog, tiny: dict[str, Any], tmp_path: Path
) -> None:
    changed = {**tiny, "vision": tiny["vision"].model_copy(update={"seed": 9})}
    catalog = beside(learned, tmp_path, changed)
    run_node(catalog, "vision", train_vision)
    with pytest.raises(ValueError, match="Run the vision stage again"):
        run_node(catalog, "memory", train_memory)
    catalog["mdn_rnn"] = learned.get("mdn_rnn")
    with pytest.raises(ValueError, match="Run the vision stage again"):
        run_node(catalog, "dream", load_world_model)


def test_fewer_episodes_than_a_split_needs_are_refused(
    learned: DataCatalog, tiny: dict[str, Any], tmp_path: Path
) -> None:
    memory = tiny["memory"].model_copy(update={"validation_fraction": 0.01})
    catalog = beside(learned, tmp_path, {**tiny, "memory": memory})
    with pytest.raises(ValueError, match="both need at least 1"):
        run_node(catalog, "memory", train_memory)
