"""The dream as a Gymnasium environment: M's world, one step at a time."""

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from pydantic import TypeAdapter
from torch import Tensor

from wm_pipeline.common.checkpoints import load_checkpoint
from wm_pipeline.common.errors import InputError
from wm_pipeline.environments.actions import ActionOptions, Actions
from wm_pipeline.models.mdn_rnn import MDNRNN
from wm_pipeline.models.vae import ConvVAE
from wm_pipeline.models.world_model import WorldModel, build_world_model

RENDER = {"render_modes": ["rgb_array"], "render_fps": 9}


class Dreams:
    """Some dreams side by side, stepped together by controls.

    Args:
        world_model: V and M.
        count: How many.
        temperature: Above 0.

    Raises:
        ValueError: The temperature is not above 0.
    """

    def __init__(self, world_model: WorldModel, count: int, temperature: float) -> None:
        self.world_model, self.count = world_model, count
        self.temperature = checked_temperature(temperature)
        self.begin(np.ones(count, bool), np.random.default_rng(0))

    latents: Tensor
    state: tuple[Tensor, Tensor]

    @torch.inference_mode()
    def begin(self, which: np.ndarray, random: np.random.Generator) -> None:
        """Begin some anew, in latents in which real episodes began.

        Args:
            which: (count,) bool.
            random: Draws the latents.
        """
        starts = len(self.world_model.start_means)
        choices = torch.from_numpy(random.integers(starts, size=self.count))
        noise = self._normal(random)
        fresh = self.world_model.start(choices, noise)
        h, c = self.world_model.mdn_rnn.initial_state(self.count)
        if which.all():
            self.latents, self.state = fresh, (h, c)
            return
        rows = torch.from_numpy(which)[:, None]
        self.latents = torch.where(rows, fresh, self.latents)
        self.state = (
            torch.where(rows, h, self.state[0]),
            torch.where(rows, c, self.state[1]),
        )

    @torch.inference_mode()
    def step(
        self, controls: np.ndarray, random: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Dream one step of M.

        Args:
            controls: (count, size) float32.
            random: Draws the noise.

        Returns:
            Rewards (count,) float32 and whether each dream ended, (count,) bool.
        """
        mdn_rnn = self.world_model.mdn_rnn
        shape = (self.count, mdn_rnn.latent_size, mdn_rnn.options.mixtures)
        gumbel = torch.from_numpy(random.gumbel(size=shape).astype(np.float32))
        self.latents, rewards, done, self.state = self.world_model.step(
            self.latents,
            torch.from_numpy(controls),
            self.state,
            self.temperature,
            gumbel,
            self._normal(random),
        )
        return rewards.numpy(), done.numpy()

    def observations(self) -> np.ndarray:
        """[z, h] of each, (count, latent + hidden) float32."""
        return torch.cat((self.latents, self.state[0]), 1).numpy()

    def frames(self) -> np.ndarray:
        """The decoded latents, (count, 64, 64, 3) uint8."""
        return self.world_model.vae.decode_frames(self.latents)

    def _normal(self, random: np.random.Generator) -> Tensor:
        shape = (self.count, self.world_model.vae.latent_size)
        return torch.from_numpy(random.standard_normal(shape, np.float32))


class DreamEnv(gymnasium.Env):
    """M dreams; the agent sees the latent and M's memory.

    The observation is [z, h], (latent + hidden,) float32. Actions are those of the
    mapping's ``space``: the game's own where they are continuous, else the number of
    one (for the paper's Doom: 0 left, 1 stay, 2 right).

    Args:
        world_model: V and M.
        actions: The action mapping, whose controls must be M's.
        temperature: Of the dream, above 0; ``reset(options={"temperature": ...})``
            changes it from that episode on.
        max_steps: The cap on a dream, in steps of M, 1 or more.
        render_mode: ``"rgb_array"`` or None.

    Raises:
        ValueError: The temperature or the cap is out of range, or the actions do not
            fit M.
    """

    metadata: dict[str, Any] = RENDER

    def __init__(
        self,
        world_model: WorldModel,
        actions: Actions,
        temperature: float,
        max_steps: int,
        render_mode: str | None = None,
    ) -> None:
        check_controls(actions, world_model)
        self.actions, self.max_steps = actions, checked_cap(max_steps)
        self.dreams = Dreams(world_model, 1, temperature)
        self.render_mode = render_mode
        self.observation_space = observation_space(world_model)
        self.action_space = actions.space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin a dream in a latent in which a real episode began."""
        super().reset(seed=seed)
        if options is not None and "temperature" in options:
            self.dreams.temperature = checked_temperature(options["temperature"])
        self.dreams.begin(np.ones(1, bool), self.np_random)
        self._steps = 0
        return self.dreams.observations()[0], {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Dream one step of M."""
        controls = self.actions.to_controls(np.asarray(action)[None])
        rewards, done = self.dreams.step(controls, self.np_random)
        self._steps += 1
        terminated = bool(done[0])
        truncated = not terminated and self._steps >= self.max_steps
        observation = self.dreams.observations()[0]
        return observation, float(rewards[0]), terminated, truncated, {}

    def render(self) -> np.ndarray:
        """The decoded frame, (64, 64, 3) uint8."""
        return self.dreams.frames()[0]


class DreamVectorEnv(VectorEnv):
    """Many dreams side by side, in one batch; a finished one begins anew at the next step.

    Args:
        num_envs: How many.
        world_model: V and M.
        actions: The action mapping, whose controls must be M's.
        temperature: Of the dreams, above 0; ``reset(options={"temperature": ...})``
            changes it.
        max_steps: The cap on a dream, in steps of M, 1 or more.
        render_mode: ``"rgb_array"`` or None.

    Raises:
        ValueError: As ``DreamEnv``.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012  as Gymnasium declares it
        **RENDER,
        "autoreset_mode": AutoresetMode.NEXT_STEP,
    }

    def __init__(
        self,
        num_envs: int,
        world_model: WorldModel,
        actions: Actions,
        temperature: float,
        max_steps: int,
        render_mode: str | None = None,
    ) -> None:
        check_controls(actions, world_model)
        self.num_envs, self.actions = num_envs, actions
        self.max_steps, self.render_mode = checked_cap(max_steps), render_mode
        self.dreams = Dreams(world_model, num_envs, temperature)
        self.single_observation_space = observation_space(world_model)
        self.single_action_space = actions.space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin all dreams."""
        super().reset(seed=seed)
        if options is not None and "temperature" in options:
            self.dreams.temperature = checked_temperature(options["temperature"])
        everyone = np.ones(self.num_envs, bool)
        self.dreams.begin(everyone, self.np_random)
        self._steps = np.zeros(self.num_envs, np.int64)
        self._over = ~everyone
        return self.dreams.observations(), {}

    def step(
        self, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Dream one step of M in each; those that were over begin instead."""
        controls = self.actions.to_controls(np.asarray(actions))
        rewards, done = self.dreams.step(controls, self.np_random)
        beginning = self._over
        # At every step, so that no dream's noise depends on when others end.
        self.dreams.begin(beginning, self.np_random)
        self._steps = np.where(beginning, 0, self._steps + 1)
        terminated = done & ~beginning
        truncated = ~terminated & ~beginning & (self._steps >= self.max_steps)
        self._over = terminated | truncated
        rewards = np.where(beginning, 0.0, rewards).astype(np.float64)
        return self.dreams.observations(), rewards, terminated, truncated, {}

    def render(self) -> tuple[np.ndarray, ...]:
        """The decoded frames, (64, 64, 3) uint8 each."""
        return tuple(self.dreams.frames())


def make_dream(render_mode: str | None = None, **options: Any) -> DreamEnv:
    """What ``gymnasium.make("wm_pipeline/Dream-v0", ...)`` calls.

    Args:
        render_mode: ``"rgb_array"`` or None.
        options: ``actions`` (a mapping, or its options as a dictionary),
            ``temperature``, ``max_steps``, and the world: ``world_model`` (a
            ``WorldModel`` or its checkpoint), or the checkpoints ``vae`` and
            ``mdn_rnn``.

    Raises:
        ValueError: As ``DreamEnv``; or a checkpoint is missing or no such checkpoint.
    """
    return DreamEnv(**_loaded(options), render_mode=render_mode)


def make_dreams(
    num_envs: int, render_mode: str | None = None, **options: Any
) -> DreamVectorEnv:
    """What ``gymnasium.make_vec`` calls; see ``make_dream``."""
    return DreamVectorEnv(num_envs, **_loaded(options), render_mode=render_mode)


def world_of(vae: str | Path, mdn_rnn: str | Path) -> WorldModel:
    """A world straight from the checkpoints of V and M.

    Its dreams begin at latents of V's prior, a standard normal; the world model that
    the dream stage makes begins where real episodes did.

    Raises:
        ValueError: A file is missing or no such checkpoint, or M belongs to another V.
    """
    v = load_checkpoint(vae, ConvVAE)
    prior = torch.zeros(1, v.latent_size)
    world = build_world_model(v, load_checkpoint(mdn_rnn, MDNRNN), prior, prior.clone())
    return world.eval()


def observation_space(world_model: WorldModel) -> gymnasium.spaces.Box:
    """The space of [z, h]."""
    mdn_rnn = world_model.mdn_rnn
    size = mdn_rnn.latent_size + mdn_rnn.hidden_size
    return gymnasium.spaces.Box(-np.inf, np.inf, (size,), np.float32)


def check_controls(actions: Actions, world_model: WorldModel) -> None:
    """Raise ValueError unless the mapping's controls are those M was trained with."""
    expected = world_model.mdn_rnn.action_size
    if actions.size != expected:
        raise InputError(
            f"environment.actions: controls of {actions.size} do not fit the MDN-RNN, "
            f"which was trained with {expected}"
        )


def checked_temperature(temperature: float) -> float:
    """The temperature; ValueError unless it is above 0 and finite."""
    if not 0 < temperature < np.inf:
        raise InputError(
            f"temperature: expected above 0 and finite, found {temperature}"
        )
    return float(temperature)


def checked_cap(max_steps: int) -> int:
    """The cap on a dream; ValueError unless it is 1 or more."""
    if max_steps < 1:
        raise InputError(f"max_steps: expected 1 or more, found {max_steps}")
    return max_steps


def _loaded(options: dict[str, Any]) -> dict[str, Any]:
    """Options of ``make_dream`` as arguments of the environments."""
    options = dict(options)
    if "actions" in options:
        options["actions"] = TypeAdapter(ActionOptions).validate_python(
            options["actions"]
        )
    if "vae" in options and "mdn_rnn" in options:
        options["world_model"] = world_of(options.pop("vae"), options.pop("mdn_rnn"))
    elif isinstance(options.get("world_model"), str | Path):
        options["world_model"] = load_checkpoint(options["world_model"], WorldModel)
    missing = {"world_model", "actions", "temperature", "max_steps"} - options.keys()
    if missing:
        raise InputError(
            f"wm_pipeline/Dream-v0: expected world_model (or vae and mdn_rnn), actions, "
            f"temperature and max_steps; missing {', '.join(sorted(missing))}"
        )
    return options
