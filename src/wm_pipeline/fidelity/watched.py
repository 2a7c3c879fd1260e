"""Episodes as they are compared: when they end, and how many pixels of things they show."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from wm_pipeline.common.randomness import stream
from wm_pipeline.environments.dream import Decision, Dreams
from wm_pipeline.episodes.episode import Episode
from wm_pipeline.models.salience import (
    Salience,
    SalienceOptions,
    SalienceRule,
    Statistics,
)
from wm_pipeline.models.world_model import WorldModel

SAMPLED = 2000
"""Frames from which it is learned what the game's pixels are like."""

Look = Callable[[np.ndarray], np.ndarray]
"""Where frames (frames, 64, 64, 3) uint8 show things, (frames, 64, 64) bool."""


@dataclass(frozen=True)
class Ends:
    """When episodes are over.

    Attributes:
        steps: Of the environment in each, (episodes,) int64.
        terminated: Whether the world ended it, rather than a cap, (episodes,) bool.
    """

    steps: np.ndarray
    terminated: np.ndarray

    def of(self, episodes: np.ndarray) -> "Ends":
        """Some of them, (some,) int64, perhaps one several times."""
        return Ends(self.steps[episodes], self.terminated[episodes])


NONE = Ends(np.zeros(0, np.int64), np.zeros(0, bool))
"""Of no episodes."""


@dataclass(frozen=True)
class Watched:
    """Episodes of one policy in one world.

    Attributes:
        pixels: Of things in every frame looked at, (episodes, frames) float64; NaN behind
            an episode's end.
        ends: When these episodes are over.
        every: Steps of the environment from one frame looked at to the next.
        unseen: When others are over, that nobody has looked at.
    """

    pixels: np.ndarray
    ends: Ends
    every: int
    unseen: Ends = NONE

    @property
    def all_ends(self) -> Ends:
        """When all of the episodes are over."""
        return Ends(
            np.concatenate([self.ends.steps, self.unseen.steps]),
            np.concatenate([self.ends.terminated, self.unseen.terminated]),
        )

    def resampled(self, random: np.random.Generator) -> "Watched":
        """As many episodes, and as many unseen, each drawn with replacement."""
        seen, unseen = (
            random.integers(len(ends.steps), size=len(ends.steps))
            for ends in (self.ends, self.unseen)
        )
        return Watched(
            self.pixels[seen], self.ends.of(seen), self.every, self.unseen.of(unseen)
        )


def look_for(rule: SalienceRule, episodes: Sequence[Episode]) -> Look:
    """A look at frames for what is salient by a rule.

    Args:
        rule: Which pixels are.
        episodes: Of the game, with their frames, by which it is known what is usual.
    """
    frames = [each.frames for each in episodes if each.frames is not None]
    stride = max(1, sum(map(len, frames)) // SAMPLED)
    statistics = Statistics.of(np.concatenate([some[::stride] for some in frames]))
    return Salience(SalienceOptions(rule=rule), statistics).seen_in


def watch_episodes(episodes: Sequence[Episode], look: Look, every: int) -> Watched:
    """Look at episodes of the game.

    Args:
        episodes: With some of their frames, from the first on.
        look: At a frame.
        every: Steps from one of these frames to the next.
    """
    counts = []
    for episode in episodes:
        assert episode.frames is not None, "nothing to look at"
        counts.append(look(episode.frames).sum((1, 2)))
    pixels = np.full((len(episodes), max(map(len, counts))), np.nan)
    for row, found in zip(pixels, counts, strict=True):
        row[: len(found)] = found
    ends = Ends(
        np.array([len(episode.rewards) for episode in episodes]),
        np.array([episode.terminated for episode in episodes]),
    )
    return Watched(pixels, ends, every)


def watch_dreams(
    dreams: Dreams, choose: Decision, most_steps: int, look: Look, seed: int
) -> Watched:
    """Dream, and look at what V decodes of it.

    Args:
        dreams: Which begin anew.
        choose: Chooses the controls.
        most_steps: The cap, in steps of M.
        look: At a frame.
        seed: Of the dreams.
    """
    random = stream(seed, "watched dreams")
    dreams.begin(np.ones(dreams.count, bool), random)
    alive = np.ones(dreams.count, bool)
    steps = np.zeros(dreams.count, np.int64)
    pixels: list[np.ndarray] = []
    while alive.any() and len(pixels) < most_steps:
        seen = np.full(dreams.count, np.nan)
        frames = dreams.world_model.vae.decode_frames(dreams.latents[alive])
        seen[alive] = look(frames).sum((1, 2))
        pixels.append(seen)
        _, done = dreams.step(choose(dreams), random)
        steps += alive
        alive &= ~done
    frame_skip = dreams.world_model.mdn_rnn.frame_skip
    ends = Ends(steps * frame_skip, ~alive)
    return Watched(np.stack(pixels, 1), ends, frame_skip)


@torch.inference_mode()
def ends_foreseen(world_model: WorldModel, episodes: Sequence[Episode]) -> float:
    """Which share of the game's ends M calls, along the real episodes.

    An end is called where M's logit of it is above 0 in the last step, as it ends dreams.

    Args:
        world_model: V and M.
        episodes: With a frame a step of M.

    Returns:
        0 to 1; NaN if the game ended none of them.
    """
    ended = [episode for episode in episodes if episode.terminated]
    called = [_last_logit(world_model, episode) > 0 for episode in ended]
    return float(np.mean(called)) if called else float("nan")


def _last_logit(world_model: WorldModel, episode: Episode) -> Tensor:
    assert episode.frames is not None, "nothing to look at"
    vae, mdn_rnn = world_model.vae, world_model.mdn_rnn
    skip, total = mdn_rnn.frame_skip, len(episode.rewards)
    # The last step of M begins where the last control was chosen.
    starts = np.arange(0, total, skip)
    means, _ = vae.encode_frames(episode.frames)
    counts = np.minimum(starts + skip, total) - starts
    controls = np.add.reduceat(episode.actions, starts, axis=0) / counts[:, None]
    actions = torch.from_numpy(controls.astype(np.float32))
    prediction, _ = mdn_rnn(means[None], actions[None], mdn_rnn.initial_state(1))
    return prediction.done[0, -1]
