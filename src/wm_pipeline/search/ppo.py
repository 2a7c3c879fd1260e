"""PPO of Stable-Baselines3, an extra: what C is compared with.

Source: Schulman et al. 2017.
"""

import time
from typing import Any

import numpy as np
import pandas as pd
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecMonitor
from torch import nn

from wm_pipeline.common import progress
from wm_pipeline.environments.actions import Actions
from wm_pipeline.environments.dream_env import DreamVectorEnv
from wm_pipeline.environments.latent_env import LatentEnv
from wm_pipeline.environments.real import EnvironmentOptions, RealEnv
from wm_pipeline.environments.sb3_dreams import Sb3Dreams
from wm_pipeline.models.actor import Actor
from wm_pipeline.models.world_model import WorldModel
from wm_pipeline.search.ppo_options import PPOOptions


def dreams(
    world_model: WorldModel,
    actions: Actions,
    temperature: float,
    max_steps: int,
    count: int,
) -> VecEnv:
    """Dreams side by side, for ``train_ppo``.

    Args:
        world_model: V and M.
        actions: The action mapping.
        temperature: Of the dreams.
        max_steps: The cap on one, in steps of M.
        count: How many.
    """
    envs = DreamVectorEnv(count, world_model, actions, temperature, max_steps)
    return VecMonitor(Sb3Dreams(envs))


def games(
    world_model: WorldModel, environment: EnvironmentOptions, count: int
) -> VecEnv:
    """Real games behind V and M, one after the other in this process.

    Args:
        world_model: V and M.
        environment: The game.
        count: How many.

    Raises:
        ValueError: As ``RealEnv`` and ``LatentEnv``.
    """

    def game() -> Monitor[np.ndarray, Any]:
        return Monitor(LatentEnv(RealEnv(environment), world_model))

    return DummyVecEnv([game] * count)


def train_ppo(
    envs: VecEnv, options: PPOOptions, seed: int, name: str
) -> tuple[Actor, pd.DataFrame]:
    """Train a policy by PPO.

    Args:
        envs: Whose observations are [z, h]; they are closed at the end.
        options: The budget and the algorithm's.
        seed: Of the environments, the decisions and the weights.
        name: Of what is trained, for progress and curves.

    Returns:
        The policy; and a row an update: steps of the environments so far, episodes
        (finished in the update), mean_return and mean_steps of those (NaN without any),
        and seconds since the beginning.
    """
    try:
        with torch.random.fork_rng(devices=[]):  # it seeds torch's global generator
            model = PPO(
                "MlpPolicy",
                envs,
                learning_rate=options.learning_rate,
                n_steps=options.update_steps // envs.num_envs,
                batch_size=options.batch_size,
                n_epochs=options.epochs,
                gamma=options.discount,
                gae_lambda=options.trace_decay,
                clip_range=options.clip,
                ent_coef=options.entropy,
                policy_kwargs={
                    "net_arch": list(options.hidden_sizes),
                    "activation_fn": nn.Tanh,
                },
                seed=seed,
                device="cpu",
            )
            with progress.task(f"Training {name}", options.steps, "steps") as task:
                log = _Log(task, name)
                model.learn(options.steps, callback=log)
            actor = _actor_of(model, options)
    finally:
        envs.close()
    return actor, pd.DataFrame(log.rows)


class _Log(BaseCallback):
    """Rows of the log, curves and progress, an update at a time."""

    def __init__(self, task: progress.Task, name: str) -> None:
        super().__init__()
        self._task, self._name = task, name
        self._began = time.perf_counter()
        self._episodes: list[tuple[float, int]] = []
        self.rows: list[dict[str, float]] = []

    def _on_step(self) -> bool:
        self._episodes += [
            (info["episode"]["r"], info["episode"]["l"])
            for info in self.locals["infos"]
            if "episode" in info
        ]
        return True

    def _on_rollout_end(self) -> None:
        returns, steps = (
            np.mean(np.array(self._episodes), axis=0)
            if self._episodes
            else (np.nan, np.nan)
        )
        row = {
            "steps": self.num_timesteps,
            "episodes": len(self._episodes),
            "mean_return": float(returns),
            "mean_steps": float(steps),
            "seconds": time.perf_counter() - self._began,
        }
        self._episodes = []
        before = self.rows[-1]["steps"] if self.rows else 0
        self.rows.append(row)
        progress.record(self._name, self.num_timesteps, row)
        self._task.advance(
            int(self.num_timesteps - before), f"return {row['mean_return']:.1f}"
        )


@torch.no_grad()
def _actor_of(model: PPO, options: PPOOptions) -> Actor:
    """The policy of a model, with weights of its own."""
    policy = model.policy
    layers = [
        layer
        for layer in [*policy.mlp_extractor.policy_net, policy.action_net]
        if isinstance(layer, nn.Linear)
    ]
    actor = Actor(layers[0].in_features, options.hidden_sizes, layers[-1].out_features)
    ours = [layer for layer in actor.layers if isinstance(layer, nn.Linear)]
    for mine, theirs in zip(ours, layers, strict=True):
        mine.load_state_dict(theirs.state_dict())
    return actor.eval()
