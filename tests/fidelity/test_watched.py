"""Games and dreams as they are looked at."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from wm_pipeline.environments.dream import Dreams
from wm_pipeline.episodes.episode import Episode
from wm_pipeline.fidelity.watched import (
    Ends,
    Watched,
    ends_foreseen,
    look_for,
    watch_dreams,
    watch_episodes,
)
from wm_pipeline.models.salience import ColourOptions, SurpriseOptions
from wm_pipeline.models.world_model import WorldModel

RED = ColourOptions(kind="colour", channel=0, threshold=0.65)


def episode(
    red: list[int], terminated: bool = True, steps: int | None = None
) -> Episode:
    """Frames with so many red pixels, of an episode of so many steps."""
    frames = np.zeros((len(red), 64, 64, 3), np.uint8)
    for frame, count in zip(frames, red, strict=True):
        frame.reshape(-1, 3)[:count, 0] = 255
    steps = len(red) if steps is None else steps
    return Episode(
        1, frames, np.zeros((steps, 1), np.float32), np.ones(steps), terminated
    )


def test_all_frames_that_were_kept_are_looked_at() -> None:
    episodes = [episode([1, 3, 5], steps=5), episode([9], terminated=False, steps=2)]
    found = watch_episodes(episodes, look_for(RED, episodes), 2)
    np.testing.assert_array_equal(found.pixels, [[1, 3, 5], [9, np.nan, np.nan]])
    assert found.ends.steps.tolist() == [5, 2]
    assert found.ends.terminated.tolist() == [True, False]


def test_episodes_are_drawn_with_their_ends_and_the_unseen_by_themselves() -> None:
    """Each drawn one keeps its own pixels and end; as many of both kinds are left."""
    numbers = np.arange(30)
    unseen = Ends(100 + numbers, numbers % 3 == 0)
    seen = Watched(numbers[:, None] * 1.0, Ends(numbers, numbers % 2 == 0), 4, unseen)
    drawn = seen.resampled(np.random.default_rng(1))
    assert drawn.pixels[:, 0].tolist() == drawn.ends.steps.tolist()
    assert (drawn.ends.terminated == (drawn.ends.steps % 2 == 0)).all()
    assert (drawn.unseen.terminated == (drawn.unseen.steps % 3 == 1)).all()
    assert (len(drawn.ends.steps), len(drawn.unseen.steps)) == (30, 30)
    assert len(set(drawn.ends.steps)) < 30
    assert drawn.ends.steps.tolist() != (drawn.unseen.steps - 100).tolist()
    assert drawn.all_ends.steps.tolist() == [*drawn.ends.steps, *drawn.unseen.steps]


def test_without_a_colour_what_is_unusual_is_looked_for() -> None:
    usual = [episode([0] * 50)]
    look = look_for(SurpriseOptions(), usual)
    assert look(episode([7]).frames).sum() == 7  # type: ignore[arg-type]
    assert look(episode([0]).frames).sum() == 0  # type: ignore[arg-type]


def test_what_is_usual_is_learned_from_later_frames_too() -> None:
    # The first frame is unlike the rest.
    look = look_for(SurpriseOptions(), [episode([0] + [7] * 49)] * 2)
    assert look(episode([7]).frames).sum() == 0  # type: ignore[arg-type]
    assert look(episode([0]).frames).sum() == 7  # type: ignore[arg-type]


@pytest.fixture
def dreams(mortal: WorldModel) -> Dreams:
    return Dreams(mortal, 40, 1.0)


def test_dreams_are_looked_at_until_they_end(dreams: Dreams) -> None:
    def everything(frames: np.ndarray) -> np.ndarray:
        return np.ones(frames.shape[:3], bool)

    found = watch_dreams(
        dreams, lambda _: np.zeros((40, 1), np.float32), 30, everything, 3
    )
    assert found.every == 2
    ends = found.ends
    ended = ends.steps[ends.terminated]
    assert 0 < len(ended) < 40
    # Some end with the last step; the others at the cap.
    assert (ends.steps[~ends.terminated] == 60).all()
    counts = (~np.isnan(found.pixels)).sum(1)
    assert (2 * counts == ends.steps).all()
    assert np.nanmax(found.pixels) == np.nanmin(found.pixels) == 64 * 64


def test_dreams_of_a_seed_are_the_same_again(dreams: Dreams) -> None:
    def bright(frames: np.ndarray) -> np.ndarray:
        return frames[..., 0] > 127

    choose = lambda _: np.ones((40, 1), np.float32)  # noqa: E731
    first, again, other = (
        watch_dreams(dreams, choose, 20, bright, seed) for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(first.pixels, again.pixels)
    assert not np.array_equal(first.ends.steps, other.ends.steps)


@pytest.mark.parametrize(("bias", "share"), [(50.0, 1.0), (-50.0, 0.0)])
def test_ends_are_foreseen_where_m_calls_them(
    world_model: WorldModel, bias: float, share: float
) -> None:
    with torch.no_grad():
        world_model.mdn_rnn.head.bias[-1] = bias
    episodes = [
        episode([3] * 4, steps=7),
        episode([3] * 3, steps=6),
        episode([0] * 3, terminated=False, steps=5),
    ]
    assert ends_foreseen(world_model, episodes) == share


@pytest.mark.parametrize(
    ("controls", "share"), [([-1, -1, -1, -1, 1], 1.0), ([1, 1, 1, 1, -1], 0.0)]
)
def test_the_last_step_says_whether_m_calls_an_end(
    world_model: WorldModel, controls: list[int], share: float
) -> None:
    mdn_rnn = world_model.mdn_rnn
    with torch.no_grad():
        for weights in mdn_rnn.lstm.parameters():
            weights.zero_()
        # M forgets every step, and says that one ends whose control is positive.
        biases, read = mdn_rnn.lstm.bias_ih_l0, mdn_rnn.lstm.weight_ih_l0
        biases.copy_(torch.tensor([50.0, -50.0, 0.0, 50.0]).repeat_interleave(8))
        read[16:24, -1] = 1
        mdn_rnn.head.weight[-1] = 1
        mdn_rnn.head.bias[-1] = 0
    actions = np.array(controls, np.float32)[:, None]
    ended = replace(episode([0] * 3, steps=5), actions=actions)
    assert ends_foreseen(world_model, [ended]) == share


def test_where_nothing_ended_nothing_is_foreseen(world_model: WorldModel) -> None:
    assert np.isnan(ends_foreseen(world_model, [episode([0] * 5, terminated=False)]))
