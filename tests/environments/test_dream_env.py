"""Tests of the dream as a Gymnasium environment, alone and many side by side."""

import logging
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.wrappers.vector import RecordEpisodeStatistics

from tests.kedro_runs import ROOT
from wm_pipeline.common.checkpoints import save_checkpoint
from wm_pipeline.common.randomness import seeded_initialisation
from wm_pipeline.environments.actions import (
    Actions,
    BoxActions,
    DiscreteActions,
    ThresholdActions,
)
from wm_pipeline.environments.dream_env import DreamEnv, DreamVectorEnv
from wm_pipeline.environments.make import made_with, world_of
from wm_pipeline.environments.mock import mock_world_model
from wm_pipeline.models.mdn_rnn import MDNRNN, MDNRNNOptions
from wm_pipeline.models.vae import ConvVAE
from wm_pipeline.models.world_model import WorldModel

ID = "wm_pipeline/Dream-v0"
ACTIONS = ThresholdActions(kind="threshold", low=2, middle=0, high=1)
DISCRETE = DiscreteActions(kind="discrete", count=4)
BOX = BoxActions(kind="box", low=(-1.0, 0.0), high=(1.0, 10.0))
LEFT, STAY, RIGHT = 0, 1, 2
COLD, FROZEN = 1e-9, 1e-12
"""Temperatures at which noise is 3e-5 and 1e-6 of its deviation."""


def with_done_logit(world_model: WorldModel, logit: float) -> WorldModel:
    head = world_model.mdn_rnn.head
    with torch.no_grad():
        head.weight[-1] = 0
        head.bias[-1] = logit
    return world_model


@pytest.fixture
def unending(world_model: WorldModel) -> WorldModel:
    """A world in which no dream ends by itself."""
    return with_done_logit(world_model, -50.0)


def world_for(actions: Actions, vae: ConvVAE) -> WorldModel:
    """An unending world of these actions, in which every dream begins alike."""
    with seeded_initialisation(1, "test mdn-rnn"):
        options = MDNRNNOptions(hidden_size=8, mixtures=3, frame_skip=2)
        mdn_rnn = MDNRNN(options, vae.latent_size, actions.size, "")
    start = torch.ones(1, vae.latent_size)
    world_model = WorldModel(vae, mdn_rnn, start, torch.full_like(start, -60.0))
    return with_done_logit(world_model, -50.0).eval()


@pytest.fixture
def falling() -> WorldModel:
    """The balance game, upright at first: who always pushes to one side soon falls."""
    world_model = mock_world_model()
    world_model.start_log_variances.fill_(-60)
    return world_model


