"""Train M on the latents of whole episodes."""

import logging

import pandas as pd
import torch
from pydantic import Field

from wm_pipeline.common.options import Options, Seed
from wm_pipeline.common.randomness import seeded_initialisation, stream
from wm_pipeline.environments.real import EnvironmentOptions
from wm_pipeline.episodes.choosing import split_episodes
from wm_pipeline.episodes.sequences import (
    check_latents,
    latent_statistics,
    longest_episode,
    training_windows,
    validation_windows,
)
from wm_pipeline.episodes.shards import EpisodeShards
from wm_pipeline.models.mdn_rnn import MDNRNN, MDNRNNOptions
from wm_pipeline.models.mdn_rnn_training import (
    MDNRNNTrainingOptions,
    train_mdn_rnn,
    validate_mdn_rnn,
)
from wm_pipeline.models.vae import ConvVAE
from wm_pipeline.models.world_model import digest

logger = logging.getLogger(__name__)


class MemoryOptions(Options):
    """M: its sizes, its training and its data.

    Attributes:
        seed: Of the weights, the order of the sequences and the samples of z.
        validation_fraction: Share of the episodes held out.
        model: The sizes.
        training: The training.
    """

    seed: Seed
    validation_fraction: float = Field(gt=0, lt=1)
    model: MDNRNNOptions
    training: MDNRNNTrainingOptions


def train_memory(
    latents: EpisodeShards,
    vae: ConvVAE,
    environment: EnvironmentOptions,
    options: MemoryOptions,
) -> tuple[MDNRNN, pd.DataFrame, dict[str, float]]:
    """Train M to predict the next latent, the reward and the end of the episode.

    Args:
        latents: Of the real game's episodes, made by ``vae``.
        vae: V.
        environment: The game; its action mapping gives the size of a control.
        options: How.

    Returns:
        M, its history (step, split, metric, value), and its scores on held-out
        episodes beside the trivial predictors'.

    Raises:
        ValueError: The latents were made by another V, or there are too few episodes.
    """
    check_latents(latents, vae)
    longest = longest_episode(latents, options.model.frame_skip)
    training, held_out = split_episodes(
        len(latents), options.validation_fraction, stream(options.seed, "split")
    )
    with seeded_initialisation(options.seed, "mdn-rnn weights"):
        mdn_rnn = MDNRNN(
            options.model, vae.latent_size, environment.actions.size, digest(vae)
        )
    frame_skip = options.model.frame_skip
    statistics = latent_statistics(latents, training, frame_skip)
    mdn_rnn.reward_mean.fill_(statistics.reward_mean)
    mdn_rnn.reward_scale.fill_(statistics.reward_scale)
    mdn_rnn.reward_range.copy_(torch.tensor(statistics.reward_range))
    settings = options.training
    windows = training_windows(
        latents,
        training,
        frame_skip,
        settings.batch_size,
        min(settings.sequence_length, longest),
        stream(options.seed, "sequence order"),
    )
    validation = validation_windows(latents, held_out, frame_skip, settings.batch_size)
    history = train_mdn_rnn(
        mdn_rnn, windows, validation, statistics.trivial, settings, options.seed
    )
    scores = validate_mdn_rnn(
        mdn_rnn, validation, statistics.trivial, settings.done_weight, options.seed
    )
    logger.info(
        "On held-out episodes M's negative log-likelihood is %.3f nats a dimension "
        "(nothing changes: %.3f, marginal: %.3f); it predicts %.0f%% of the ends, with "
        "%.1f%% false alarms",
        scores["nll"],
        scores["nll_unchanged"],
        scores["nll_marginal"],
        100 * scores["done_recall"],
        100 * scores["done_false_alarms"],
    )
    return mdn_rnn, history, scores
