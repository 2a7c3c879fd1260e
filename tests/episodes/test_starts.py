"""Tests of the moments of games in which dreams begin, and of sets that are joined."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.episodes.test_sequences import latents as encoded_episode
from tests.episodes.test_sequences import write
from wm_pipeline.common.randomness import seeded_initialisation
from wm_pipeline.episodes import starts
from wm_pipeline.episodes.joined import JoinedEpisodes
from wm_pipeline.episodes.sequences import to_sequence
from wm_pipeline.episodes.starts import TOO_LATE, moments_of
from wm_pipeline.models.mdn_rnn import MDNRNN, MDNRNNOptions

# Of even number are those that end; the others the cap cut off.
LENGTHS = [11, 4, 1, 9, 6]
SKIP = 2


@pytest.fixture
def m() -> MDNRNN:
    with seeded_initialisation(1, "moments"):
        return MDNRNN(
            MDNRNNOptions(hidden_size=5, mixtures=2, frame_skip=SKIP), 3, 1, ""
        )


def test_moments_are_what_m_makes_of_all_that_came_before(
    m: MDNRNN, tmp_path: Path
) -> None:
    episodes = [encoded_episode(length, n) for n, length in enumerate(LENGTHS)]
    for steps in episodes:  # no noise: then z is its mean
        steps["log_variance"] = np.full_like(steps["log_variance"], -60)
    stored = write(tmp_path / "latents", episodes)
    found = moments_of(m, stored, np.random.default_rng(1))
    expected = []
    for steps in episodes:
        sequence = to_sequence(steps, 0, SKIP)
        state = m.initial_state(1)
        kept = len(sequence.rewards) - TOO_LATE * bool(sequence.done.any())
        for step in range(max(1, kept)):
            z = torch.from_numpy(sequence.means[step : step + 1])
            expected.append(torch.cat((z, *state), 1))
            control = torch.from_numpy(sequence.actions[step : step + 1])
            with torch.no_grad():
                state = m.remember(z, control, state)
    wanted = torch.cat(expected)
    got = torch.cat(found, 1)
    assert got.shape == wanted.shape
    rows = [{tuple(np.round(row, 4)) for row in t.numpy()} for t in (got, wanted)]
    assert rows[0] == rows[1]


def test_how_many_episodes_are_read_together_changes_no_state_of_m(
    m: MDNRNN, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    episodes = [encoded_episode(length, n) for n, length in enumerate(LENGTHS)]
    for steps in episodes:
        steps["log_variance"] = np.full_like(steps["log_variance"], -60)
    stored = write(tmp_path / "latents", episodes)
    together = moments_of(m, stored, np.random.default_rng(1))
    monkeypatch.setattr(starts, "SIDE_BY_SIDE", 1)
    alone = moments_of(m, stored, np.random.default_rng(1))
    for found, expected in zip(together, alone, strict=True):
        assert found.shape == expected.shape
        torch.testing.assert_close(found.sum(0), expected.sum(0), atol=1e-3, rtol=0)


def test_of_many_episodes_some_are_drawn(
    m: MDNRNN, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    episodes = [encoded_episode(12, 1) for _ in range(20)]  # six moments each
    stored = write(tmp_path / "latents", episodes)
    monkeypatch.setattr(starts, "MOST_MOMENTS", 40)
    assert len(moments_of(m, stored, np.random.default_rng(1)).latents) == 36
    monkeypatch.setattr(starts, "MOST_MOMENTS", 1)
    assert len(moments_of(m, stored, np.random.default_rng(1)).latents) == 6


def test_an_episode_that_is_over_at_once_has_a_first_moment(
    m: MDNRNN, tmp_path: Path
) -> None:
    stored = write(tmp_path / "latents", [encoded_episode(3, 0), encoded_episode(2, 2)])
    found = moments_of(m, stored, np.random.default_rng(1))
    assert len(found.latents) == 2
    assert not found.h.any()


def test_joined_sets_are_read_as_one(tmp_path: Path) -> None:
    sets = [
        write(tmp_path / "a", [encoded_episode(5, 0), encoded_episode(7, 1)]),
        write(tmp_path / "b", [encoded_episode(3, 2)]),
    ]
    joined = JoinedEpisodes(sets)
    assert len(joined) == 3
    assert joined.lengths.tolist() == [5, 7, 3]
    for number, (source, place) in enumerate(
        [(sets[0], 0), (sets[0], 1), (sets[1], 0)]
    ):
        for name, values in source.read(place).items():
            np.testing.assert_array_equal(joined.read(number)[name], values)
    assert list(joined.read(2, ["reward"])) == ["reward"]