@pytest.fixture
def _strict(monkeypatch: pytest.MonkeyPatch):
    """Gymnasium's warnings are errors, but for those of what is meant so."""
    # Real games silence them for the whole process.
    monkeypatch.setattr(gymnasium.logger, "min_level", logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # A latent has no bounds, and box actions have those of their game.
        warnings.filterwarnings("ignore", message=".*observation space m..imum value")
        warnings.filterwarnings("ignore", message=".*symmetric and normalized space")
        yield


def dreaming(
    env: DreamEnv, seed: int, options: dict[str, Any] | None = None, steps: int = 5
) -> np.ndarray:
    """The observations of a dream's first steps."""
    observations = [env.reset(seed=seed, options=options)[0]]
    observations += [env.step(LEFT)[0] for _ in range(steps)]
    return np.stack(observations)


@pytest.mark.usefixtures("_strict")
@pytest.mark.parametrize("actions", [ACTIONS, DISCRETE, BOX], ids=lambda a: a.kind)
def test_gymnasium_accepts_the_dream(vae: ConvVAE, actions: Actions):
    env = gymnasium.make(
        ID,
        world_model=world_for(actions, vae),
        actions=actions,
        temperature=1.0,
        max_steps=20,
        render_mode="rgb_array",
    )
    assert isinstance(env.unwrapped, DreamEnv)
    check_env(env.unwrapped)


@pytest.mark.parametrize(
    ("actions", "space"),
    [
        (ACTIONS, gymnasium.spaces.Discrete(3)),
        (DISCRETE, gymnasium.spaces.Discrete(4)),
        (BOX, gymnasium.spaces.Box(np.float32([-1, 0]), np.float32([1, 10]))),
    ],
    ids=["threshold", "discrete", "box"],
)
def test_the_agent_acts_as_in_the_game(
    vae: ConvVAE, actions: Actions, space: gymnasium.Space
):
    env = DreamEnv(world_for(actions, vae), actions, 1.0, 20)
    assert env.action_space == space
    many = DreamVectorEnv(5, world_for(actions, vae), actions, 1.0, 20)
    assert many.single_action_space == space
    assert many.action_space.shape == (5, *space.shape)
    assert many.action_space.dtype == space.dtype


@pytest.mark.parametrize(
    ("actions", "chosen", "control"),
    [
        (ACTIONS, 0, [-1]),
        (ACTIONS, 2, [1]),
        (DISCRETE, 2, [0, 0, 1, 0]),
        (BOX, [0.5, 2.5], [0.5, -0.5]),
    ],
)
def test_m_reads_the_control_of_the_action(
    vae: ConvVAE, actions: Actions, chosen: Any, control: list[float]
):
    mdn_rnn = world_for(actions, vae).mdn_rnn
    env = DreamEnv(world_for(actions, vae), actions, COLD, 20)
    seen = torch.from_numpy(env.reset(seed=1)[0][None, :4])
    with torch.inference_mode():
        h, _ = mdn_rnn.remember(seen, torch.tensor([control]), mdn_rnn.initial_state(1))
    observation = env.step(np.array(chosen, env.action_space.dtype))[0]
    np.testing.assert_allclose(observation[4:], h[0], atol=1e-6)


def test_the_seed_decides_the_dream_bit_for_bit(unending: WorldModel):
    env, twin = (DreamEnv(unending, ACTIONS, 1.0, 20) for _ in range(2))
    first = dreaming(env, 1)
    np.testing.assert_array_equal(dreaming(env, 1), first)
    np.testing.assert_array_equal(dreaming(twin, 1), first)
    assert not np.array_equal(dreaming(env, 2), first)


def test_dreams_without_a_seed_go_on_differently(unending: WorldModel):
    env = DreamEnv(unending, ACTIONS, 1.0, 20)
    first, _ = env.reset(seed=1)
    second, _ = env.reset()
    assert not np.array_equal(first, second)


def test_global_generators_play_no_part(unending: WorldModel):
    env = DreamEnv(unending, ACTIONS, 1.0, 20)
    torch.manual_seed(1)
    first = dreaming(env, 1)
    torch.manual_seed(2)
    np.testing.assert_array_equal(dreaming(env, 1), first)


def test_dreams_begin_where_real_episodes_began(unending: WorldModel):
    unending.start_log_variances.fill_(-60)
    env = DreamEnv(unending, ACTIONS, 1.0, 20)
    begun = np.stack([env.reset(seed=seed)[0] for seed in range(60)])
    latents, hidden = begun[:, :4], begun[:, 4:]
    assert (hidden == 0).all()
    np.testing.assert_allclose(
        np.unique(latents.round(4), axis=0), unending.start_means.numpy(), atol=1e-4
    )


def test_a_beginning_is_sampled_with_its_deviation(unending: WorldModel):
    unending.start_means.zero_()
    unending.start_log_variances.fill_(np.log(9))
    env = DreamEnv(unending, ACTIONS, 1.0, 20)
    begun = np.stack([env.reset(seed=seed)[0][:4] for seed in range(300)])
    assert begun.std() == pytest.approx(3, rel=0.1)


def test_a_cold_dream_follows_the_likeliest_gaussian(unending: WorldModel):
    mdn_rnn = unending.mdn_rnn
    env = DreamEnv(unending, ACTIONS, COLD, 20)
    observation, _ = env.reset(seed=1)
    state = mdn_rnn.initial_state(1)
    with torch.inference_mode():
        for action in (LEFT, STAY, RIGHT):
            seen = torch.from_numpy(observation[None, :4])
            state = mdn_rnn.remember(seen, torch.tensor([[action - 1.0]]), state)
            prediction = mdn_rnn.predict(state[0])
            likeliest = prediction.logits.argmax(-1, keepdim=True)
            expected = prediction.means.gather(-1, likeliest)[0, :, 0]
            observation, reward, *_ = env.step(action)
            np.testing.assert_allclose(observation[:4], expected, atol=1e-3)
            np.testing.assert_allclose(observation[4:], state[0][0], atol=1e-6)
            assert reward == pytest.approx(prediction.reward.item(), abs=1e-6)


def test_the_temperature_option_changes_the_dream_from_then_on(unending: WorldModel):
    env = DreamEnv(unending, ACTIONS, 1.0, 20)
    mild = dreaming(env, 1)
    hot = dreaming(env, 1, {"temperature": 1.5})
    np.testing.assert_array_equal(hot[0], mild[0])
    assert not np.array_equal(hot[1:], mild[1:])
    np.testing.assert_array_equal(dreaming(env, 1), hot)
    np.testing.assert_array_equal(dreaming(env, 1, {"temperature": 1.0}), mild)
    built_hot = DreamEnv(unending, ACTIONS, 1.5, 20)
    np.testing.assert_array_equal(dreaming(built_hot, 1), hot)


def alone(*arguments: Any) -> DreamEnv:
    return DreamEnv(*arguments)


def in_company(*arguments: Any) -> DreamVectorEnv:
    return DreamVectorEnv(3, *arguments)


both = pytest.mark.parametrize("make", [alone, in_company])
Make = Callable[..., DreamEnv | DreamVectorEnv]


@both
@pytest.mark.parametrize(
    "temperature", [0, -1.0, float("nan"), float("inf"), "1.3", None]
)
def test_a_temperature_not_above_zero_is_refused(
    world_model: WorldModel, make: Make, temperature: Any
):
    with pytest.raises(ValueError, match=f"temperature.*{temperature}"):
        make(world_model, ACTIONS, temperature, 20)
    env = make(world_model, ACTIONS, 1.0, 20)
    with pytest.raises(ValueError, match=f"temperature.*{temperature}"):
        env.reset(seed=1, options={"temperature": temperature})
    assert env.dreams.temperature == 1.0


@both
@pytest.mark.parametrize("cap", [0, 2.5, "5", None])
def test_a_cap_below_one_step_is_refused(world_model: WorldModel, make: Make, cap: Any):
    said = f"max_steps: expected a whole number, 1 or more, found {cap!r}"
    with pytest.raises(ValueError, match=said):
        make(world_model, ACTIONS, 1.0, cap)
    make(world_model, ACTIONS, np.float32(1.0), np.int64(2))


@both
def test_actions_that_do_not_fit_m_are_refused(world_model: WorldModel, make: Make):
    with pytest.raises(ValueError, match=r"environment\.actions: .* 4 .* 1$"):
        make(world_model, DISCRETE, 1.0, 20)


def test_the_cap_truncates_and_counts_from_each_reset(unending: WorldModel):
    env = DreamEnv(unending, ACTIONS, 1.0, 3)
    for _ in range(2):
        env.reset(seed=1)
        ends = [env.step(STAY)[2:4] for _ in range(3)]
        assert ends == [(False, False), (False, False), (False, True)]


def test_the_dreamed_end_terminates_even_at_the_cap(world_model: WorldModel):
    ending = with_done_logit(world_model, 50.0)
    for cap in (1, 3):
        env = DreamEnv(ending, ACTIONS, 1.0, cap)
        env.reset(seed=1)
        assert env.step(STAY)[2:4] == (True, False)
        many = DreamVectorEnv(2, ending, ACTIONS, 1.0, cap)
        many.reset(seed=1)
        terminated, truncated = many.step(np.array([STAY, STAY]))[2:4]
        assert terminated.all()
        assert not truncated.any()


def test_render_decodes_the_latent(unending: WorldModel):
    env = DreamEnv(unending, ACTIONS, 1.0, 20, render_mode="rgb_array")
    frames = []
    for act in (lambda: env.reset(seed=1), lambda: env.step(LEFT)):
        latent = torch.from_numpy(act()[0][None, :4])
        frames.append(env.render())
        with torch.inference_mode():
            pixels = unending.vae.decode(latent)[0].permute(1, 2, 0).numpy()
        np.testing.assert_allclose(frames[-1], pixels * 255, atol=0.51)
        assert (frames[-1].shape, frames[-1].dtype) == ((64, 64, 3), np.uint8)
    assert not np.array_equal(*frames)


# Finding it by its id.


def options_of(**changes: Any) -> dict[str, Any]:
    """Keywords of ``gymnasium.make`` but for the world; None leaves one out."""
    options = {"actions": ACTIONS, "temperature": 1.0, "max_steps": 20} | changes
    return {name: value for name, value in options.items() if value is not None}


@pytest.fixture
def checkpoints(tmp_path: Path, unending: WorldModel) -> dict[str, str]:
    """Files of a world model, and of a V and an M that belong together."""
    modules = {"world_model": unending, "vae": unending.vae, "m": unending.mdn_rnn}
    for name, module in modules.items():
        save_checkpoint(tmp_path / f"{name}.safetensors", module)
    return {name: str(tmp_path / f"{name}.safetensors") for name in modules}


@pytest.mark.usefixtures("_strict")
@pytest.mark.parametrize("world", ["object", "file", "path", "files of V and M"])
@pytest.mark.parametrize("actions", [ACTIONS, ACTIONS.model_dump()], ids=type)
def test_gymnasium_finds_the_dream_by_its_id(
    unending: WorldModel, checkpoints: dict[str, str], world: str, actions: Any
):
    worlds: dict[str, dict[str, Any]] = {
        "object": {"world_model": unending},
        "file": {"world_model": checkpoints["world_model"]},
        "path": {"world_model": Path(checkpoints["world_model"])},
        "files of V and M": {"vae": checkpoints["vae"], "mdn_rnn": checkpoints["m"]},
    }
    options = options_of(actions=actions, max_steps=2)
    env = gymnasium.make(ID, **worlds[world], **options, render_mode="rgb_array")
    assert "PassiveEnvChecker" in str(env)
    observation, _ = env.reset(seed=1)
    env.render()
    assert [env.step(LEFT)[3] for _ in range(2)] == [False, True]
    if world != "files of V and M":  # whose dreams begin elsewhere
        expected, _ = DreamEnv(unending, ACTIONS, 1.0, 20).reset(seed=1)
        np.testing.assert_array_equal(observation, expected)
    env.close()


@pytest.mark.parametrize("given", ["file", "version", "catalog"])
def test_a_world_model_knows_how_it_is_dreamed(
    tmp_path: Path, unending: WorldModel, given: str
):
    made_with(unending, ACTIONS, 0.7, 2)
    folder = tmp_path / "world_model.safetensors"
    for version in ("2026-01-01T00.00.00.000Z", "2026-01-02T00.00.00.000Z"):
        file = folder / version / folder.name
        file.parent.mkdir(parents=True)
        save_checkpoint(file, unending)
        unending.dream["max_steps"] += 1
    paths = {"file": file, "version": file.parent, "catalog": folder}
    env = gymnasium.make(ID, world_model=str(paths[given])).unwrapped
    assert isinstance(env, DreamEnv)
    assert (env.actions, env.dreams.temperature, env.max_steps) == (ACTIONS, 0.7, 3)
    # What is given goes before.
    env = gymnasium.make(ID, world_model=paths[given], temperature=1.5).unwrapped
    assert isinstance(env, DreamEnv)
    assert (env.actions, env.dreams.temperature, env.max_steps) == (ACTIONS, 1.5, 3)


def test_a_folder_without_a_checkpoint_is_refused(
    tmp_path: Path, checkpoints: dict[str, str]
):
    task = tmp_path / "task"
    version = task / "world_model.safetensors" / "2026-01-01T00.00.00.000Z"
    version.mkdir(parents=True)
    Path(checkpoints["world_model"]).rename(version / "world_model.safetensors")
    with pytest.raises(
        ValueError,
        match=r"task: expected a checkpoint, .*world_model\.safetensors/<ver",
    ):
        gymnasium.make(ID, world_model=task, **options_of())
    gymnasium.make(ID, world_model=version.parent, **options_of())


@pytest.mark.parametrize("many", [False, True])
def test_a_step_before_the_first_reset_is_refused(unending: WorldModel, many: bool):
    dream = DreamEnv(unending, ACTIONS, 1.0, 5)
    env = DreamVectorEnv(2, unending, ACTIONS, 1.0, 5) if many else dream
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(np.zeros(2, int) if many else 0)


@pytest.mark.parametrize(
    ("actions", "action"),
    [
        (ACTIONS, 3),
        (ACTIONS, -1),
        (ACTIONS, 0.5),
        (DISCRETE, [0, 0]),
        (BOX, [0.0, 11.0]),
        (BOX, [0.0]),
        (BOX, "left"),
    ],
)
def test_what_is_no_action_is_refused(vae: ConvVAE, actions: Actions, action: Any):
    world_model = world_for(actions, vae)
    env = DreamEnv(world_model, actions, 1.0, 5)
    env.reset(seed=1)
    with pytest.raises(ValueError, match="action: expected one of"):
        env.step(action)
    envs = DreamVectorEnv(2, world_model, actions, 1.0, 5)
    envs.reset(seed=1)
    with pytest.raises(ValueError, match="action: expected one of"):
        envs.step([action, action])  # type: ignore[arg-type]


@pytest.mark.parametrize("action", [[0.5, 3], np.array([0.5, 3.0])])
def test_actions_may_be_of_another_type_of_numbers(vae: ConvVAE, action: Any):
    env = DreamEnv(world_for(BOX, vae), BOX, FROZEN, 5)
    env.reset(seed=1)
    found = env.step(action)[0]
    env.reset(seed=1)
    expected = env.step(np.array([0.5, 3], np.float32))[0]
    np.testing.assert_array_equal(found, expected)


def test_what_is_no_picture_is_not_rendered(unending: WorldModel):
    with pytest.raises(ValueError, match="render_mode: expected rgb_array"):
        DreamEnv(unending, ACTIONS, 1.0, 5, render_mode="human")
    with pytest.raises(ValueError, match="render_mode: expected rgb_array"):
        DreamVectorEnv(2, unending, ACTIONS, 1.0, 5, render_mode="human")


def test_an_id_with_its_module_needs_no_import(checkpoints: dict[str, str]):
    script = f"""
import gymnasium
env = gymnasium.make(
    "wm_pipeline.environments:{ID}",
    world_model={checkpoints["world_model"]!r},
    actions={ACTIONS.model_dump()!r},
    temperature=1.0,
    max_steps=20,
)
env.reset(seed=1)
print(env.step(1)[0].shape)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.stdout == "(12,)\n", done.stderr


def test_a_world_of_v_and_m_begins_at_vs_prior(checkpoints: dict[str, str]):
    world_model = world_of(checkpoints["vae"], checkpoints["m"])
    assert not world_model.training
    env = DreamVectorEnv(2000, world_model, ACTIONS, 1.0, 20)
    latents = env.reset(seed=1)[0][:, :4]
    # Of the standard normal, within five standard errors.
    np.testing.assert_allclose(latents.mean(0), 0, atol=5 / np.sqrt(2000))
    np.testing.assert_allclose(latents.std(0), 1, atol=5 / np.sqrt(4000))


@pytest.mark.parametrize("name", ["world_model", "actions", "temperature", "max_steps"])
def test_a_missing_argument_is_named(world_model: WorldModel, name: str):
    options = options_of(world_model=world_model) | {name: None}
    given = {key: value for key, value in options.items() if value is not None}
    for make in (gymnasium.make, lambda *a, **k: gymnasium.make_vec(*a, 3, **k)):
        with pytest.raises(ValueError, match=f"missing {name}$"):
            make(ID, **given)


def test_v_without_m_is_no_world(checkpoints: dict[str, str]):
    with pytest.raises(ValueError, match=r"or vae and mdn_rnn.* missing world_model"):
        gymnasium.make(ID, vae=checkpoints["vae"], **options_of())


def test_a_v_that_m_did_not_learn_from_is_refused(
    tmp_path: Path, vae: ConvVAE, checkpoints: dict[str, str]
):
    with torch.no_grad():
        vae.image += 1
    save_checkpoint(tmp_path / "other.safetensors", vae)
    with pytest.raises(ValueError, match="was trained on latents of the VAE"):
        world_of(tmp_path / "other.safetensors", checkpoints["m"])


def test_the_checkpoint_of_another_module_is_refused(checkpoints: dict[str, str]):
    with pytest.raises(ValueError, match="of ConvVAE, found MDNRNN"):
        world_of(checkpoints["m"], checkpoints["m"])
    with pytest.raises(ValueError, match=r"m\.safetensors: .* WorldModel, found MDN"):
        gymnasium.make(ID, world_model=checkpoints["m"], **options_of())


# Many dreams side by side. Gymnasium has no checker for those; it has SyncVectorEnv.

CAP = 25
PLANS = np.random.default_rng(1).integers(0, 3, (120, 5))
"""What five policies do: four of them always the same, one at random."""
PLANS[:, 0], PLANS[:, 1], PLANS[:, 2] = LEFT, STAY, RIGHT
PLANS[:, 3] = np.where(np.arange(120) < 10, STAY, LEFT)

Steps = list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]]


def played(env: VectorEnv, plans: np.ndarray = PLANS) -> tuple[np.ndarray, Steps]:
    """The first observations and what came of each step."""
    first, _ = env.reset(seed=1)
    return first, [env.step(actions) for actions in plans]


def test_dreams_side_by_side_are_those_of_gymnasiums_own_vector(falling: WorldModel):
    def one() -> DreamEnv:
        return DreamEnv(falling, ACTIONS, FROZEN, CAP)

    many = DreamVectorEnv(5, falling, ACTIONS, FROZEN, CAP)
    sync = SyncVectorEnv([one] * 5)
    for name in ("num_envs", "observation_space", "action_space"):
        assert getattr(many, name) == getattr(sync, name)
    for name in ("single_observation_space", "single_action_space"):
        assert getattr(many, name) == getattr(sync, name)
    mode = many.metadata["autoreset_mode"]
    assert mode is sync.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    (first, steps), (expected_first, expected) = played(many), played(sync)
    np.testing.assert_allclose(first, expected_first, atol=1e-6)
    for found, known in zip(steps, expected, strict=True):
        observations, rewards, terminated, truncated, infos = found
        assert observations in many.observation_space
        # The latents; M's steep units multiply differences by 50.
        np.testing.assert_allclose(observations[:, :2], known[0][:, :2], atol=1e-5)
        np.testing.assert_allclose(observations, known[0], atol=1e-3)
        np.testing.assert_allclose(rewards, known[1], atol=1e-6)
        np.testing.assert_array_equal(terminated, known[2])
        np.testing.assert_array_equal(truncated, known[3])
        for array, other in zip(found[:4], known[:4], strict=True):
            assert (array.shape, array.dtype) == (other.shape, other.dtype)
        assert infos == known[4]
    # Ends of both kinds came, at different times.
    assert [sum(step[2][dream] for step in steps) for dream in (0, 1, 2)] == [8, 0, 8]
    assert [sum(step[3][dream] for step in steps) for dream in (0, 1, 2)] == [0, 4, 0]


def test_the_step_after_an_end_only_begins_anew(falling: WorldModel):
    env = DreamVectorEnv(2, falling, ACTIONS, FROZEN, 3)
    starts = env.reset(seed=1)[0]
    for action in (LEFT, RIGHT):  # the action of a beginning is ignored
        for _ in range(3):
            _, rewards, _, truncated, _ = env.step(np.array([STAY, STAY]))
        assert truncated.all()
        assert rewards.tolist() == [1, 1]
        observations, rewards, *ends, _ = env.step(np.array([action, action]))
        np.testing.assert_allclose(observations, starts, atol=1e-6)
        assert rewards.tolist() == [0, 0]
        assert not np.any(ends)


def test_a_reset_in_the_middle_begins_all_anew(falling: WorldModel):
    env = DreamVectorEnv(2, falling, ACTIONS, FROZEN, 3)
    lasted = []
    for steps in (2, 3, 3):  # cut short, at its end, and a whole one
        env.reset(seed=1)
        lasted = [env.step(np.array([STAY, STAY]))[3].tolist() for _ in range(steps)]
    assert lasted == [[False, False], [False, False], [True, True]]


@pytest.mark.parametrize("actions", [ACTIONS, DISCRETE, BOX], ids=lambda a: a.kind)
def test_each_dream_goes_as_it_would_alone(vae: ConvVAE, actions: Actions):
    world_model = world_for(actions, vae)
    many = DreamVectorEnv(4, world_model, actions, FROZEN, 20)
    many.action_space.seed(1)
    plans = np.stack([many.action_space.sample() for _ in range(10)])
    first, steps = played(many, plans)
    for dream in range(4):
        env = DreamEnv(world_model, actions, FROZEN, 20)
        observation, _ = env.reset(seed=2)
        np.testing.assert_allclose(first[dream], observation, atol=1e-6)
        for found, action in zip(steps, plans[:, dream], strict=True):
            expected = env.step(action)
            np.testing.assert_allclose(found[0][dream], expected[0], atol=1e-5)
            assert found[1][dream] == pytest.approx(expected[1], abs=1e-5)


def test_no_dream_depends_on_what_others_do(falling: WorldModel):
    plans = PLANS.copy()
    plans[:, 0] = RIGHT - plans[:, 4]
    _, steps = played(DreamVectorEnv(5, falling, ACTIONS, 1.0, CAP))
    _, others = played(DreamVectorEnv(5, falling, ACTIONS, 1.0, CAP), plans)
    ends, other_ends = ([step[2] | step[3] for step in s] for s in (steps, others))
    assert [end[0] for end in ends] != [end[0] for end in other_ends]
    for step, other in zip(steps, others, strict=True):
        for values, other_values in zip(step[:4], other[:4], strict=True):
            np.testing.assert_allclose(values[1:], other_values[1:], atol=1e-5)


def test_dreams_of_one_batch_differ(unending: WorldModel):
    first, steps = played(
        DreamVectorEnv(4, unending, ACTIONS, 1.0, 20), np.full((3, 4), LEFT)
    )
    for observations in (first, steps[-1][0]):
        assert len(np.unique(observations[:, :4], axis=0)) == 4


def test_dreams_of_one_batch_begin_in_different_episodes(unending: WorldModel):
    unending.start_log_variances.fill_(-60)
    begun = DreamVectorEnv(60, unending, ACTIONS, 1.0, 20).reset(seed=1)[0][:, :4]
    np.testing.assert_allclose(
        np.unique(begun.round(4), axis=0), unending.start_means.numpy(), atol=1e-4
    )


def test_the_seed_decides_all_dreams_bit_for_bit(falling: WorldModel):
    env = DreamVectorEnv(5, falling, ACTIONS, 1.0, CAP)
    first, steps = played(env)
    for again in (env, DreamVectorEnv(5, falling, ACTIONS, 1.0, CAP)):
        same, same_steps = played(again)
        np.testing.assert_array_equal(same, first)
        for step, same_step in zip(steps, same_steps, strict=True):
            for values, same_values in zip(step[:4], same_step[:4], strict=True):
                np.testing.assert_array_equal(values, same_values)
    env.reset(seed=2)
    assert not np.array_equal(env.step(PLANS[0])[0], steps[0][0])


def test_the_temperature_option_changes_all_dreams(unending: WorldModel):
    env = DreamVectorEnv(3, unending, ACTIONS, 1.0, 20)
    cold = DreamVectorEnv(3, unending, ACTIONS, 0.1, 20)
    actions = np.array([LEFT, STAY, RIGHT])
    env.reset(seed=1, options={"temperature": 0.1})
    cold.reset(seed=1)
    np.testing.assert_array_equal(env.step(actions)[0], cold.step(actions)[0])
    assert env.dreams.temperature == 0.1


@pytest.mark.usefixtures("_strict")
def test_gymnasium_makes_the_vector_by_its_id(falling: WorldModel):
    options = options_of(world_model=falling, max_steps=CAP, temperature=0.5)
    env = gymnasium.make_vec(ID, 5, **options, render_mode="rgb_array")
    assert isinstance(env, DreamVectorEnv)
    assert env.render_mode == "rgb_array"
    _, steps = played(env)
    _, expected = played(DreamVectorEnv(5, falling, ACTIONS, 0.5, CAP))
    np.testing.assert_array_equal(steps[-1][0], expected[-1][0])
    env.close()


@pytest.mark.usefixtures("_strict")
def test_gymnasium_keeps_statistics_of_the_vector(falling: WorldModel):
    env = RecordEpisodeStatistics(DreamVectorEnv(5, falling, ACTIONS, FROZEN, CAP))
    env.reset(seed=1)
    lengths: list[list[int]] = [[] for _ in range(5)]
    for actions in PLANS:
        info = env.step(actions)[4]
        for dream in np.flatnonzero(info.get("_episode", [])):
            lengths[dream].append(info["episode"]["l"][dream])
            # Every step pays 1, and a beginning is no step.
            assert info["episode"]["r"][dream] == pytest.approx(lengths[dream][-1])
    assert lengths[1] == [CAP] * 4
    assert lengths[0] == lengths[2] == [lengths[0][0]] * 8
    assert lengths[0][0] < CAP
    assert env.episode_count == sum(map(len, lengths))


def test_the_vector_renders_one_frame_a_dream(unending: WorldModel):
    env = DreamVectorEnv(3, unending, ACTIONS, 1.0, 20, render_mode="rgb_array")
    env.reset(seed=1)
    latents = env.step(np.array([LEFT, STAY, RIGHT]))[0][:, :4]
    frames = env.render()
    assert isinstance(frames, tuple)
    expected = unending.vae.decode_frames(torch.from_numpy(latents))
    np.testing.assert_array_equal(np.stack(frames), expected)
    assert len(np.unique(np.stack(frames), axis=0)) == 3


IN_FORKS = """
import sys
import gymnasium, torch
import wm_pipeline.environments

if __name__ == "__main__":
    assert torch.get_num_threads() == 2
    name, world = "wm_pipeline/Dream-v0", sys.argv[1]
    alone = gymnasium.make(name, world_model=world, render_mode="rgb_array")
    alone.reset(seed=1)
    alone.render()  # torch's threads have begun
    many = gymnasium.make_vec(
        name,
        2,
        "async",
        vector_kwargs={"context": "fork"},
        world_model=world,
        render_mode="rgb_array",
    )
    many.reset(seed=1)
    assert many.step(many.action_space.sample())[1].shape == (2,)
    assert len(many.render()) == 2
    many.close()
"""


def test_a_fork_of_a_process_that_has_dreamed_dreams(tmp_path: Path):
    """As the workers of Gymnasium's AsyncVectorEnv are."""
    script = tmp_path / "script.py"
    script.write_text(IN_FORKS)
    world = ROOT / "docs/models/doom/world_model.safetensors"
    subprocess.run(
        [sys.executable, str(script), str(world)],
        env={**os.environ, "OMP_NUM_THREADS": "2"},
        timeout=300,
        check=True,
    )
