"""The real game as the dream shows it: V and M between the game and the agent."""

from typing import Any

import gymnasium
import numpy as np
import torch
from pydantic import TypeAdapter
from torch import Tensor

from wm_pipeline.common.errors import InputError
from wm_pipeline.environments.actions import ActionOptions, Actions
from wm_pipeline.environments.checks import checked_action
from wm_pipeline.environments.dream import check_controls
from wm_pipeline.environments.dream_env import observation_space
from wm_pipeline.environments.real import RealEnv
from wm_pipeline.models.mdn_rnn import State
from wm_pipeline.models.vae import reparameterise
from wm_pipeline.models.world_model import WorldModel


class LatentEnv(gymnasium.Env):
    """The game with the observations, the actions and the steps of ``Dream-v0``.

    An agent that was trained in the dream plays here as it is, and one that learns here
    learns from V and M in the game itself.

    Args:
        game: With the action mapping M was trained with.
        world_model: V and M.
        sample_latents: Draw z from V's posterior, as in the dream, rather than taking
            its mean.

    Raises:
        ValueError: The actions do not fit M, or are not those that the world model was
            made with, but for ``sampled``.
    """

    def __init__(
        self, game: RealEnv, world_model: WorldModel, sample_latents: bool = True
    ) -> None:
        check_controls(game.options.actions, world_model)
        check_same_actions(game.options.actions, world_model)
        self.game, self.world_model = game, world_model
        self.sample_latents = sample_latents
        self.render_mode = game.render_mode
        skip = world_model.mdn_rnn.frame_skip
        self.metadata = {
            **game.metadata,
            "render_fps": game.metadata["render_fps"] / skip,
        }
        self.observation_space = observation_space(world_model)
        self.action_space = game.options.actions.space
        self._latents: Tensor | None = None

    state: State

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin an episode, with an empty memory."""
        super().reset(seed=seed)
        frame, info = self.game.reset(seed=seed, options=options)
        self.state = self.world_model.mdn_rnn.initial_state(1)
        return self._observe(frame), info

    @torch.inference_mode()
    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Hold an action for one step of M; the rewards are summed.

        Raises:
            ResetNeeded: No episode has begun.
            InputError: It is no action.
        """
        if self._latents is None:
            raise gymnasium.error.ResetNeeded("call reset before step")
        chosen = checked_action(action, self.action_space)
        controls = self.game.options.actions.to_controls(chosen[None])
        _, reward, terminated, truncated, info = self.game.hold(
            controls[0], self.world_model.mdn_rnn.frame_skip
        )
        self.state = self.world_model.mdn_rnn.remember(
            self._latents, torch.from_numpy(controls), self.state
        )
        return self._observe(self.game.frame()), reward, terminated, truncated, info

    def render(self) -> Any:
        """What the game itself renders."""
        return self.game.render()

    def close(self) -> None:
        """Close the game."""
        self.game.close()

    @torch.inference_mode()
    def _observe(self, frame: np.ndarray) -> np.ndarray:
        """[z, h] at a frame, (latent + hidden,) float32."""
        mean, log_variance = self.world_model.vae.encode_frames(frame[None])
        noise = torch.zeros(mean.shape)
        if self.sample_latents:
            drawn = self.np_random.standard_normal(mean.shape, np.float32)
            noise = torch.from_numpy(drawn)
        self._latents = reparameterise(mean, log_variance, noise)
        return torch.cat((self._latents, self.state[0]), 1)[0].numpy()


def check_same_actions(actions: Actions, world_model: WorldModel) -> None:
    """Refuse a mapping by which a control means another action than in the dream.

    Args:
        actions: The mapping.
        world_model: V and M; it may know none.

    Raises:
        InputError: It knows another.
    """
    if "actions" not in world_model.dream:
        return
    known = TypeAdapter(ActionOptions).validate_python(world_model.dream["actions"])
    found, expected = (
        each.model_dump(exclude={"sampled"}) for each in (actions, known)
    )
    if found != expected:
        raise InputError(
            f"environment.actions: expected those of the dream, {expected}, found {found}"
        )
