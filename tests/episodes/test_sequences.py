"""Tests of latents cut into M's sequences and windows."""

from collections import Counter
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wm_pipeline.common.errors import InputError
from wm_pipeline.episodes import sequences
from wm_pipeline.episodes.sequences import (
    latent_statistics,
    longest_episode,
    reward_range,
    side_by_side,
    to_sequence,
    training_windows,
    validation_windows,
)
from wm_pipeline.episodes.shards import EpisodeShards, Shard, Steps
from wm_pipeline.models.mdn_rnn_training import Window

LENGTHS = [11, 4, 1, 8, 6]
LATENT = 3


def latents(length: int, number: int = 0) -> Steps:
    """An encoded episode; its first mean is its number, its second the step."""
    random = np.random.default_rng(number)
    means = random.normal(size=(length, LATENT))
    means[:, 0], means[:, 1] = number, np.arange(length)
    ended = np.zeros(length, bool)
    ended[-1] = number % 2 == 0
    return {
        "mean": means.astype(np.float16),
        "log_variance": random.normal(size=(length, LATENT)).astype(np.float16),
        "action": random.integers(-1, 2, (length, 1)).astype(np.float32),
        "reward": random.integers(-3, 4, length).astype(np.float32),
        "terminated": ended,
    }


def write(folder: Path, episodes: list[Steps]) -> EpisodeShards:
    Shard(0, 1, episodes).save(folder)
    return EpisodeShards(folder)


@pytest.fixture
def stored(tmp_path: Path) -> EpisodeShards:
    episodes = [latents(length, number) for number, length in enumerate(LENGTHS)]
    return write(tmp_path / "latents", episodes)


def test_a_sequence_takes_every_few_steps_and_pools_what_lies_between():
    steps = {
        "mean": np.arange(7, dtype=np.float16)[:, None],
        "log_variance": -np.arange(7, dtype=np.float16)[:, None],
        "action": np.array([[1], [0], [-1], [-1], [1], [0], [1]], np.float32),
        "reward": np.array([1, 2, 3, 4, 5, 6, 7], np.float32),
        "terminated": np.array([False] * 6 + [True]),
    }
    cut = to_sequence(steps, phase=1, frame_skip=3)
    assert cut.means.tolist() == [[1], [4]]
    assert cut.log_variances.tolist() == [[-1], [-4]]
    np.testing.assert_allclose(cut.actions, [[-2 / 3], [2 / 3]], rtol=1e-6)
    assert cut.rewards.tolist() == [2 + 3 + 4, 5 + 6 + 7]
    assert cut.done.tolist() == [False, True]
    # A last step that is cut short is the mean of what there is.
    short = to_sequence(steps, phase=0, frame_skip=5)
    np.testing.assert_allclose(short.actions, [[0], [0.5]], atol=1e-7)
    assert short.rewards.tolist() == [15, 13]
    assert short.done.tolist() == [False, True]


