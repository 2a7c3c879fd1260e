"""Latents of stored episodes as windows of sequences for M, in bounded memory."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np
import torch

from wm_pipeline.common.errors import InputError
from wm_pipeline.episodes.choosing import in_groups
from wm_pipeline.episodes.columns import Steps
from wm_pipeline.episodes.joined import Episodes
from wm_pipeline.episodes.shards import EpisodeShards
from wm_pipeline.models.mdn_rnn_training import TrivialPredictors, Window
from wm_pipeline.models.vae import ConvVAE
from wm_pipeline.models.world_model import digest

POOL_STEPS = 1_000_000
"""Steps of the environment whose latents are in memory at a time (about 0.3 GB)."""


@dataclass(frozen=True)
class Sequence:
    """An episode as M sees it, from one phase on: every ``frame_skip``-th step.

    Attributes:
        means: (time, latent) float32.
        log_variances: (time, latent) float32.
        actions: (time, action) float32, the mean over the step's window.
        rewards: (time,) float32, the sum over the window.
        done: (time,) bool, the game ends within the window.
    """

    means: np.ndarray
    log_variances: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    done: np.ndarray


def to_sequence(steps: Steps, phase: int, frame_skip: int) -> Sequence:
    """Cut an episode of latents into M's steps.

    Args:
        steps: Columns mean, log_variance, action, reward and terminated.
        phase: The first step taken, 0 to ``frame_skip - 1``; less than the episode.
        frame_skip: Steps of the environment in one of M's.
    """
    total = len(steps["reward"])
    starts = np.arange(phase, total, frame_skip)
    counts = np.minimum(starts + frame_skip, total) - starts
    actions = np.add.reduceat(steps["action"], starts, axis=0) / counts[:, None]
    return Sequence(
        means=steps["mean"][starts].astype(np.float32),
        log_variances=steps["log_variance"][starts].astype(np.float32),
        actions=actions.astype(np.float32),
        rewards=np.add.reduceat(steps["reward"], starts).astype(np.float32),
        done=np.logical_or.reduceat(steps["terminated"], starts),
    )


def training_windows(
    latents: Episodes,
    chosen: np.ndarray,
    frame_skip: int,
    batch_size: int,
    length: int,
    random: np.random.Generator,
    skipped: int = 0,
    phases: int | None = None,
) -> Iterator[Window]:
    """Endless windows for truncated backpropagation through time.

    Each row of the batch follows one sequence from its start to its end, window after
    window, then takes another; all phases of an episode are sequences of their own.

    Args:
        latents: The stored latents.
        chosen: Which episodes.
        frame_skip: Steps of the environment in one of M's.
        batch_size: Rows.
        length: Steps of M in a window.
        random: Draws the order.
        skipped: Windows at the beginning that are left out; they are not read.
        phases: How many phases of an episode are sequences; None takes all.
    """
    every = frame_skip if phases is None else phases
    source = _shuffled_sequences(latents, chosen, frame_skip, every, random)
    rows = [_Row(next(source)) for _ in range(batch_size)]
    for number in itertools.count():
        if number >= skipped:
            pieces = [(row.stored.sequence(), row.position) for row in rows]
            yield _window(pieces, length)
        for row in rows:
            row.position += length
            if row.position >= row.stored.length:
                row.stored, row.position = next(source), 0


def validation_windows(
    latents: Episodes, chosen: np.ndarray, frame_skip: int, batch_size: int
) -> list[Window]:
    """Whole episodes (phase 0) side by side, padded to the longest of each batch.

    Args:
        latents: The stored latents.
        chosen: Which episodes.
        frame_skip: Steps of the environment in one of M's.
        batch_size: The most episodes a window.
    """
    ordered = chosen[np.argsort(latents.lengths[chosen], kind="stable")]
    windows = []
    for start in range(0, len(ordered), batch_size):
        sequences = [
            to_sequence(latents.read(int(episode)), 0, frame_skip)
            for episode in ordered[start : start + batch_size]
        ]
        longest = max(len(sequence.rewards) for sequence in sequences)
        windows.append(_window([(sequence, 0) for sequence in sequences], longest))
    return windows


def longest_episode(latents: Episodes, frame_skip: int) -> int:
    """The steps of M in the longest episode; longer windows would hold padding only.

    Args:
        latents: The stored latents.
        frame_skip: Steps of the environment in one of M's.

    Raises:
        InputError: A step of M is longer than every episode, or as long.
    """
    longest = int(latents.lengths.max())
    if longest < 2:  # noqa: PLR2004
        raise InputError(
            "collection: M needs episodes of two steps or more; the longest collected "
            f"has {longest}"
        )
    if frame_skip >= longest:
        raise InputError(
            "memory.model.frame_skip: expected less than the steps of the longest "
            f"episode ({longest}), found {frame_skip}"
        )
    return -(-longest // frame_skip)


def check_latents(latents: EpisodeShards, vae: ConvVAE) -> None:
    """Refuse latents that another V made.

    Raises:
        ValueError: With both digests.
    """
    expected, found = digest(vae), latents.metadata.get("vae_digest")
    if expected != found:
        raise InputError(
            f"{latents.folder}: expected latents of the loaded VAE {expected}, found "
            f"those of {found}. Run the vision stage again, or load the VAE's version "
            "that made them"
        )


def side_by_side(
    windows: Iterator[Window], others: Iterator[Window]
) -> Iterator[Window]:
    """Windows of two sources as one: the rows of the first above those of the other.

    Args:
        windows: Of one source.
        others: Of another, as long.
    """
    names = [part.name for part in fields(Window)]
    for first, second in zip(windows, others, strict=False):
        yield Window(
            *(
                np.concatenate((getattr(first, name), getattr(second, name)))
                for name in names
            )
        )


@dataclass(frozen=True)
class LatentStatistics:
    """Statistics of the training data, by which M scales its outputs and is judged.

    Attributes:
        trivial: The predictors that M is compared with.
        reward_mean: Of a step of M.
        reward_scale: Root mean square of a step's reward; 1 where it is always zero.
    """

    trivial: TrivialPredictors
    reward_mean: float
    reward_scale: float


def latent_statistics(
    latents: Episodes, chosen: np.ndarray, frame_skip: int
) -> LatentStatistics:
    """Means and deviations of latents, their changes and rewards over episodes.

    Args:
        latents: The stored latents.
        chosen: Which episodes; phase 0 of each is read.
        frame_skip: Steps of the environment in one of M's.
    """
    sums: dict[str, np.ndarray] = {}

    def add(name: str, values: np.ndarray) -> None:
        for power in (0, 1, 2):
            key = f"{name}{power}"
            sums[key] = sums.get(key, np.zeros(())) + (
                values.astype(np.float64) ** power
            ).sum(0)

    for episode in chosen:
        sequence = to_sequence(latents.read(int(episode)), 0, frame_skip)
        variances = np.exp(sequence.log_variances)
        add("latent", sequence.means)
        add("variance", variances)
        add("change", np.diff(sequence.means, axis=0))
        add("reward", sequence.rewards[:, None])

    def moments(name: str) -> tuple[np.ndarray, np.ndarray]:
        mean = sums[f"{name}1"] / sums[f"{name}0"]
        return mean, np.maximum(sums[f"{name}2"] / sums[f"{name}0"] - mean**2, 0)

    mean, spread = moments("latent")
    noise = moments("variance")[0]
    change_mean, change_spread = moments("change")
    reward_mean, reward_spread = moments("reward")
    # Not the standard deviation: where the reward hardly ever changes, that would turn
    # the few exceptions into the largest part of M's loss.
    reward_scale = float(np.sqrt(reward_spread[0] + reward_mean[0] ** 2))
    trivial = TrivialPredictors(
        mean=torch.from_numpy(mean).float(),
        sigma=torch.from_numpy(np.sqrt(spread + noise)).float(),
        # The change between two samples holds the noise of both.
        change_sigma=torch.from_numpy(
            np.sqrt(change_spread + change_mean**2 + 2 * noise)
        ).float(),
    )
    return LatentStatistics(
        trivial,
        float(reward_mean[0]),
        reward_scale if reward_scale > 0 else 1.0,
    )


def reward_range(
    latents: Episodes, chosen: np.ndarray, frame_skip: int, phases: int | None = None
) -> tuple[float, float]:
    """The least and the largest reward of a step of M.

    Args:
        latents: The stored latents; their rewards alone are read.
        chosen: Which episodes.
        frame_skip: Steps of the environment in one of M's.
        phases: How many phases of an episode are sequences; None takes all.
    """
    every = frame_skip if phases is None else phases
    found = [
        np.add.reduceat(rewards, np.arange(phase, len(rewards), frame_skip))
        for rewards in (latents.read(int(n), ["reward"])["reward"] for n in chosen)
        for phase in range(min(every, len(rewards)))
    ]
    met = np.concatenate(found).astype(np.float32)
    return float(met.min()), float(met.max())


class _Pool:
    """Episodes whose latents are in memory together, from when one of them is asked for.

    Args:
        latents: The stored latents.
        episodes: Which of them.
    """

    def __init__(self, latents: Episodes, episodes: list[int]) -> None:
        self._latents, self._episodes = latents, episodes
        self._steps: dict[int, Steps] = {}
        self._current = True

    def steps(self, episode: int) -> Steps:
        """The columns of one of its episodes."""
        if not self._current:
            return self._latents.read(episode)
        if not self._steps:
            self._steps = {e: self._latents.read(e) for e in self._episodes}
        return self._steps[episode]

    def leave(self) -> None:
        """Free the memory; what is asked for afterwards is read alone."""
        self._current, self._steps = False, {}


@dataclass
class _Stored:
    """A sequence that is read when it is first needed."""

    pool: _Pool
    episode: int
    phase: int
    frame_skip: int
    length: int
    _sequence: Sequence | None = None

    def sequence(self) -> Sequence:
        """It."""
        if self._sequence is None:
            steps = self.pool.steps(self.episode)
            self._sequence = to_sequence(steps, self.phase, self.frame_skip)
        return self._sequence


@dataclass
class _Row:
    """A row of the batch: the sequence it follows, and how far it has come."""

    stored: _Stored
    position: int = 0


def _shuffled_sequences(
    latents: Episodes,
    chosen: np.ndarray,
    frame_skip: int,
    phases: int,
    random: np.random.Generator,
) -> Iterator[_Stored]:
    """Some phases of the chosen episodes, in a new order each epoch, a pool at a time."""
    lengths = latents.lengths
    groups = list(in_groups(chosen, lengths, POOL_STEPS))
    number, pool = -1, _Pool(latents, [])
    while True:
        for following in random.permutation(len(groups)).tolist():
            if following != number:
                pool.leave()
                number, pool = following, _Pool(latents, groups[following])
            pairs = [
                (episode, phase)
                for episode in groups[number]
                for phase in range(min(phases, int(lengths[episode])))
            ]
            for place in random.permutation(len(pairs)).tolist():
                episode, phase = pairs[place]
                steps = -(-(int(lengths[episode]) - phase) // frame_skip)
                yield _Stored(pool, episode, phase, frame_skip, steps)


def _window(rows: list[tuple[Sequence, int]], length: int) -> Window:
    """The next ``length`` steps of each row's sequence, padded with zeros."""
    latent_size = rows[0][0].means.shape[1]
    action_size = rows[0][0].actions.shape[1]
    batch = len(rows)
    means = np.zeros((batch, length + 1, latent_size), np.float32)
    log_variances = np.zeros_like(means)
    actions = np.zeros((batch, length, action_size), np.float32)
    rewards = np.zeros((batch, length), np.float32)
    done, valid, has_next = (np.zeros((batch, length), bool) for _ in range(3))
    fresh = np.zeros(batch, bool)
    for row, (sequence, position) in enumerate(rows):
        steps = slice(position, position + length)
        count = len(sequence.rewards[steps])
        ahead = sequence.means[position : position + length + 1]
        means[row, : len(ahead)] = ahead
        log_variances[row, : len(ahead)] = sequence.log_variances[
            position : position + length + 1
        ]
        actions[row, :count] = sequence.actions[steps]
        rewards[row, :count] = sequence.rewards[steps]
        done[row, :count] = sequence.done[steps]
        valid[row, :count] = True
        has_next[row, : len(ahead) - 1] = True
        fresh[row] = position == 0
    return Window(means, log_variances, actions, rewards, done, valid, has_next, fresh)
