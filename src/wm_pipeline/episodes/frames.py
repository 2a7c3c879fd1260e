"""Frames of stored episodes as shuffled batches, in bounded memory."""

import contextlib
from collections.abc import Generator, Iterator

import numpy as np

from wm_pipeline.common.ahead import ahead
from wm_pipeline.episodes.choosing import in_groups
from wm_pipeline.episodes.shards import EpisodeShards
from wm_pipeline.models.vae import FRAME_SHAPE


def shuffled_frames(
    episodes: EpisodeShards,
    chosen: np.ndarray,
    batch_size: int,
    pool_frames: int,
    random: np.random.Generator,
    skipped: int = 0,
) -> Generator[np.ndarray]:
    """Endless batches of frames, every frame once an epoch.

    Whole episodes in random order fill a pool; its frames are shuffled and yielded
    while a thread reads the next pool, so at most three pools are in memory.

    Args:
        episodes: The stored episodes.
        chosen: Which of them, episode indices.
        batch_size: Frames a batch.
        pool_frames: Frames a pool, at least ``batch_size``.
        random: Draws the order.
        skipped: Batches at the beginning that are left out; their frames are not read.

    Yields:
        (batch_size, 64, 64, 3) uint8.
    """
    pools = _pools(episodes, chosen, pool_frames, random, skipped * batch_size)
    rest = np.empty((0, *FRAME_SHAPE), np.uint8)
    with contextlib.closing(ahead(pools, "frame pools")) as read:
        for pool in read:
            # What does not fill a batch waits for the next pool.
            frames = np.concatenate((rest, pool)) if len(rest) else pool
            whole = len(frames) - len(frames) % batch_size
            for start in range(0, whole, batch_size):
                yield frames[start : start + batch_size]
            rest = frames[whole:].copy()


def sample_frames(
    episodes: EpisodeShards,
    chosen: np.ndarray,
    count: int,
    random: np.random.Generator,
) -> np.ndarray:
    """Frames drawn uniformly from all frames of some episodes.

    Args:
        episodes: The stored episodes.
        chosen: Which of them.
        count: How many frames are wanted; fewer come when there are not as many.
        random: Draws them.

    Returns:
        (frames, 64, 64, 3) uint8.
    """
    lengths = episodes.lengths[chosen]
    picked = random.permutation(int(lengths.sum()))[:count]
    owner = np.searchsorted(np.cumsum(lengths), picked, side="right")
    starts = np.cumsum(lengths) - lengths
    frames = []
    for position in np.unique(owner):
        steps = np.sort(picked[owner == position] - starts[position])
        frames.append(episodes.read(int(chosen[position]), ["frame"])["frame"][steps])
    return np.concatenate(frames)


def _pools(
    episodes: EpisodeShards,
    chosen: np.ndarray,
    pool_frames: int,
    random: np.random.Generator,
    skipped: int,
) -> Iterator[np.ndarray]:
    """Endless pools of shuffled frames, without so many at the beginning."""
    lengths = episodes.lengths
    while True:
        for group in in_groups(random.permutation(chosen), lengths, pool_frames):
            total = int(lengths[group].sum())
            places = random.permutation(total)
            if skipped >= total:
                skipped -= total
                continue
            pool = np.empty((total, *FRAME_SHAPE), np.uint8)
            start = 0
            for episode in group:
                frames = episodes.read(episode, ["frame"])["frame"]
                pool[places[start : start + len(frames)]] = frames
                start += len(frames)
            yield pool[skipped:]
            skipped = 0
