"""Tests of frames dealt out as shuffled batches."""

import threading
import time
from collections import Counter
from collections.abc import Generator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wm_pipeline.episodes.frames import sample_frames, shuffled_frames
from wm_pipeline.episodes.shards import EpisodeShards, Shard, Steps

LENGTHS = [7, 12, 3, 9, 20, 1, 5, 8]

Frame = tuple[int, int]


def labelled(episode: int, length: int) -> np.ndarray:
    """Frames whose first pixel says which they are."""
    frames = np.zeros((length, 64, 64, 3), np.uint8)
    frames[:, 0, 0, 0] = episode
    frames[:, 0, 0, 1] = np.arange(length)
    return frames


def labels(frames: np.ndarray) -> list[Frame]:
    return [(int(first[0]), int(first[1])) for first in frames[:, 0, 0]]


def of_episodes(chosen: list[int]) -> list[Frame]:
    return sorted((e, step) for e in chosen for step in range(LENGTHS[e]))


@pytest.fixture(scope="module")
def episodes(tmp_path_factory: pytest.TempPathFactory) -> EpisodeShards:
    folder = tmp_path_factory.mktemp("frames") / "episodes"
    for index in (0, 1):
        numbers = range(4 * index, 4 * index + 4)
        Shard(index, 2, [{"frame": labelled(n, LENGTHS[n])} for n in numbers]).save(
            folder
        )
    return EpisodeShards(folder)


class Breaking(EpisodeShards):
    """Episodes of which only the first few can be read."""

    def __init__(self, folder: Path, readable: int) -> None:
        super().__init__(folder)
        self.readable = readable
        self.broken = threading.Event()

    def read(self, episode: int, columns: list[str] | None = None) -> Steps:
        if self.readable == 0:
            self.broken.set()
            raise ValueError("the disk is gone")
        self.readable -= 1
        return super().read(episode, columns)


def deal(
    episodes: EpisodeShards,
    batch_size: int = 4,
    pool_frames: int = 16,
    seed: int = 1,
    chosen: list[int] | None = None,
) -> Generator[np.ndarray]:
    which = np.arange(len(LENGTHS)) if chosen is None else np.array(chosen)
    random = np.random.default_rng(seed)
    return shuffled_frames(episodes, which, batch_size, pool_frames, random)


def take(batches: Generator[np.ndarray], frames: int) -> list[Frame]:
    """The labels of the next batches that hold ``frames`` frames, then close."""
    taken: list[Frame] = []
    while len(taken) < frames:
        taken += labels(next(batches))
    batches.close()
    return taken


def readers() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name == "frame pools"]


@settings(
    deadline=None,
    max_examples=30,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    batch_size=st.integers(1, 30),
    pool_frames=st.integers(1, 80),
    chosen=st.sets(st.integers(0, 7), min_size=1).map(sorted),
)
def test_every_frame_comes_once_an_epoch(
    episodes: EpisodeShards, batch_size: int, pool_frames: int, chosen: list[int]
):
    expected = of_episodes(chosen)
    size = len(expected)
    dealt = take(deal(episodes, batch_size, pool_frames, 1, chosen), 3 * size)
    for epoch in range(3):
        assert sorted(dealt[epoch * size : (epoch + 1) * size]) == expected


def test_all_batches_are_full(episodes: EpisodeShards):
    batches = deal(episodes, 11)
    for _ in range(20):
        batch = next(batches)
        assert (batch.shape, batch.dtype) == ((11, 64, 64, 3), np.uint8)
    batches.close()


def test_frames_come_whole(episodes: EpisodeShards):
    batches = deal(episodes)
    batch = next(batches)
    batches.close()
    for frame, (episode, step) in zip(batch, labels(batch), strict=True):
        np.testing.assert_array_equal(frame, labelled(episode, step + 1)[step])


def test_the_seed_decides_the_order(episodes: EpisodeShards):
    first, again, other = (take(deal(episodes, seed=s), 130) for s in (1, 1, 2))
    assert first == again
    assert first != other


@pytest.mark.parametrize("skipped", [1, 3, 4, 16, 17, 50])
def test_what_is_skipped_is_left_out_and_nothing_else(
    episodes: EpisodeShards, skipped: int
):
    random = np.random.default_rng(1)
    rest = shuffled_frames(episodes, np.arange(8), 4, 16, random, skipped)
    assert take(rest, 100) == take(deal(episodes), 4 * skipped + 100)[4 * skipped :]


