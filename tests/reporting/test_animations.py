"""Tests of animations: what is where on a frame."""

import numpy as np
import pytest

from wm_pipeline.reporting.animations import LINE, MARGIN, PAUSE, animation
from wm_pipeline.reporting.films import Film

MARK = (0xE8, 0x96, 0x3C)


def film(
    controls: list[list[float]], returns: list[float] | None = None, end: bool = True
) -> Film:
    """Two views of noise."""
    time = len(controls)
    views = np.random.default_rng(1).integers(0, 200, (2, time, 64, 64, 3), np.uint8)
    return Film(
        {"game": views[0], "seen": views[1]},
        np.array(controls, np.float32),
        np.arange(time) * 100.0 if returns is None else np.array(returns),
        np.arange(time) * 4,
        end,
    )


def line(frames: np.ndarray, number: int) -> np.ndarray:
    """The rows of a line of text: 0 above the views, 1 and 2 below."""
    top = 0 if number == 0 else frames.shape[1] - (3 - number) * LINE
    return frames[:, top : top + LINE]


def marked(frame: np.ndarray) -> np.ndarray:
    """The columns in which the bars are bright."""
    return np.flatnonzero((frame == MARK).all(-1).any(0))


def test_each_view_is_in_its_place_enlarged():
    shown = film([[0.0], [1.0]])
    frames = animation(shown, {"seen": "V", "game": "the game"}, 2)
    assert frames.dtype == np.uint8
    assert frames.shape == (2 + PAUSE, 128 + 3 * LINE, 2 * 128 + 3 * MARGIN, 3)
    for number, name in enumerate(("seen", "game")):
        left = MARGIN + number * (128 + MARGIN)
        view = frames[:2, LINE : LINE + 128, left : left + 128]
        for row in range(2):
            for column in range(2):
                np.testing.assert_array_equal(
                    view[:, row::2, column::2], shown.views[name]
                )


def test_captions_stand_above_their_views():
    shown = film([[0.0]])
    alone = line(animation(shown, {"game": "here", "seen": ""}, 2), 0)
    other = line(animation(shown, {"game": "", "seen": "here"}, 2), 0)
    shift = 128 + MARGIN
    np.testing.assert_array_equal(alone[:, :, :shift], other[:, :, shift : 2 * shift])
    assert (alone[:, :, :shift] > 200).any()
    assert not (alone[:, :, shift:] > 200).any()


def test_step_and_return_are_written_below():
    frames = animation(film([[0.0]] * 3), {"game": ""}, 2)
    texts = line(frames, 1)
    assert (texts > 200).any(axis=(1, 2, 3)).all()
    assert (texts[0] != texts[1]).any()
    same = animation(film([[1.0]] * 3), {"game": ""}, 2)
    np.testing.assert_array_equal(line(same, 1), texts)
    richer = animation(film([[0.0]] * 3, [0.0, 150.0, 200.0]), {"game": ""}, 2)
    assert (line(richer, 1)[1] != texts[1]).any()
    np.testing.assert_array_equal(line(richer, 1)[2:], texts[2:])


def test_small_returns_are_told_apart():
    texts = line(animation(film([[0.0]] * 3, [0.11, 0.12, 0.5]), {"game": ""}, 2), 1)
    again = line(animation(film([[0.0]] * 3, [0.11, 0.11, 0.5]), {"game": ""}, 2), 1)
    assert (texts[1] != again[1]).any()


def test_the_end_stands_still_and_says_why():
    ended, capped = (
        animation(film([[0.0]] * 3, end=end), {"game": "", "seen": ""}, 2)
        for end in (True, False)
    )
    assert len(ended) == 3 + PAUSE
    assert (ended[2:] == ended[2]).all()
    assert (ended[2] != capped[2]).any()
    np.testing.assert_array_equal(ended[:2], capped[:2])


def test_of_a_film_that_was_cut_nothing_is_said():
    def last(end: bool, whole: bool) -> np.ndarray:
        shown = film([[0.0]], end=end)
        return animation(shown, {"game": "", "seen": ""}, 2, whole)[-1]

    cut, capped = last(False, whole=False), last(False, whole=True)
    words = (line(cut[None], 1) != line(capped[None], 1)).any((0, 1, 3))
    assert not (line(cut[None], 1)[:, :, words.argmax() :] > 200).any()
    np.testing.assert_array_equal(last(True, whole=False), last(True, whole=True))


def test_the_action_is_a_bar_to_its_side():
    frames = animation(film([[-1.0], [0.0], [1.0], [0.5]]), {"game": "", "seen": ""}, 2)
    left, none, right, half = (marked(frame) for frame in line(frames, 2)[:4])
    middle = (left.min() + right.max()) / 2
    assert left.max() < middle + 1
    assert right.min() > middle - 1
    assert len(left) == pytest.approx(len(right), abs=2)
    assert len(left) > 50
    assert len(none) == 0
    assert half.min() == right.min()
    assert len(half) == pytest.approx(len(right) / 2, abs=2)


def test_each_number_of_a_control_has_a_bar():
    controls = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, -1.0], [1.0, 1.0, -1.0]]
    bars = line(animation(film(controls), {"game": "", "seen": ""}, 2), 2)
    first, second, third, all_three = (marked(bar) for bar in bars[:4])
    assert first.max() < second.min()
    assert second.max() < third.min()
    assert sorted([*first, *second, *third]) == all_three.tolist()


@pytest.mark.parametrize("count", [37, 1000])
def test_a_control_of_many_numbers_is_drawn_within_its_line(count: int):
    frames = animation(film([[-1.0] * count, [1.0] * count]), {"game": ""}, 4)
    none = animation(film([[0.0] * count] * 2), {"game": ""}, 4)
    np.testing.assert_array_equal(frames[:, :-LINE], none[:, :-LINE])
    bars = line(frames, 2)
    assert (bars[:, :, -MARGIN + 2 :] == bars[0, 0, 0]).all()
    if count < 100:  # more are narrower than a pixel
        first, second = (marked(bar).mean() for bar in bars[:2])
        assert first < second
