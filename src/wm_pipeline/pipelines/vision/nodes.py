"""Train V on frames, and encode every frame."""

import itertools
import logging
import math
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from pydantic import Field, model_validator
from torch import Tensor

from wm_pipeline.common import progress
from wm_pipeline.common.devices import choose_device, copied_to
from wm_pipeline.common.errors import InputError
from wm_pipeline.common.options import Options, Seed
from wm_pipeline.common.randomness import seeded_initialisation, stream, torch_stream
from wm_pipeline.common.resuming import to_resume
from wm_pipeline.episodes.choosing import split_episodes
from wm_pipeline.episodes.encoding import encoded
from wm_pipeline.episodes.frames import sample_frames, shuffled_frames
from wm_pipeline.episodes.shards import EpisodeShards, Shard
from wm_pipeline.models.probe import explained
from wm_pipeline.models.recall import recall_by_size
from wm_pipeline.models.salience import Salience, SalienceRule, Statistics
from wm_pipeline.models.training import best_module
from wm_pipeline.models.training_state import TrainingState
from wm_pipeline.models.vae import ConvVAE, VAEOptions
from wm_pipeline.models.vae_training import VAETrainingOptions, train_vae, validate_vae
from wm_pipeline.models.world_model import digest
from wm_pipeline.reporting.pictures import enlarge, pairs_of_rows

logger = logging.getLogger(__name__)

PICTURE_ROWS, PICTURE_COLUMNS = 3, 8

STATISTICS_EPISODES, STATISTICS_FRAMES = 64, 10_000
"""From how many training episodes, and frames of theirs, statistics are taken at most."""

PROBED_EVERY = 10
"""Of so many steps one is used to tell the time from z."""


class VisionOptions(Options):
    """V: its sizes, its training and its data.

    Attributes:
        seed: Of the weights, the order of the frames and the samples of z.
        resume: Whether to resume the newest training.
        validation_fraction: Share of the episodes held out.
        pool_frames: Frames shuffled together; about 12 kB each, three pools at most
            are in memory.
        things: Which pixels are of things, of which it is measured how many V shows;
            without a rule, those that are salient in training.
        model: The sizes.
        training: The training.
    """

    indifferent: ClassVar[frozenset[str]] = frozenset({"resume"})
    seed: Seed
    resume: bool = False
    validation_fraction: float = Field(gt=0, lt=1)
    pool_frames: int = Field(ge=1, le=1_000_000)
    things: SalienceRule | None = None
    model: VAEOptions
    training: VAETrainingOptions

    @model_validator(mode="after")
    def _pool_holds_a_batch(self) -> "VisionOptions":
        if self.pool_frames < self.training.batch_size:
            raise ValueError(
                f"pool_frames: expected at least training.batch_size "
                f"({self.training.batch_size}), found {self.pool_frames}"
            )
        return self


def train_vision(
    episodes: EpisodeShards,
    options: VisionOptions,
    earlier_vae_training: Callable[[], TrainingState | None] = lambda: None,
) -> Iterator[tuple[pd.DataFrame, TrainingState]]:
    """Train V on shuffled frames.

    Args:
        episodes: Of the real game.
        options: How.
        earlier_vae_training: Reads the newest state, if there is one, which is resumed if
            asked for.

    Yields:
        While it is trained: its history (step, split, metric, value), and the state.
    """
    before = to_resume("training", options.resume, earlier_vae_training)
    training, _ = _split(episodes, options)
    batch_size = options.training.batch_size
    if batch_size > (frames := int(episodes.lengths[training].sum())):
        raise InputError(
            f"vision.training.batch_size: expected at most the {frames} frames of the "
            f"training episodes, found {batch_size}"
        )
    with seeded_initialisation(options.seed, "vae weights"):
        vae = ConvVAE(options.model)
    statistics = _statistics(episodes, options)
    vae.set_mean_image(statistics.mean)
    vae.to(choose_device(options.training.device))
    states = train_vae(
        vae,
        lambda first: shuffled_frames(
            episodes,
            training,
            batch_size,
            options.pool_frames,
            stream(options.seed, "frame order"),
            first,
        ),
        _validation_frames(episodes, options),
        statistics,
        options.training,
        options.seed,
        {"episodes": episodes.digest, "vision": options.determining()},
        before,
    )
    with closing(states):
        for state in states:
            yield state.history, state


def select_vision(vae_training: TrainingState) -> ConvVAE:
    """V with its best weights on held-out episodes."""
    return best_module(vae_training, ConvVAE)


