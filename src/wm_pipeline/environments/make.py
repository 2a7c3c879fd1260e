"""What ``gymnasium.make`` and ``make_vec`` call: dreams of checkpoints, and real games."""

import os
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter

from wm_pipeline.common.checkpoints import load_checkpoint
from wm_pipeline.common.errors import InputError
from wm_pipeline.environments.actions import ActionOptions, Actions
from wm_pipeline.environments.dream_env import DreamEnv, DreamVectorEnv
from wm_pipeline.environments.latent_env import LatentEnv
from wm_pipeline.environments.real import EnvironmentOptions, RealEnv
from wm_pipeline.models.mdn_rnn import MDNRNN
from wm_pipeline.models.vae import ConvVAE
from wm_pipeline.models.world_model import WorldModel, build_world_model

_PROCESS = os.getpid()
"""Which has imported torch; its forks have none of the threads that torch waits for."""


def make_dream(render_mode: str | None = None, **options: Any) -> DreamEnv:
    """What ``gymnasium.make("wm_pipeline/Dream-v0", ...)`` calls.

    Args:
        render_mode: ``"rgb_array"`` or None.
        options: The world: ``world_model`` (a ``WorldModel``, its checkpoint, or the
            folder in which the catalog keeps it), or likewise ``vae`` and ``mdn_rnn``.
            ``actions`` (a mapping, or its options as a dictionary), ``temperature`` and
            ``max_steps``, where they are not to be those that the world model was made
            with.

    Raises:
        ValueError: As ``DreamEnv``; or a checkpoint is missing or no such checkpoint.
    """
    return DreamEnv(**_loaded(options), render_mode=render_mode)


def make_dreams(
    num_envs: int, render_mode: str | None = None, **options: Any
) -> DreamVectorEnv:
    """What ``gymnasium.make_vec`` calls; see ``make_dream``."""
    return DreamVectorEnv(num_envs, **_loaded(options), render_mode=render_mode)


def make_real(
    environment: EnvironmentOptions | dict[str, Any],
    render_mode: str | None = None,
    world_model: WorldModel | str | Path | None = None,
) -> RealEnv | LatentEnv:
    """What ``gymnasium.make("wm_pipeline/Real-v0", environment=...)`` calls.

    Args:
        environment: The options, or a dictionary of them, whose actions, if they are
            ``auto``, are those that the world model was made with, if it knows them.
        render_mode: As ``RealEnv``.
        world_model: With one (as in ``make_dream``) the game has the observations and
            the actions of the dream.

    Raises:
        ValueError: An option is wrong; or as ``RealEnv`` and ``LatentEnv``.
    """
    if world_model is None:
        return RealEnv(EnvironmentOptions.model_validate(environment), render_mode)
    world = _world_model(world_model)
    if isinstance(environment, dict) and environment.get("actions") == "auto":
        environment = {**environment, "actions": world.dream.get("actions", "auto")}
    game = RealEnv(EnvironmentOptions.model_validate(environment), render_mode)
    try:
        return LatentEnv(game, world)
    except BaseException:
        game.close()
        raise


def world_of(vae: str | Path, mdn_rnn: str | Path) -> WorldModel:
    """A world straight from the checkpoints of V and M.

    Its dreams begin at latents of V's prior, a standard normal; the world model that
    the dream stage makes begins where real episodes did.

    Raises:
        ValueError: A file is missing or no such checkpoint, or M belongs to another V.
    """
    v = load_checkpoint(vae, ConvVAE)
    m = load_checkpoint(mdn_rnn, MDNRNN)
    prior = torch.zeros(1, v.latent_size)
    return build_world_model(v, m, prior, prior.clone()).eval()


def made_with(
    world_model: WorldModel, actions: Actions, temperature: float, max_steps: int
) -> WorldModel:
    """The world model, which from now on knows how it is dreamed.

    Args:
        world_model: V and M.
        actions: The action mapping.
        temperature: Of the dream.
        max_steps: The cap on a dream, in steps of M.
    """
    world_model.dream = {
        "actions": actions.model_dump(mode="json"),
        "temperature": temperature,
        "max_steps": max_steps,
    }
    return world_model


def _world_model(given: WorldModel | str | Path) -> WorldModel:
    if os.getpid() != _PROCESS:  # as in a worker of an AsyncVectorEnv
        torch.set_num_threads(1)
    if isinstance(given, WorldModel):
        return given
    return load_checkpoint(given, WorldModel)


def _loaded(options: dict[str, Any]) -> dict[str, Any]:
    """Options of ``make_dream`` as arguments of the environments."""
    options = dict(options)
    if "vae" in options and "mdn_rnn" in options:
        options["world_model"] = world_of(options.pop("vae"), options.pop("mdn_rnn"))
    if "world_model" in options:
        options["world_model"] = _world_model(options["world_model"])
        options = {**options["world_model"].dream, **options}
    if "actions" in options:
        options["actions"] = TypeAdapter(ActionOptions).validate_python(
            options["actions"]
        )
    missing = {"world_model", "actions", "temperature", "max_steps"} - options.keys()
    if missing:
        raise InputError(
            f"wm_pipeline/Dream-v0: expected world_model (or vae and mdn_rnn), actions, "
            f"temperature and max_steps; missing {', '.join(sorted(missing))}"
        )
    return options
