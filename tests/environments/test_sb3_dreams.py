"""Tests of dreams as Stable-Baselines3 wants them."""

import gymnasium
import numpy as np
import pytest
from stable_baselines3 import PPO
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecMonitor

from wm_pipeline.environments.dream_env import DreamVectorEnv
from wm_pipeline.environments.latent_env import LatentEnv
from wm_pipeline.environments.mock import mock_world_model
from wm_pipeline.environments.real import EnvironmentOptions, RealEnv
from wm_pipeline.environments.sb3_dreams import Sb3Dreams

ACTIONS = {"kind": "threshold", "low": 0, "middle": 1, "high": 2}
RIGHT = 2


def dreams(count: int, max_steps: int = 60) -> DreamVectorEnv:
    made = gymnasium.make_vec(
        "wm_pipeline/Dream-v0", num_envs=count, world_model=mock_world_model(),
        actions=ACTIONS, temperature=1.0, max_steps=max_steps,
    )  # fmt: skip
    assert isinstance(made.unwrapped, DreamVectorEnv)
    return made.unwrapped


def test_a_dream_that_ends_restarts_in_the_same_step() -> None:
    envs = Sb3Dreams(dreams(8))
    envs.seed(4)
    before = envs.reset()
    lengths, ended = np.zeros(8, int), []
    for _ in range(80):
        seen, rewards, over, infos = envs.step(np.full(8, RIGHT))
        assert rewards.tolist() == pytest.approx([1] * 8)
        lengths += 1
        for each in range(8):
            if over[each]:
                last = infos[each]["terminal_observation"]
                assert abs(last[0]) > 1
                assert not infos[each]["TimeLimit.truncated"]
                # The next dream has begun: near the upright, with an empty memory.
                assert abs(seen[each, 0]) < 0.6
                assert seen[each, 2:].tolist() == [0] * 4
                ended.append(lengths[each])
                lengths[each] = 0
            else:
                assert infos[each] == {}
                assert abs(seen[each, 0]) <= 1.1
    assert len(ended) > 8
    assert before.shape == (8, 6)


def test_the_cap_is_told_from_an_end() -> None:
    envs = Sb3Dreams(dreams(3, max_steps=4))
    envs.reset()
    for step in range(1, 9):
        _, _, over, infos = envs.step(np.full(3, 1))
        assert over.tolist() == [step in (4, 8)] * 3
        assert all(
            info.get("TimeLimit.truncated", False) == (step in (4, 8)) for info in infos
        )


def test_the_seed_says_all() -> None:
    def played() -> np.ndarray:
        envs = Sb3Dreams(dreams(4))
        envs.seed(7)
        envs.reset()
        return np.stack([envs.step(np.full(4, RIGHT))[0] for _ in range(40)])

    assert np.array_equal(played(), played())


def test_options_are_those_of_the_next_dreams() -> None:
    envs = Sb3Dreams(dreams(2))
    envs.set_options({"temperature": 0.5})
    envs.reset()
    assert envs.dreams.dreams.temperature == 0.5
    # They are told once.
    envs.dreams.dreams.temperature = 2.0
    envs.reset()
    assert envs.dreams.dreams.temperature == 2.0


def test_it_renders_the_dreams() -> None:
    envs = Sb3Dreams(dreams(2))
    envs.reset()
    found, expected = envs.get_images(), envs.dreams.render()
    assert [frame.shape for frame in found] == [(64, 64, 3)] * 2
    np.testing.assert_array_equal(found, expected)


@pytest.mark.slow
def test_ppo_learns_in_the_dream_what_holds_in_the_game() -> None:
    agent = PPO(
        "MlpPolicy", VecMonitor(Sb3Dreams(dreams(32, 200))), n_steps=128, seed=1,
        batch_size=512, learning_rate=3e-3, device="cpu",
    )  # fmt: skip
    game = EnvironmentOptions.model_validate(
        {
            "id": "wm_pipeline.environments:wm_pipeline/Balance-v0",
            "max_steps": 200,
            "actions": ACTIONS,
        }
    )
    real = LatentEnv(RealEnv(game), mock_world_model())
    before, _ = evaluate_policy(agent, real, 10, warn=False)
    agent.learn(60_000)
    after, _ = evaluate_policy(agent, real, 10, warn=False)
    assert before < 60
    assert after > 150
