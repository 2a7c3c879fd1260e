"""PPO of Stable-Baselines3, an extra: what C is compared with.

Source: Schulman et al. 2017.
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecMonitor
from torch import nn

from wm_pipeline.common import progress
from wm_pipeline.common.errors import InputError
from wm_pipeline.common.numbers import rounded
from wm_pipeline.common.randomness import stream
from wm_pipeline.environments.actions import Actions
from wm_pipeline.environments.dream_env import DreamVectorEnv
from wm_pipeline.environments.latent_env import LatentEnv
from wm_pipeline.environments.real import EnvironmentOptions, RealEnv
from wm_pipeline.environments.sb3_dreams import Sb3Dreams
from wm_pipeline.models.actor import Actor
from wm_pipeline.models.training_state import HISTORY, TrainingState
from wm_pipeline.models.world_model import WorldModel
from wm_pipeline.search.ppo_options import PPOOptions

_METRICS = ("episodes", "mean_return", "mean_steps", "seconds")
"""What is known of an update."""


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
    world_model: WorldModel,
    environment: EnvironmentOptions,
    sample_latents: bool,
    count: int,
) -> VecEnv:
    """Real games behind V and M, one after the other in this process.

    Args:
        world_model: V and M.
        environment: The game.
        sample_latents: As ``LatentEnv``.
        count: How many.

    Raises:
        ValueError: As ``RealEnv`` and ``LatentEnv``.
    """

    def game() -> Monitor[np.ndarray, Any]:
        game = LatentEnv(RealEnv(environment), world_model, sample_latents)
        return Monitor(game)

    return DummyVecEnv([game] * count)


def train_ppo(
    envs: VecEnv,
    options: PPOOptions,
    seed: int,
    name: str,
    conditions: Mapping[str, Any],
    before: TrainingState | None = None,
) -> Iterator[TrainingState]:
    """Train a policy by PPO.

    Args:
        envs: Whose observations are [z, h]; they are closed at the end.
        options: The budget and the algorithm's.
        seed: Of the environments, the decisions and the weights, below 2^32.
        name: Of what is trained, for progress and curves.
        conditions: All else that the result depends on, as JSON values.
        before: A state to resume from. Its weights, moments and random numbers go on, but
            the environments begin new episodes: of what a game or a dream was at,
            nothing is kept.

    Yields:
        The state, ``save_every`` seconds or more after the one before, and at the end.
        Its history has of each update, by the steps of the environments so far:
        episodes (finished in the update), mean_return and mean_steps of those (NaN
        without any), and seconds since the beginning.

    Raises:
        InputError: ``before`` is of another training.
    """
    # A finished training goes on with more steps.
    learning = {k: v for k, v in options.determining().items() if k != "steps"}
    conditions = {"ppo": learning, "seed": seed, **conditions}
    try:
        # It seeds the global generators of torch and of NumPy.
        with torch.random.fork_rng(devices=[]):
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
            # Its own would leave a temporary folder at every update.
            model.set_logger(Logger(None, []))
            log = _Log(name)
            if before is not None:
                before.check("baselines.resume", conditions)
                _restore(model, before)
                log.go_on(before.history)
            if before is not None and before.step >= options.steps:
                yield replace(before, finished=True)  # it may have been meant for more
            last = time.monotonic()
            done = int(model.num_timesteps)
            with progress.task(
                f"Training {name}", options.steps, "steps", done
            ) as task:
                while model.num_timesteps < options.steps:
                    # An update at a time, in the same episodes.
                    model.learn(options.update_steps, log, reset_num_timesteps=False)
                    done, before_update = int(model.num_timesteps), done
                    task.advance(done - before_update, log.note)
                    finished = done >= options.steps
                    if finished or time.monotonic() - last >= options.save_every:
                        last = time.monotonic()
                        yield _state(model, log, name, conditions, finished)
    finally:
        envs.close()


def log_of(state: TrainingState) -> pd.DataFrame:
    """The history of a training, a row an update: steps, and the columns it has."""
    return state.wide("steps")[["steps", *_METRICS]].astype({"episodes": "int64"})


class _Log(BaseCallback):
    """Rows of the history, and curves, an update at a time.

    Attributes:
        rows: The history so far.
        note: A few words on the last update.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name
        self._began = time.perf_counter()
        self._episodes: list[tuple[float, int]] = []
        self.rows = pd.DataFrame(columns=list(HISTORY))
        self.note = ""

    def go_on(self, history: pd.DataFrame) -> None:
        """Behind the updates of an earlier run; seconds count from its last one on."""
        self.rows = history
        for step, rows in history.groupby("step"):
            scalars = dict(zip(rows["metric"], rows["value"], strict=True))
            progress.record(self._name, int(str(step)), scalars)
            self._began = time.perf_counter() - scalars["seconds"]

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
        seconds = time.perf_counter() - self._began
        values = (len(self._episodes), float(returns), float(steps), seconds)
        scalars = dict(zip(_METRICS, map(float, values), strict=True))
        self._episodes = []
        rows = [(self.num_timesteps, "training", *each) for each in scalars.items()]
        new = pd.DataFrame(rows, columns=list(HISTORY))
        self.rows = pd.concat([self.rows, new]) if len(self.rows) else new
        progress.record(self._name, self.num_timesteps, scalars)
        self.note = f"return {rounded(float(returns))[0]}"


