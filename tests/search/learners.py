"""A policy and its critic, on a world whose equations are known."""

from typing import Any

import torch

from wm_pipeline.environments.actions import BoxActions
from wm_pipeline.episodes.starts import Moments
from wm_pipeline.models.controller import Controller, ControllerOptions
from wm_pipeline.models.world_model import WorldModel
from wm_pipeline.search.policy_gradient import initialise

ACTIONS = BoxActions(kind="box", low=(-1,), high=(1,))


def policy(world: WorldModel, **changes: Any) -> Controller:
    settings = {"hidden_sizes": (8,), "bias": True, "policy": "gaussian", **changes}
    made = Controller.for_world(ControllerOptions.model_validate(settings), world, 1)
    initialise(made, 3)
    return made


def beginnings(world: WorldModel, count: int = 200) -> Moments:
    """Where games of the world begin."""
    normal = torch.randn(
        count, world.vae.latent_size, generator=torch.Generator().manual_seed(5)
    )
    latents = world.start(torch.arange(count) % len(world.start_means), normal)
    return Moments(latents, *world.mdn_rnn.initial_state(count))