def test_what_is_skipped_is_not_read(
    episodes: EpisodeShards, monkeypatch: pytest.MonkeyPatch
):
    read: list[int] = []
    original = EpisodeShards.read

    def counted(self: EpisodeShards, episode: int, columns: list[str]) -> Steps:
        read.append(LENGTHS[episode])
        return original(self, episode, columns)

    monkeypatch.setattr(EpisodeShards, "read", counted)
    random = np.random.default_rng(1)
    rest = shuffled_frames(episodes, np.arange(8), 5, 16, random, 13 * 100)
    next(rest)  # a hundred epochs later
    rest.close()
    assert sum(read) <= 4 * max(*LENGTHS, 16)


def test_epochs_differ_in_order(episodes: EpisodeShards):
    dealt = take(deal(episodes, batch_size=5), 2 * 65)
    assert dealt[:65] != dealt[65:130]


def test_episodes_come_in_another_order_each_epoch(episodes: EpisodeShards):
    dealt = take(deal(episodes, batch_size=5, pool_frames=1), 3 * 65)
    orders = [list(dict.fromkeys(e for e, _ in dealt[n : n + 65])) for n in (0, 65)]
    assert orders[0] != orders[1] != list(range(8))


def test_the_frames_of_a_pool_are_mixed(episodes: EpisodeShards):
    dealt = take(deal(episodes, pool_frames=1000, batch_size=65), 65)
    changes = sum(a[0] != b[0] for a, b in pairwise(dealt))
    assert changes > 30  # in order of the episodes there would be 7


def test_no_more_than_three_pools_are_in_memory(
    episodes: EpisodeShards, monkeypatch: pytest.MonkeyPatch
):
    read: list[int] = []
    original = EpisodeShards.read

    def counted(self: EpisodeShards, episode: int, columns: list[str]) -> Steps:
        read.append(LENGTHS[episode])
        return original(self, episode, columns)

    monkeypatch.setattr(EpisodeShards, "read", counted)
    batches = deal(episodes, batch_size=2, pool_frames=20)
    dealt = len(next(batches))
    time.sleep(0.3)  # time enough to read the whole set many times over
    for _ in range(60):
        assert sum(read) - dealt <= 3 * 20
        dealt += len(next(batches))
    batches.close()


def test_closing_ends_the_reading_thread(episodes: EpisodeShards):
    batches = deal(episodes)
    next(batches)
    assert readers()
    batches.close()
    assert not readers()


def test_an_error_in_the_reading_thread_reaches_the_consumer(episodes: EpisodeShards):
    batches = deal(Breaking(episodes.folder, readable=5), pool_frames=1)
    with pytest.raises(ValueError, match="the disk is gone"):
        take(batches, 1000)
    assert not readers()


def test_closing_ends_a_reading_thread_whose_error_nobody_met(
    episodes: EpisodeShards,
):
    breaking = Breaking(episodes.folder, readable=2)
    batches = deal(breaking, batch_size=1, pool_frames=1)
    next(batches)  # one pool is with us, one waits, and the third cannot be read
    assert breaking.broken.wait(timeout=60)
    closing = threading.Thread(target=batches.close, daemon=True)
    closing.start()
    closing.join(timeout=60)
    assert not closing.is_alive()


def test_samples_are_different_frames_of_the_chosen_episodes(episodes: EpisodeShards):
    chosen = np.array([1, 4, 7])
    sampled = labels(sample_frames(episodes, chosen, 25, np.random.default_rng(1)))
    assert len(set(sampled)) == 25
    assert set(sampled) < set(of_episodes([1, 4, 7]))
    again = labels(sample_frames(episodes, chosen, 25, np.random.default_rng(1)))
    other = labels(sample_frames(episodes, chosen, 25, np.random.default_rng(2)))
    assert sampled == again
    assert sampled != other


def test_when_there_are_not_as_many_all_are_sampled(episodes: EpisodeShards):
    sampled = sample_frames(episodes, np.array([5, 0]), 99, np.random.default_rng(1))
    assert sorted(labels(sampled)) == of_episodes([0, 5])


def test_samples_spread_over_episodes_by_their_lengths(episodes: EpisodeShards):
    random = np.random.default_rng(1)
    chosen = np.array([1, 4])
    counts = Counter(
        episode
        for _ in range(300)
        for episode, _ in labels(sample_frames(episodes, chosen, 8, random))
    )
    # 12 and 20 frames: 3/8 and 5/8 of 2400, within five standard deviations.
    assert counts[1] == pytest.approx(900, abs=120)