def _state(
    model: PPO, log: _Log, name: str, conditions: dict[str, Any], finished: bool
) -> TrainingState:
    """The state between two updates."""
    policy = model.policy
    tensors = {f"weights.{each}": w for each, w in policy.state_dict().items()}
    for number, parameter in enumerate(policy.parameters()):
        for each, moment in policy.optimizer.state[parameter].items():
            tensors[f"adam.{number:04}.{each}"] = moment
    # Stable-Baselines3 draws from NumPy's global generator.
    kind, keys, position, *_ = np.random.get_state()  # noqa: NPY002
    assert kind == "MT19937"
    return TrainingState(
        name=name,
        conditions=conditions,
        config={},
        step=int(model.num_timesteps),
        finished=finished,
        best=None,
        batches=0,
        history=log.rows,
        arrays={
            **{
                name: tensor.detach().clone().numpy()
                for name, tensor in tensors.items()
            },
            "random.torch": torch.random.get_rng_state().numpy(),
            "random.numpy": np.append(keys, np.uint32(position)),
        },
    )


def _restore(model: PPO, state: TrainingState) -> None:
    """Put a new model where a state is."""
    policy = model.policy
    weights = state.part("weights")
    policy.load_state_dict({n: torch.from_numpy(w) for n, w in weights.items()})
    for number, parameter in enumerate(policy.parameters()):
        moments = state.part(f"adam.{number:04}")
        policy.optimizer.state[parameter] = {
            name: torch.from_numpy(moment.copy()) for name, moment in moments.items()
        }
    model.num_timesteps = state.step
    drawn = state.part("random")
    torch.random.set_rng_state(torch.from_numpy(drawn["torch"].copy()))
    *keys, position = drawn["numpy"]
    numpy_state = ("MT19937", np.array(keys, np.uint32), int(position), 0, 0.0)
    np.random.set_state(numpy_state)  # noqa: NPY002
    # Not the episodes of the beginning once more.
    assert model.env is not None
    model.env.seed(
        int(stream(state.conditions["seed"], "resumed", state.step).integers(2**32))
    )


@torch.no_grad()
def actor_of(state: TrainingState, options: PPOOptions) -> Actor:
    """The policy of a training that is finished.

    Raises:
        InputError: It is interrupted.
    """
    if not state.finished:
        raise InputError(
            f"{state.name}: expected a training that is finished, found one interrupted "
            f"after step {state.step}. Resume it with baselines.resume=true"
        )
    weights = state.part("weights")
    names = [
        *(
            f"mlp_extractor.policy_net.{2 * n}"
            for n in range(len(options.hidden_sizes))
        ),
        "action_net",
    ]
    layers = [
        {
            part: torch.from_numpy(weights[f"{name}.{part}"])
            for part in ("weight", "bias")
        }
        for name in names
    ]
    outputs, features = len(layers[-1]["bias"]), layers[0]["weight"].shape[1]
    actor = Actor(features, options.hidden_sizes, outputs)
    ours = [layer for layer in actor.layers if isinstance(layer, nn.Linear)]
    for mine, theirs in zip(ours, layers, strict=True):
        mine.load_state_dict(theirs)
    return actor.eval()
