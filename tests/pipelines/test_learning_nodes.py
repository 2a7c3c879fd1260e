"""From play to the world model on a catalog in memory, node by node."""

import itertools
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from kedro.io import DataCatalog

from tests.pipelines.in_memory import catalog_of, options, run_node
from wm_pipeline.common import devices
from wm_pipeline.common.errors import InputError
from wm_pipeline.dreaming.evaluator import DreamOptions
from wm_pipeline.environments.actions import BoxActions
from wm_pipeline.environments.mock import mock_world_model
from wm_pipeline.models.training_state import TrainingState
from wm_pipeline.models.vae import ConvVAE
from wm_pipeline.models.world_model import WorldModel, digest
from wm_pipeline.pipelines.collection.nodes import collect_episodes
from wm_pipeline.pipelines.dream import nodes as dream_nodes
from wm_pipeline.pipelines.dream.nodes import (
    animate_dream,
    check_dream,
    load_world_model,
)
from wm_pipeline.pipelines.memory import nodes
from wm_pipeline.pipelines.memory.nodes import (
    score_memory,
    select_memory,
    train_memory,
)
from wm_pipeline.pipelines.vision.nodes import (
    VisionOptions,
    encode_episodes,
    score_vision,
    select_vision,
    train_vision,
)
from wm_pipeline.reporting.films import Film


class Still:
    """An agent that sees a frame and always does the same."""

    def __init__(self, action: int) -> None:
        self.action = action

    def act(self, frame: np.ndarray) -> int:
        assert frame.shape == (64, 64, 3)
        return self.action


def nothing() -> None:
    """No earlier state."""


TIMES = "seconds|per_second"


def none_begun(of: int, metadata: dict[str, Any]) -> int:
    raise AssertionError("nothing is resumed")


@pytest.fixture(scope="module")
def tiny(bare_project: Path) -> dict[str, Any]:
    """The sizes of conf/test, on the balance game."""
    tiny = options(bare_project, "test")
    tiny["environment"] = options(bare_project, "mock")["environment"]
    return tiny