@given(
    length=st.integers(1, 60),
    number=st.integers(0, 100),
    frame_skip=st.integers(1, 6),
    phase=st.integers(0, 5),
)
def test_a_sequence_keeps_sums_means_and_the_end(
    length: int, number: int, frame_skip: int, phase: int
):
    phase = min(phase, frame_skip - 1, length - 1)
    steps = latents(length, number)
    cut = to_sequence(steps, phase, frame_skip)
    assert len(cut.rewards) == -(-(length - phase) // frame_skip)
    assert cut.rewards.sum() == steps["reward"][phase:].sum()
    for step, start in enumerate(range(phase, length, frame_skip)):
        window = slice(start, start + frame_skip)
        np.testing.assert_array_equal(cut.means[step], steps["mean"][start])
        np.testing.assert_allclose(
            cut.actions[step], steps["action"][window].mean(0), atol=1e-6
        )
    assert cut.done.tolist() == [False] * (len(cut.done) - 1) + [number % 2 == 0]
    assert cut.means.dtype == cut.actions.dtype == cut.rewards.dtype == np.float32


def pieces(windows: Sequence[Window]) -> list[dict[str, np.ndarray]]:
    """Each row's windows joined into sequences, cut where they are fresh."""
    whole = []
    for row in range(len(windows[0].fresh)):
        for window in windows:
            count = int(window.valid[row].sum())
            piece = {
                "means": window.means[row, :count],
                "log_variances": window.log_variances[row, :count],
                "actions": window.actions[row, :count],
                "rewards": window.rewards[row, :count],
                "done": window.done[row, :count],
                "has_next": window.has_next[row, :count],
            }
            if window.fresh[row]:
                whole.append(piece)
            else:
                whole[-1] = {
                    name: np.concatenate((values, piece[name]))
                    for name, values in whole[-1].items()
                }
    return whole


def training(
    stored: EpisodeShards, count: int, seed: int = 1, batch_size: int = 2
) -> list[Window]:
    windows = training_windows(
        stored,
        np.arange(len(LENGTHS)),
        frame_skip=2,
        batch_size=batch_size,
        length=3,
        random=np.random.default_rng(seed),
    )
    return list(islice(windows, count))


def test_training_windows_follow_whole_sequences(stored: EpisodeShards):
    joined = pieces(training(stored, 200))
    finished = [piece for piece in joined if not piece["has_next"][-1]]
    assert len(finished) >= len(joined) - 2  # the last of each row may be cut off
    for piece in finished:
        number, phase = int(piece["means"][0, 0]), int(piece["means"][0, 1])
        expected = to_sequence(stored.read(number), phase, 2)
        for name, values in vars(expected).items():
            np.testing.assert_array_equal(piece[name], values)
        assert piece["has_next"].tolist() == [True] * (len(values) - 1) + [False]


def test_training_takes_all_phases_once_an_epoch(stored: EpisodeShards):
    starts = Counter(
        (int(piece["means"][0, 0]), int(piece["means"][0, 1]))
        for piece in pieces(training(stored, 400, batch_size=1))
    )
    phases = {(n, p) for n, length in enumerate(LENGTHS) for p in range(min(2, length))}
    assert set(starts) == phases
    assert max(starts.values()) - min(starts.values()) <= 1


def test_only_the_chosen_episodes_are_dealt(stored: EpisodeShards):
    random = np.random.default_rng(1)
    windows = training_windows(stored, np.array([1, 3]), 2, 2, 3, random)
    joined = pieces(list(islice(windows, 50)))
    assert {int(piece["means"][0, 0]) for piece in joined} == {1, 3}


def test_a_windows_targets_are_one_step_ahead(stored: EpisodeShards):
    for window in training(stored, 50):
        assert window.means.shape == (2, 4, LATENT)
        for row, step in zip(*np.nonzero(window.has_next), strict=True):
            here, ahead = window.means[row, step : step + 2]
            assert ahead[0] == here[0]
            assert ahead[1] == here[1] + 2
            assert window.log_variances[row, step + 1].any()


def test_what_does_not_exist_is_zero_and_invalid(stored: EpisodeShards):
    for window in training(stored, 50):
        assert (window.has_next <= window.valid).all()
        assert (window.done <= window.valid).all()
        for name in ("means", "log_variances"):
            values = getattr(window, name)
            assert not values[:, :-1][~window.valid].any()
            assert not values[:, 1:][~window.has_next].any()
        assert not window.actions[~window.valid].any()
        assert not window.rewards[~window.valid].any()


def test_the_seed_decides_the_order(stored: EpisodeShards):
    def order(seed: int) -> list[float]:
        return [window.means.sum().item() for window in training(stored, 20, seed)]

    assert order(1) == order(1)
    assert order(1) != order(2)


@pytest.mark.parametrize("pool_steps", [9, 1_000_000])
def test_what_is_skipped_is_left_out_and_nothing_else(
    stored: EpisodeShards, monkeypatch: pytest.MonkeyPatch, pool_steps: int
):
    monkeypatch.setattr(sequences, "POOL_STEPS", pool_steps)
    for skipped in (1, 2, 7, 40):
        random = np.random.default_rng(1)
        windows = training_windows(
            stored, np.arange(len(LENGTHS)), 2, 2, 3, random, skipped
        )
        expected = training(stored, skipped + 30)[skipped:]
        for found, wanted in zip(windows, expected, strict=False):
            for name, values in vars(wanted).items():
                np.testing.assert_array_equal(getattr(found, name), values)


def test_what_is_skipped_is_not_read(
    stored: EpisodeShards, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sequences, "POOL_STEPS", 9)
    read: list[int] = []
    original = EpisodeShards.read

    def counted(self: EpisodeShards, episode: int, *columns: Any) -> Steps:
        read.append(episode)
        return original(self, episode, *columns)

    monkeypatch.setattr(EpisodeShards, "read", counted)
    random = np.random.default_rng(1)
    next(training_windows(stored, np.arange(len(LENGTHS)), 2, 2, 3, random, 500))
    assert len(read) <= len(LENGTHS)


def test_pools_hold_every_sequence_too(
    stored: EpisodeShards, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sequences, "POOL_STEPS", 9)
    joined = pieces(training(stored, 400, batch_size=1))
    first_epoch = Counter(int(piece["means"][0, 0]) for piece in joined[:9])
    assert first_epoch == {0: 2, 1: 2, 2: 1, 3: 2, 4: 2}


def test_validation_windows_are_whole_episodes_side_by_side(stored: EpisodeShards):
    windows = validation_windows(stored, np.array([0, 2, 3, 4]), 2, 2)
    assert [window.valid.sum(1).tolist() for window in windows] == [[1, 3], [4, 6]]
    joined = [piece for window in windows for piece in pieces([window])]
    assert [int(piece["means"][0, 0]) for piece in joined] == [2, 4, 3, 0]
    for piece in joined:
        expected = to_sequence(stored.read(int(piece["means"][0, 0])), 0, 2)
        for name, values in vars(expected).items():
            np.testing.assert_array_equal(piece[name], values)
        assert piece["has_next"].tolist() == [True] * (len(values) - 1) + [False]
    assert all(window.fresh.all() for window in windows)


def test_statistics_are_those_of_numpy(stored: EpisodeShards):
    chosen = np.array([0, 3, 4])
    found = latent_statistics(stored, chosen, 2)
    cut = [to_sequence(stored.read(int(episode)), 0, 2) for episode in chosen]
    means = np.concatenate([sequence.means for sequence in cut]).astype(float)
    changes = np.concatenate([np.diff(s.means.astype(float), axis=0) for s in cut])
    rewards = np.concatenate([sequence.rewards for sequence in cut])
    noise = np.exp(np.concatenate([s.log_variances for s in cut]).astype(float)).mean(0)
    np.testing.assert_allclose(found.trivial.mean, means.mean(0), rtol=1e-5)
    np.testing.assert_allclose(
        found.trivial.sigma, np.sqrt(means.var(0) + noise), rtol=1e-5
    )
    np.testing.assert_allclose(
        found.trivial.change_sigma,
        np.sqrt((changes**2).mean(0) + 2 * noise),
        rtol=1e-5,
    )
    assert found.reward_mean == pytest.approx(rewards.mean())
    assert found.reward_scale == pytest.approx(np.sqrt((rewards**2).mean()))


def test_the_reward_range_is_that_of_all_phases(stored: EpisodeShards) -> None:
    chosen = np.array([0, 3, 4])
    rewards = [
        to_sequence(stored.read(int(episode)), phase, 3).rewards
        for episode in chosen
        for phase in range(min(3, int(stored.lengths[episode])))
    ]
    every = np.concatenate(rewards)
    assert reward_range(stored, chosen, 3) == (every.min(), every.max())


def test_the_reward_scale_of_a_game_that_never_pays_is_one(tmp_path: Path):
    steps = latents(6) | {"reward": np.zeros(6, np.float32)}
    found = latent_statistics(write(tmp_path / "x", [steps]), np.array([0]), 2)
    assert (found.reward_mean, found.reward_scale) == (0, 1)


def test_steps_longer_than_every_episode_are_refused(stored: EpisodeShards):
    assert [longest_episode(stored, skip) for skip in (1, 4, 10)] == [11, 3, 2]
    with pytest.raises(
        InputError, match=r"frame_skip: expected less .*\(11\), found 11"
    ):
        longest_episode(stored, 11)


@pytest.mark.parametrize("frame_skip", [1, 4])
def test_episodes_of_one_step_are_refused(tmp_path: Path, frame_skip: int):
    stored = write(tmp_path / "latents", [latents(1), latents(1)])
    said = r"^collection: M needs episodes of two steps .* longest collected has 1$"
    with pytest.raises(InputError, match=said):
        longest_episode(stored, frame_skip)


def test_windows_of_two_sources_stand_side_by_side(stored: EpisodeShards) -> None:
    def windows(rows: int, seed: int) -> list[Window]:
        random = np.random.default_rng(seed)
        source = training_windows(stored, np.arange(5), 2, rows, 3, random)
        return list(islice(source, 4))

    together = side_by_side(iter(windows(2, 1)), iter(windows(3, 2)))
    for found, first, other in zip(together, windows(2, 1), windows(3, 2), strict=True):
        for name, values in vars(found).items():
            assert len(values) == 5
            np.testing.assert_array_equal(values[:2], vars(first)[name])
            np.testing.assert_array_equal(values[2:], vars(other)[name])


def test_of_some_phases_only_those_are_sequences(tmp_path: Path) -> None:
    stored = write(tmp_path / "latents", [latents(9, 4)])
    for phases, firsts in ((1, {0}), (2, {0, 1}), (None, {0, 1, 2})):
        random = np.random.default_rng(1)
        windows = training_windows(
            stored, np.arange(1), 3, 2, 50, random, phases=phases
        )
        found = {
            int(mean)
            for window in islice(windows, 10)
            for mean in window.means[window.fresh, 0, 1]
        }
        assert found == firsts
