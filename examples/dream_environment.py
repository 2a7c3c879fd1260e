"""Step through the dream as a Gymnasium environment, without Kedro.

Run it on a trained world model:
``python examples/dream_environment.py world_model.safetensors``
"""

import sys

import gymnasium

import wm_pipeline.environments  # noqa: F401  registers the dream

options = {
    "world_model": sys.argv[1],
    "actions": {"kind": "threshold", "low": 2, "middle": 0, "high": 1},
    "temperature": 1.0,
    "max_steps": 525,
}

env = gymnasium.make("wm_pipeline/Dream-v0", **options)
observation, info = env.reset(seed=1, options={"temperature": 1.3})
over, score = False, 0.0
while not over:
    observation, reward, terminated, truncated, info = env.step(0)  # left
    over, score = terminated or truncated, score + float(reward)
print(f"always left scores {score:.0f}")

envs = gymnasium.make_vec("wm_pipeline/Dream-v0", num_envs=16, **options)
observations, infos = envs.reset(seed=1)
observations, rewards, terminated, truncated, infos = envs.step(
    envs.action_space.sample()
)
print(f"{len(observations)} dreams in one batch, {observations.shape[1]} numbers each")
