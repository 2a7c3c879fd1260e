"""Tests of the vision stage's nodes."""

import numpy as np

from wm_pipeline.models.vae_training import SalienceOptions
from wm_pipeline.pipelines.vision.nodes import salient_examples

RED = SalienceOptions(channel=0, threshold=0.5, weight=2.0)


def frames_with(sizes: list[int]) -> np.ndarray:
    """Frames with so many red pixels; green and blue are bright everywhere."""
    frames = np.full((len(sizes), 64, 64, 3), 255, np.uint8)
    frames[..., 0] = 100
    for frame, size in zip(frames, sizes, strict=True):
        frame.reshape(-1, 3)[:size, 0] = 200
    return frames


def test_examples_go_from_few_salient_pixels_to_many() -> None:
    sizes = [0, 1, 9, 500, 0, 9, 500, 1, 0, 500, 9, 1]
    chosen = salient_examples(frames_with(sizes), RED, 3)
    # log(1 + size) half way between 1 and 500 is that of 31: 9 is nearest.
    assert [sizes[number] for number in chosen] == [1, 9, 500]
    assert chosen.tolist() == [1, 5, 9]


def test_none_is_shown_twice_where_nothing_is_salient() -> None:
    chosen = salient_examples(frames_with([0] * 9), RED, 4)
    assert len(set(chosen.tolist())) == 4


def test_few_frames_take_turns() -> None:
    chosen = salient_examples(frames_with([3, 50]), RED, 5)
    assert chosen.tolist() == [0, 1, 0, 1, 0]