def score_vision(
    episodes: EpisodeShards,
    latents: EpisodeShards,
    vae: ConvVAE,
    options: VisionOptions,
) -> tuple[dict[str, float], pd.DataFrame, np.ndarray]:
    """How well V reconstructs held-out frames: scores, and a picture.

    Args:
        episodes: Of the real game.
        latents: Of all their frames.
        vae: V.
        options: As in training, so that the same episodes are held out.

    Returns:
        The scores of ``validate_vae``, how much of the time since an episode's start a
        small network tells from z (``time_explained``), and the recall of things by
        their size in pixels (``recall_1_to_4``); the last as the table of
        ``recall_by_size``; and originals above their reconstructions, from few pixels
        of things (a fireball far away) to many.
    """
    vae = copied_to(options.training.device, vae)
    frames = _validation_frames(episodes, options)
    statistics = _statistics(episodes, options)
    scores = validate_vae(vae, frames, statistics, options.training, options.seed)
    training, held_out = (
        _latents_and_times(latents, chosen) for chosen in _split(latents, options)
    )
    scores["time_explained"] = explained(
        *training, *held_out, torch_stream(options.seed, "time probe")
    )
    decoded = np.concatenate(
        [
            vae.decode_frames(vae.encode_frames(frames[first : first + 250])[0])
            for first in range(0, len(frames), 250)
        ]
    )
    salience = options.training.salience
    if options.things is not None:
        salience = salience.model_copy(update={"rule": options.things})
    things, shown = (
        Salience(salience, statistics).seen_in(each) for each in (frames, decoded)
    )
    recall = recall_by_size(things, shown)
    for row in recall.to_dict("records"):
        scores[f"recall_{row['least']}_to_{row['most']}"] = row["recall"]
    found = recall[recall["pixels"] > 0].to_dict("records")
    lines = [
        f"  {row['least']} to {row['most']} pixels: {row['recall']:.0%} of "
        f"{row['pixels']:,}; "
        + (
            f"of what it shows {row['precision']:.0%} is there"
            if row["shown"]
            else "it shows none of that size"
        )
        for row in found
    ]
    logger.info(
        "On held-out frames V reconstructs of the pixels of things that have\n%s",
        "\n".join(lines or ["  any size: there are none"]),
    )
    if math.isfinite(scores["time_explained"]):
        logger.info(
            "z tells %.0f%% of how long the episode has lasted",
            100 * scores["time_explained"],
        )
    chosen = examples(things, PICTURE_ROWS * PICTURE_COLUMNS)
    picture = pairs_of_rows(frames[chosen], decoded[chosen], PICTURE_COLUMNS)
    return scores, recall, enlarge(picture, 2)


def examples(things: np.ndarray, count: int) -> np.ndarray:
    """Which frames to look at: from those with few pixels of things to those with many.

    Each is out of another part of the frames, so that none is shown twice while there
    are enough; in Doom the first has a fireball far away, the last one that is near.

    Args:
        things: Which pixels of frames are of things, (frames, height, width) bool.
        count: How many frames.

    Returns:
        Their numbers, (count,) int64.
    """
    sizes = np.log1p(things.sum((1, 2)))
    parts = np.array_split(np.arange(len(things)), min(count, len(things)))
    wanted = np.linspace(np.log(2), sizes.max(), len(parts))
    chosen = [
        part[np.abs(sizes[part] - size).argmin()]
        for part, size in zip(parts, wanted, strict=True)
    ]
    return np.resize(chosen, count)


def encode_episodes(
    episodes: EpisodeShards, vae: ConvVAE, options: VisionOptions
) -> Iterator[Shard]:
    """Encode every frame of every episode.

    Args:
        episodes: Of the real game.
        vae: V.
        options: The device.

    Yields:
        Shards with mean and log_variance (latent,) float16 in place of the frame; the
        metadata holds V's digest.
    """
    sizes = episodes.episodes_per_shard
    metadata = {**episodes.metadata, "vae_digest": digest(vae)}
    vae = copied_to(options.training.device, vae)
    in_order = episodes.in_order()
    with progress.task("Encoding", len(episodes), "episodes") as task:
        for index, size in enumerate(sizes):
            shard = []
            for steps in itertools.islice(in_order, size):
                shard.append(encoded(steps, vae))
                task.advance()
            yield Shard(index, len(sizes), shard, metadata)


def _split(
    episodes: EpisodeShards, options: VisionOptions
) -> tuple[np.ndarray, np.ndarray]:
    return split_episodes(
        len(episodes), options.validation_fraction, stream(options.seed, "split")
    )


def _statistics(episodes: EpisodeShards, options: VisionOptions) -> Statistics:
    """Of the pixels of some training episodes."""
    random = stream(options.seed, "pixel statistics")
    training = random.permutation(_split(episodes, options)[0])[:STATISTICS_EPISODES]
    return Statistics.of(sample_frames(episodes, training, STATISTICS_FRAMES, random))


def _validation_frames(episodes: EpisodeShards, options: VisionOptions) -> np.ndarray:
    return sample_frames(
        episodes,
        _split(episodes, options)[1],
        options.training.validation_frames,
        stream(options.seed, "validation frames"),
    )


def _latents_and_times(
    latents: EpisodeShards, chosen: np.ndarray
) -> tuple[Tensor, Tensor]:
    """Some means of z, and the steps before each in its episode."""
    means = [
        latents.read(int(episode), ["mean"])["mean"][::PROBED_EVERY]
        for episode in chosen
    ]
    steps = [np.arange(len(part)) * PROBED_EVERY for part in means]
    return (
        torch.from_numpy(np.concatenate(means).astype(np.float32)),
        torch.from_numpy(np.concatenate(steps).astype(np.float32)),
    )
