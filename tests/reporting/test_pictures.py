"""Tests of pictures of frames."""

import io

import numpy as np
import pytest
from PIL import Image

from wm_pipeline.reporting.pictures import GAP, enlarge, gif, pairs_of_rows, strips


@pytest.mark.parametrize("leading", [(), (5,), (2, 3)])
def test_every_pixel_becomes_a_square(leading: tuple[int, ...]):
    frames = np.random.default_rng(1).integers(0, 256, (*leading, 4, 6, 3), np.uint8)
    enlarged = enlarge(frames, 3)
    assert enlarged.shape == (*leading, 12, 18, 3)
    for row in range(3):
        for column in range(3):
            np.testing.assert_array_equal(enlarged[..., row::3, column::3, :], frames)


def test_each_row_has_its_counterpart_right_below():
    top = np.arange(1, 8, dtype=np.uint8)[:, None, None, None] + np.zeros(
        (2, 4, 3), np.uint8
    )
    picture = pairs_of_rows(top, top + 100, columns=3)
    assert picture.dtype == np.uint8
    assert picture.shape == (2 * 2 * 2 + GAP, 3 * 4 + 2 * GAP, 3)
    # One pixel of each frame; the seventh frame fills no row.
    rows = [0, 2, 4 + GAP, 6 + GAP]
    assert picture[rows, :: 4 + GAP, 0].tolist() == [
        [1, 2, 3],
        [101, 102, 103],
        [4, 5, 6],
        [104, 105, 106],
    ]


def test_frames_are_not_mixed_up_and_white_is_between_the_pairs():
    frames = np.random.default_rng(1).integers(0, 255, (4, 2, 5, 3), np.uint8)
    picture = pairs_of_rows(frames[:2], frames[2:], columns=1)
    below = 2 * 2 + GAP
    np.testing.assert_array_equal(picture[:2], frames[0])
    np.testing.assert_array_equal(picture[2:4], frames[2])
    np.testing.assert_array_equal(picture[below : below + 2], frames[1])
    np.testing.assert_array_equal(picture[below + 2 :], frames[3])
    assert (picture[4:below] == 255).all()
    beside = pairs_of_rows(frames[:2], frames[2:], columns=2)
    np.testing.assert_array_equal(beside[:, 5 + GAP :], np.concatenate(frames[1::2]))
    assert (beside[:, 5 : 5 + GAP] == 255).all()


def test_strips_lie_below_each_other_with_a_line_between_frames():
    frames = np.random.default_rng(1).integers(0, 200, (6, 2, 3, 3), np.uint8)
    picture = strips(frames[:3], frames[3:])
    assert (picture.shape, picture.dtype) == ((5, 11, 3), np.uint8)
    for number, frame in enumerate(frames):
        top, left = 3 * (number // 3), 4 * (number % 3)
        np.testing.assert_array_equal(picture[top : top + 2, left : left + 3], frame)
    assert (picture[2] == 255).all()
    assert (picture[:, [3, 7]] == 255).all()


def test_a_gif_has_the_frames_and_their_pace_and_repeats():
    frames = np.zeros((3, 4, 6, 3), np.uint8)
    frames[:] = np.array([0, 100, 255], np.uint8)[:, None, None, None]
    with Image.open(io.BytesIO(gif(frames, 5))) as image:
        assert (image.format, image.n_frames, image.info["loop"]) == ("GIF", 3, 0)
        for number, frame in enumerate(frames):
            image.seek(number)
            assert image.info["duration"] == 200
            np.testing.assert_array_equal(np.asarray(image.convert("RGB")), frame)
