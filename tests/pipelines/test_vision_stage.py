"""Tests of the vision stage's nodes."""

import numpy as np

from wm_pipeline.pipelines.vision.nodes import examples


def with_things(sizes: list[int]) -> np.ndarray:
    """Which pixels of frames are of things: so many."""
    things = np.zeros((len(sizes), 64, 64), bool)
    for frame, size in zip(things, sizes, strict=True):
        frame.reshape(-1)[:size] = True
    return things


def test_examples_go_from_few_pixels_to_many() -> None:
    sizes = [0, 1, 9, 500, 0, 9, 500, 1, 0, 500, 9, 1]
    chosen = examples(with_things(sizes), 3)
    # log(1 + size) half way between 1 and 500 is that of 31: 9 is nearest.
    assert [sizes[number] for number in chosen] == [1, 9, 500]
    assert chosen.tolist() == [1, 5, 9]


def test_none_is_shown_twice_where_there_is_nothing() -> None:
    chosen = examples(with_things([0] * 9), 4)
    assert len(set(chosen.tolist())) == 4


def test_few_frames_take_turns() -> None:
    chosen = examples(with_things([3, 50]), 5)
    assert chosen.tolist() == [0, 1, 0, 1, 0]
