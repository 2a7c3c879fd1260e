"""V, M and C that were trained elsewhere, as checkpoints of ours."""

import hashlib
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from wm_pipeline.common.checkpoints import is_checkpoint, load_checkpoint
from wm_pipeline.common.errors import InputError
from wm_pipeline.common.options import File, Options, Seed
from wm_pipeline.common.randomness import game_seeds
from wm_pipeline.dreaming.evaluator import DreamOptions
from wm_pipeline.environments.dream import check_controls
from wm_pipeline.environments.latent_env import check_same_actions
from wm_pipeline.environments.make import made_with
from wm_pipeline.environments.real import EnvironmentOptions, RealEnv
from wm_pipeline.importing import ctallec, hardmaru
from wm_pipeline.importing.check import differences
from wm_pipeline.importing.files import fill, named, read_arrays
from wm_pipeline.models.controller import Controller, ControllerOptions
from wm_pipeline.models.mdn_rnn import MDNRNN, MDNRNNOptions
from wm_pipeline.models.vae import ConvVAE, VAEOptions
from wm_pipeline.models.world_model import WorldModel, build_world_model, digest
from wm_pipeline.workers.here import games_here

logger = logging.getLogger(__name__)

FORMATS: Mapping[str, Any] = {"ctallec": ctallec, "hardmaru": hardmaru}


Names = dict[str, str]


class ModelsOptions(Options):
    """The sizes of networks whose files do not tell them.

    Attributes:
        vae: V's.
        mdn_rnn: M's.
        controller: C's.
    """

    vae: VAEOptions
    mdn_rnn: MDNRNNOptions
    controller: ControllerOptions


class NamesOptions(Options):
    """The names of a file's arrays by ours, where they differ.

    Attributes:
        vae: V's.
        mdn_rnn: M's.
        controller: C's.
    """

    vae: Names = Field(default={})
    mdn_rnn: Names = Field(default={})
    controller: Names = Field(default={})


class ImportOptions(Options):
    """Which files are taken in.

    Attributes:
        format: ``own`` are our checkpoints, or arrays under our names or those of
            ``names``; ``ctallec`` and ``hardmaru`` are the files of these repositories.
        world_model: A checkpoint of ours, in place of V and M.
        vae: V.
        mdn_rnn: M.
        controller: C; without it none is written.
        starts: First latents: hardmaru's ``initial_z.json``; null encodes the first
            frames of ``games`` games.
        games: So many.
        seed: Of these.
        check: Values with which V and M are compared, see ``importing/check.py``.
        models: Sizes, where a file does not tell them.
        names: Of arrays.
    """

    format: Literal["own", "ctallec", "hardmaru"] = "own"
    world_model: File | None = None
    vae: File | None = None
    mdn_rnn: File | None = None
    controller: File | None = None
    starts: File | None = None
    games: int = Field(ge=1, le=10_000)
    seed: Seed
    check: File | None = None
    models: ModelsOptions
    names: NamesOptions = NamesOptions()

    files: ClassVar[tuple[str, ...]] = (
        *("world_model", "vae", "mdn_rnn", "controller", "starts", "check"),
    )

    @model_validator(mode="after")
    def _one_world(self) -> Self:
        if self.world_model is not None and (self.vae or self.mdn_rnn):
            raise ValueError("expected world_model, or vae and mdn_rnn; found both")
        if self.world_model is not None and self.starts:
            raise ValueError(
                "starts: expected none beside world_model, which knows how its dreams "
                f"begin, found {self.starts}"
            )
        return self

    def determining(self) -> dict[str, Any]:
        """Files count by what is in them; without any nothing is asked for."""
        sums = {
            name: hashlib.sha256(Path(path).read_bytes()).hexdigest()
            for name in self.files
            if (path := getattr(self, name)) is not None
        }
        return {**super().determining(), **sums} if sums else {}


def import_world_model(
    environment: EnvironmentOptions, dream: DreamOptions, options: ImportOptions
) -> tuple[ConvVAE, MDNRNN, WorldModel]:
    """Take in V and M, and find where dreams begin.

    Args:
        environment: The game, whose action mapping M was trained with.
        dream: The dream.
        options: The files.

    Returns:
        V, M and the world model.

    Raises:
        InputError: A file is missing, damaged or of other networks, M is of another V or
            of other actions, or what they make differs from what is known.
    """
    world_model = _world_model(environment, options)
    vae, mdn_rnn = world_model.vae, world_model.mdn_rnn
    check_controls(environment.actions, world_model)
    check_same_actions(environment.actions, world_model)
    if options.check is not None:
        found = differences(options.check, vae, mdn_rnn)
        told = ", ".join(f"{name} by {each:.1g}" for name, each in found.items())
        logger.info("Beside the values known they differ at most in %s", told)
    # Where C is refused no game is played and nothing is written.
    _controller(world_model, environment, options)
    logger.info(
        "Imported V with z of %s and M with h of %s, which reads %s controls",
        vae.latent_size,
        mdn_rnn.hidden_size,
        mdn_rnn.action_size,
    )
    if not len(world_model.start_means):
        world_model = WorldModel(
            vae, mdn_rnn, *_first_latents(vae, environment, options)
        )
    steps = dream.steps(mdn_rnn.frame_skip)
    made = made_with(world_model, environment.actions, dream.temperature, steps)
    return vae, mdn_rnn, made


