"""Train M on the latents of whole episodes."""

import logging
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from pydantic import Field

from wm_pipeline.common.devices import choose_device, copied_to
from wm_pipeline.common.errors import InputError
from wm_pipeline.common.options import Options, Seed
from wm_pipeline.common.randomness import seeded_initialisation, stream
from wm_pipeline.common.resuming import to_resume
from wm_pipeline.environments.real import EnvironmentOptions
from wm_pipeline.episodes.choosing import split_episodes
from wm_pipeline.episodes.sequences import (
    check_latents,
    latent_statistics,
    longest_episode,
    reward_range,
    training_windows,
    validation_windows,
)
from wm_pipeline.episodes.shards import EpisodeShards
from wm_pipeline.models.mdn_rnn import MDNRNN, MDNRNNOptions
from wm_pipeline.models.mdn_rnn_training import (
    MDNRNNTrainingOptions,
    Window,
    train_mdn_rnn,
    validate_mdn_rnn,
)
from wm_pipeline.models.training import best_module
from wm_pipeline.models.training_state import TrainingState
from wm_pipeline.models.vae import ConvVAE
from wm_pipeline.models.world_model import digest

logger = logging.getLogger(__name__)


class MemoryOptions(Options):
    """M: its sizes, its training and its data.

    Attributes:
        seed: Of the weights, the order of the sequences and the samples of z.
        resume: Whether to resume the newest training.
        validation_fraction: Share of the episodes held out.
        model: The sizes.
        training: The training.
    """

    indifferent: ClassVar[frozenset[str]] = frozenset({"resume"})
    seed: Seed
    resume: bool = False
    validation_fraction: float = Field(gt=0, lt=1)
    model: MDNRNNOptions
    training: MDNRNNTrainingOptions


def train_memory(
    latents: EpisodeShards,
    vae: ConvVAE,
    environment: EnvironmentOptions,
    options: MemoryOptions,
    earlier_mdn_rnn_training: Callable[[], TrainingState | None] = lambda: None,
) -> Iterator[tuple[pd.DataFrame, TrainingState]]:
    """Train M to predict the next latent, the reward and the end of the episode.

    Args:
        latents: Of the real game's episodes, made by ``vae``.
        vae: V.
        environment: The game; its action mapping gives the size of a control.
        options: How.
        earlier_mdn_rnn_training: Reads the newest state, if there is one, which is
            resumed if asked for.

    Yields:
        While it is trained: its history (step, split, metric, value), and the state.

    Raises:
        ValueError: The latents were made by another V, or there are too few episodes.
    """
    before = to_resume("training", options.resume, earlier_mdn_rnn_training)
    check_latents(latents, vae)
    settings, frame_skip = options.training, options.model.frame_skip
    longest = longest_episode(latents, frame_skip)
    training, _ = _split(latents, options)
    sequences = int(np.minimum(latents.lengths[training], frame_skip).sum())
    if settings.batch_size > sequences:
        raise InputError(
            f"memory.training.batch_size: expected at most the {sequences} sequences of "
            f"the training episodes, found {settings.batch_size}"
        )
    with seeded_initialisation(options.seed, "mdn-rnn weights"):
        mdn_rnn = MDNRNN(
            options.model, vae.latent_size, environment.actions.size, digest(vae)
        )
    statistics = latent_statistics(latents, training, frame_skip)
    mdn_rnn.reward_mean.fill_(statistics.reward_mean)
    mdn_rnn.reward_scale.fill_(statistics.reward_scale)
    mdn_rnn.reward_range.copy_(
        torch.tensor(reward_range(latents, training, frame_skip))
    )
    mdn_rnn.to(choose_device(settings.device))
    states = train_mdn_rnn(
        mdn_rnn,
        lambda first: training_windows(
            latents,
            training,
            frame_skip,
            settings.batch_size,
            min(settings.sequence_length, longest),
            stream(options.seed, "sequence order"),
            first,
        ),
        _held_out(latents, options),
        statistics.trivial,
        settings,
        options.seed,
        {"latents": latents.digest, "memory": options.determining()},
        before,
    )
    with closing(states):
        for state in states:
            yield state.history, state


def select_memory(mdn_rnn_training: TrainingState) -> MDNRNN:
    """M with its best weights on held-out episodes."""
    return best_module(mdn_rnn_training, MDNRNN)


def score_memory(
    latents: EpisodeShards, mdn_rnn: MDNRNN, options: MemoryOptions
) -> dict[str, float]:
    """How well M predicts held-out episodes, beside the trivial predictors.

    Args:
        latents: Of the real game's episodes.
        mdn_rnn: M.
        options: As in training, so that the same episodes are held out.

    Returns:
        The scores of ``validate_mdn_rnn``.
    """
    training, _ = _split(latents, options)
    statistics = latent_statistics(latents, training, options.model.frame_skip)
    scores = validate_mdn_rnn(
        copied_to(options.training.device, mdn_rnn),
        _held_out(latents, options),
        statistics.trivial,
        options.training.done_weight,
        options.seed,
    )
    logger.info(
        "On held-out episodes M's negative log-likelihood is %.3f nats a dimension "
        "(nothing changes: %.3f, marginal: %.3f)",
        scores["nll"],
        scores["nll_unchanged"],
        scores["nll_marginal"],
    )
    if np.isnan(scores["done_recall"]):
        logger.info("The game ended none of them, so M knows no end")
    else:
        logger.info(
            "It predicts %.0f%% of their ends, with %.1f%% false alarms",
            100 * scores["done_recall"],
            100 * scores["done_false_alarms"],
        )
    trivial = min(scores["nll_unchanged"], scores["nll_marginal"])
    if scores["nll"] >= trivial:
        logger.warning(
            "M predicts no better than who knows nothing of the game (%.3f nats, %.3f): "
            "its dreams will teach nothing. Try more memory.training.steps or "
            "collection.episodes, another environment.repeat, or look at what V keeps "
            "(reconstructions)",
            scores["nll"],
            trivial,
        )
    return scores


def _split(
    latents: EpisodeShards, options: MemoryOptions
) -> tuple[np.ndarray, np.ndarray]:
    return split_episodes(
        len(latents), options.validation_fraction, stream(options.seed, "split")
    )


def _held_out(latents: EpisodeShards, options: MemoryOptions) -> list[Window]:
    return validation_windows(
        latents,
        _split(latents, options)[1],
        options.model.frame_skip,
        options.training.batch_size,
    )
