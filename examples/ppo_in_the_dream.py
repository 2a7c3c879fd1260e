"""Train PPO of Stable-Baselines3 in the dream, without Kedro.

``python examples/ppo_in_the_dream.py world_model.safetensors ppo.zip 200000``
The evaluation stage plays the game with the file: docs/usage.md says how.
"""

import sys

import gymnasium
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecMonitor

import wm_pipeline.environments  # noqa: F401  registers the dream
from wm_pipeline.environments.sb3_dreams import Sb3Dreams

world_model, file, steps = sys.argv[1:]
dreams = gymnasium.make_vec(
    "wm_pipeline/Dream-v0", num_envs=64, world_model=world_model
)
agent = PPO(
    "MlpPolicy",
    VecMonitor(Sb3Dreams(dreams)),
    n_steps=64,
    batch_size=512,
    seed=1,
    device="cpu",
)
agent.learn(int(steps), progress_bar=False)
agent.save(file)
print(f"{file}: {agent.num_timesteps} steps of M in 64 dreams")