@pytest.fixture(scope="module")
def learned(
    tiny: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> DataCatalog:
    """All that the stages up to the dream make."""
    catalog = catalog_of(tiny, tmp_path_factory.mktemp("shards"))
    catalog["unfinished_episodes"] = none_begun
    run_node(catalog, "collection", collect_episodes)
    for stage in ("vae", "mdn_rnn"):
        catalog[f"earlier_{stage}_training"] = nothing
    for function in (train_vision, select_vision, encode_episodes, score_vision):
        run_node(catalog, "vision", function)
    for function in (train_memory, select_memory, score_memory):
        run_node(catalog, "memory", function)
    for function in (load_world_model, check_dream, animate_dream):
        run_node(catalog, "dream", function)
    return catalog


@pytest.mark.parametrize(("most", "shown", "whole"), [(500, 7, True), (3, 3, False)])
def test_the_animation_ends_with_the_dream_or_before(
    tiny: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    most: int,
    shown: int,
    whole: bool,
) -> None:
    world = mock_world_model()
    found: list[tuple[Film, bool]] = []

    def noted(film: Film, *_: Any, whole: bool) -> np.ndarray:
        found.append((film, whole))
        return np.zeros(1)

    monkeypatch.setattr(dream_nodes, "animation", noted)
    dream = DreamOptions(temperature=1.0, max_steps=7 * world.mdn_rnn.frame_skip)
    check = tiny["dream_check"].model_copy(update={"animation_steps": most})
    animate_dream(world, tiny["environment"], dream, check)
    ((film, said),) = found
    assert not film.terminated
    assert (len(film.steps), said) == (shown, whole)


def beside(learned: DataCatalog, folder: Path, tiny: dict[str, Any]) -> DataCatalog:
    """A catalog with other options that reads what was learned."""
    catalog = catalog_of(tiny, folder)
    names = ("episodes", "latents", "vae", "unfinished_episodes")
    earlier = ("earlier_vae_training", "earlier_mdn_rnn_training")
    for name in (*names, *earlier):
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


def test_who_uses_v_and_m_leaves_them_where_they_are(
    learned: DataCatalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run of an ablation hands them on: after V on a GPU, C plays on the CPU."""
    latents, episodes = learned.load("latents"), learned.load("episodes")
    vae, mdn_rnn = learned.load("vae"), learned.load("mdn_rnn")
    vision, memory = (learned.load(f"params:{name}") for name in ("vision", "memory"))
    uses = [
        lambda: list(encode_episodes(episodes, vae, vision)),
        lambda: score_vision(episodes, latents, vae, vision),
        lambda: score_memory(latents, mdn_rnn, memory),
    ]
    monkeypatch.setattr(devices, "choose_device", lambda *_: torch.device("meta"))
    for use in uses:
        with pytest.raises((NotImplementedError, RuntimeError), match="meta"):
            use()
    for module in (vae, mdn_rnn):
        assert next(module.parameters()).device.type == "cpu"


def test_held_actions_sweeps_and_agents_take_turns(
    tiny: dict[str, Any], tmp_path: Path
) -> None:
    stage = tiny["collection"]
    still = {"kind": "python", "name": f"{__name__}.Still", "kwargs": {"action": 1}}
    changed = type(stage).model_validate(
        stage.model_dump()
        | {"episodes": 8, "holds": [[5, 5]], "sweeps": [[1, 1], [2, 2]]}
        | {"policies": {"still": still}}
    )
    catalog = catalog_of(tiny | {"collection": changed}, tmp_path)
    catalog["unfinished_episodes"] = none_begun
    run_node(catalog, "collection", collect_episodes)
    episodes = catalog.load("episodes")
    for number in range(8):
        actions = episodes.read(number)["action"][:, 0].tolist()
        lengths = [len(list(run)) for _, run in itertools.groupby(actions)][:-1]
        if number % 4 == 3:
            assert set(actions) == {0}
        elif number % 4 == 0:
            # The same action may be drawn twice.
            assert all(length % 5 == 0 for length in lengths)
        else:
            assert set(lengths) == {number % 4}
            assert set(actions) == {-1, 1}


def test_latents_take_the_frames_places(learned: DataCatalog) -> None:
    episodes, latents = learned.load("episodes"), learned.load("latents")
    assert latents.metadata["vae_digest"] == digest(learned.load("vae"))
    assert latents.lengths.tolist() == episodes.lengths.tolist()
    played, encoded = episodes.read(3), latents.read(3)
    assert encoded.keys() == played.keys() - {"frame"} | {"mean", "log_variance"}
    assert (encoded["action"] == played["action"]).all()
    mean, _ = learned.load("vae").encode_frames(played["frame"])
    assert encoded["mean"] == pytest.approx(mean.numpy(), abs=1e-2)


def test_what_v_shows_is_told_by_the_size_of_things(
    learned: DataCatalog,
    tiny: dict[str, Any],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    catalog = beside(learned, tmp_path, tiny)
    # All that is bright in the balance game, rather than what is red.
    things = {"kind": "colour", "channel": 1, "threshold": 0.5}
    catalog["params:vision"] = VisionOptions.model_validate(
        tiny["vision"].model_dump() | {"things": things}
    )
    run_node(catalog, "vision", score_vision)
    recall, scores = catalog.load("vae_recall"), catalog.load("vae_scores")
    assert recall["least"].tolist() == [1, 5, 17, 65]
    assert recall["pixels"].sum() > 0
    for row in recall.itertuples():
        found = scores[f"recall_{row.least}_to_{row.most}"]
        assert found == pytest.approx(row.recall, nan_ok=True)
    before = learned.load("vae_recall")
    assert before["pixels"].tolist() != recall["pixels"].tolist()
    decode = ConvVAE.decode_frames
    monkeypatch.setattr(ConvVAE, "decode_frames", lambda *each: 0 * decode(*each))
    with caplog.at_level("INFO"):
        run_node(catalog, "vision", score_vision)
    assert re.search(r" pixels: 0% of [\d,]+; it shows none of that size", caplog.text)
    assert "nan" not in caplog.text


def test_training_leaves_curves_and_scores(learned: DataCatalog) -> None:
    for name, steps in (("vae_history", 20), ("mdn_rnn_history", 10)):
        history = learned.load(name)
        assert list(history.columns) == ["step", "split", "metric", "value"]
        assert history["step"].max() == steps
    assert learned.load("vae_scores")["loss"] > 0
    assert learned.load("vae_scores")["time_explained"] <= 1
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
    for name in (
        "shortest_constant_dream",
        "longest_constant_dream",
        "random_held_dream",
    ):
        assert 0 < scores[name] <= 80
    film = learned.load("dreamed_episode")
    assert film.ndim == 4
    assert film.shape[-1] == 3


class Paying:
    """Latents whose steps pay otherwise.

    Args:
        latents: Those of a game that pays 1 a step.
        reward: Of the first step of each episode.
    """

    def __init__(self, latents: Any, reward: float) -> None:
        self._latents, self._reward = latents, reward
        self.lengths = latents.lengths

    def __len__(self) -> int:
        return len(self._latents)

    def read(self, episode: int, columns: list[str]) -> dict[str, np.ndarray]:
        """The rewards."""
        assert columns == ["reward"]
        reward = self._latents.read(episode, columns)["reward"].copy()
        reward[0] = self._reward
        return {"reward": reward}


@pytest.mark.parametrize(
    ("reward", "told"),
    [
        (1.0, ("a constant action lasts", "lasted")),
        (-5.0, ("a constant action pays", "paid")),
    ],
)
def test_the_dream_is_told_by_return_where_that_is_not_survival(
    learned: DataCatalog,
    tiny: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
    reward: float,
    told: tuple[str, str],
) -> None:
    latents = Paying(learned.load("latents"), reward)
    options = (tiny[name] for name in ("environment", "dream", "dream_check"))
    world_model = mock_world_model()
    with caplog.at_level("INFO"):
        scores = check_dream(world_model, latents, *options)  # type: ignore[arg-type]
    said = next(m for m in caplog.messages if m.startswith("In the dream"))
    assert all(words in said for words in told)
    paid = latents.lengths.mean() - 1 + reward
    assert scores["collected_return"] == pytest.approx(paid)
    # Pushed to and fro the pole falls sooner or later than left alone.
    assert 0 < scores["shortest_constant_dream"] < scores["longest_constant_dream"]
    assert scores["longest_constant_dream"] <= 80
    # M pays 1 a step.
    for which, paid in (("shortest", "worst"), ("longest", "best")):
        steps = scores[f"{which}_constant_dream"]
        assert scores[f"{paid}_constant_return"] == pytest.approx(steps)


def test_nobody_is_advised_to_have_other_actions(
    learned: DataCatalog, tiny: dict[str, Any], recwarn: pytest.WarningsRecorder
) -> None:
    wheel = BoxActions(kind="box", low=(0.0,), high=(3.0,))
    environment = tiny["environment"].model_copy(update={"actions": wheel})
    options = (environment, tiny["dream"], tiny["dream_check"])
    check_dream(mock_world_model(), learned.load("latents"), *options)
    assert [str(each.message) for each in recwarn] == []


def test_play_that_meets_no_reward_says_what_to_do(
    tiny: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wrapped = tiny["environment"].model_dump() | {
        "wrappers": [{"name": "tests.unpaid.Unpaid"}]
    }
    environment = type(tiny["environment"]).model_validate(wrapped)
    for game in (tiny["environment"], environment):
        catalog = catalog_of({**tiny, "environment": game}, tmp_path)
        catalog["unfinished_episodes"] = none_begun
        run_node(catalog, "collection", collect_episodes)
    warnings = [r.message for r in caplog.records if r.levelname == "WARNING"]
    (said,) = (message for message in warnings if "met a reward" in message)
    assert "environment.wrappers" in said


def test_episodes_of_one_step_end_the_collection(
    tiny: dict[str, Any], tmp_path: Path
) -> None:
    limit = {"name": "gymnasium.wrappers.TimeLimit", "kwargs": {"max_episode_steps": 1}}
    wrapped = tiny["environment"].model_dump() | {"wrappers": [limit]}
    environment = type(tiny["environment"]).model_validate(wrapped)
    catalog = catalog_of({**tiny, "environment": environment}, tmp_path)
    catalog["unfinished_episodes"] = none_begun
    with pytest.raises(InputError, match="collection: M needs episodes of two steps"):
        run_node(catalog, "collection", collect_episodes)


def test_an_m_that_predicts_nothing_says_what_to_do(
    learned: DataCatalog,
    tiny: dict[str, Any],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    catalog = beside(learned, tmp_path, tiny)
    trained = learned.load("mdn_rnn")
    catalog["mdn_rnn"] = type(trained).from_config(trained.config())
    run_node(catalog, "memory", score_memory)
    warnings = [r.message for r in caplog.records if r.name.startswith("wm_pipeline")]
    (said,) = (message for message in warnings if "will teach nothing" in message)
    assert said.startswith("M predicts no better than who knows nothing of the game")
    (scores,) = run_node(catalog, "memory", score_memory)
    trivial = min(scores["nll_unchanged"], scores["nll_marginal"])
    better = scores | {"nll": trivial - 0.01}
    monkeypatch.setattr(nodes, "validate_mdn_rnn", lambda *_: better)
    caplog.clear()
    run_node(catalog, "memory", score_memory)
    assert "will teach nothing" not in caplog.text


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
    for function in (train_vision, select_vision):
        run_node(catalog, "vision", function)
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


@pytest.mark.parametrize(
    ("stage", "function", "things"),
    [
        ("vision", train_vision, "frames of the training"),
        ("memory", train_memory, "sequences of the training"),
    ],
)
def test_a_batch_larger_than_its_data_is_refused(
    learned: DataCatalog,
    tiny: dict[str, Any],
    tmp_path: Path,
    stage: str,
    function: Any,
    things: str,
) -> None:
    training = tiny[stage].training.model_copy(update={"batch_size": 9_999})
    changed = tiny[stage].model_copy(update={"training": training})
    catalog = beside(learned, tmp_path, {**tiny, stage: changed})
    message = rf"{stage}\.training\.batch_size: expected at most the \d+ {things}"
    with pytest.raises(InputError, match=message):
        run_node(catalog, stage, function)


@pytest.mark.parametrize(
    ("stage", "function", "state"),
    [
        ("vision", train_vision, "vae_training"),
        ("memory", train_memory, "mdn_rnn_training"),
    ],
)
def test_a_resumed_training_ends_with_the_same_bits(
    learned: DataCatalog,
    tiny: dict[str, Any],
    tmp_path: Path,
    stage: str,
    function: Any,
    state: str,
) -> None:
    whole: TrainingState = learned.load(state)
    training = tiny[stage].training.model_copy(update={"save_every": 0.0})
    options = tiny[stage].model_copy(update={"training": training, "resume": True})
    catalog = beside(learned, tmp_path, {**tiny, stage: options})
    # Nothing to resume: it begins, and is interrupted after six steps.
    inputs = {
        "vision": ("episodes", "params:vision"),
        "memory": ("latents", "vae", "params:environment", "params:memory"),
    }[stage]
    interrupted = function(*map(catalog.load, inputs), lambda: None)
    for _ in range(6):
        _, before = next(interrupted)
    interrupted.close()
    assert before.step == 6
    catalog[f"earlier_{state}"] = lambda: before
    *_, after = run_node(catalog, stage, function)
    assert after.step == whole.step
    assert after.arrays.keys() == whole.arrays.keys()
    for name, array in whole.arrays.items():
        np.testing.assert_array_equal(after.arrays[name], array)
    pd.testing.assert_frame_equal(after.history, whole.history)