def import_controller(
    world_model: WorldModel, environment: EnvironmentOptions, options: ImportOptions
) -> Iterator[Controller]:
    """Take in C, if there is one.

    Args:
        world_model: V and M, for which it was trained.
        environment: The game, whose action mapping reads its outputs.
        options: The file.

    Yields:
        C.

    Raises:
        InputError: The file is damaged, or C is of another M or of other actions.
    """
    controller = _controller(world_model, environment, options)
    if controller is not None:
        yield controller


def _world_model(environment: EnvironmentOptions, options: ImportOptions) -> WorldModel:
    """V and M; without first latents, where no file has them."""
    if options.world_model is not None:
        return load_checkpoint(options.world_model, WorldModel)
    if options.vae is None or options.mdn_rnn is None:
        raise InputError(
            "import: expected the files import.vae and import.mdn_rnn, or "
            f"import.world_model; found {_given(options)}"
        )
    vae = _vae(options.vae, options)
    mdn_rnn = _mdn_rnn(options.mdn_rnn, vae, environment, options)
    return build_world_model(vae, mdn_rnn, *_given_starts(vae, options))


def _given(options: ImportOptions) -> str:
    names = [f"import.{n}" for n in options.files if getattr(options, n) is not None]
    return ", ".join(names) or "none"


def _vae(file: str, options: ImportOptions) -> ConvVAE:
    if options.format != "own":
        vae: ConvVAE = FORMATS[options.format].vae_of(file)
        return vae
    if is_checkpoint(file):
        return load_checkpoint(file, ConvVAE)
    vae = ConvVAE(options.models.vae)
    fill(vae, named(read_arrays(file), options.names.vae, file), file)
    return vae


def _mdn_rnn(
    file: str, vae: ConvVAE, environment: EnvironmentOptions, options: ImportOptions
) -> MDNRNN:
    if options.format != "own":
        mdn_rnn: MDNRNN = FORMATS[options.format].mdn_rnn_of(file, vae)
        return mdn_rnn
    if is_checkpoint(file):
        return load_checkpoint(file, MDNRNN)
    actions = environment.actions.size
    mdn_rnn = MDNRNN(options.models.mdn_rnn, vae.latent_size, actions, digest(vae))
    fill(mdn_rnn, named(read_arrays(file), options.names.mdn_rnn, file), file)
    return mdn_rnn


def _controller(
    world_model: WorldModel, environment: EnvironmentOptions, options: ImportOptions
) -> Controller | None:
    if options.controller is None:
        return None
    file, mdn_rnn = options.controller, world_model.mdn_rnn
    controller: Controller
    if options.format != "own":
        controller = FORMATS[options.format].controller_of(file, mdn_rnn)
    elif is_checkpoint(file):
        controller = load_checkpoint(file, Controller)
    else:
        controller = Controller.for_world(
            options.models.controller, world_model, environment.actions.outputs
        )
        fill(controller, named(read_arrays(file), options.names.controller, file), file)
    expected = mdn_rnn.latent_size, mdn_rnn.hidden_size, environment.actions.outputs
    found = controller.latent_size, controller.hidden_size, controller.outputs
    if found != expected:
        raise InputError(
            f"{file}: expected a controller of z, h and outputs of {expected}, found "
            f"{found}"
        )
    return controller


def _given_starts(vae: ConvVAE, options: ImportOptions) -> tuple[Tensor, Tensor]:
    """Means and log-variances of first latents, of a file; else none, (0, latent)."""
    if options.starts is None:
        none = torch.zeros(0, vae.latent_size)
        return none, none.clone()
    means, log_variances = hardmaru.starts_of(options.starts)
    if means.shape[1] != vae.latent_size:
        raise InputError(
            f"{options.starts}: expected latents of {vae.latent_size}, found "
            f"{means.shape[1]}"
        )
    return torch.from_numpy(means), torch.from_numpy(log_variances)


def _first_latents(
    vae: ConvVAE, environment: EnvironmentOptions, options: ImportOptions
) -> tuple[Tensor, Tensor]:
    """Means and log-variances of the first frames of games."""
    seeds = game_seeds(options.games, options.seed, "starts")
    with games_here():
        env = RealEnv(environment)
        frames = np.stack([env.reset(seed=seed)[0] for seed in seeds])
        env.close()
    return vae.encode_frames(frames)
