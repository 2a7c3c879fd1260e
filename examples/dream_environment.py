"""Step through the dream as a Gymnasium environment, without Kedro.

Run it on a trained world model:
``python examples/dream_environment.py world_model.safetensors``
"""

import sys

import gymnasium

import wm_pipeline.environments  # noqa: F401  registers the dream

# Its actions, its temperature and its cap are those it was made with.
env = gymnasium.make("wm_pipeline/Dream-v0", world_model=sys.argv[1])
observation, info = env.reset(seed=1, options={"temperature": 1.3})
env.action_space.seed(1)
action = env.action_space.sample()
over, score = False, 0.0
while not over:
    observation, reward, terminated, truncated, info = env.step(action)
    over, score = terminated or truncated, score + float(reward)
print(f"action {action}, always, scores {score:g}")

envs = gymnasium.make_vec("wm_pipeline/Dream-v0", num_envs=16, world_model=sys.argv[1])
observations, infos = envs.reset(seed=1)
observations, rewards, terminated, truncated, infos = envs.step(
    envs.action_space.sample()
)
print(f"{len(observations)} dreams in one batch, {observations.shape[1]} numbers each")
