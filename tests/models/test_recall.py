"""The sizes of things, and what is shown of them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from wm_pipeline.models.recall import recall_by_size, thing_sizes


def flooded(mask: np.ndarray) -> np.ndarray:
    """The same, one thing after the other."""
    sizes = np.zeros(mask.shape, np.int64)
    for start in zip(*np.nonzero(mask), strict=True):
        if sizes[start]:
            continue
        frame, *_ = start
        thing, left = {start}, [start]
        while left:
            _, row, column = left.pop()
            for place in np.ndindex(3, 3):
                next_to = (frame, row + place[0] - 1, column + place[1] - 1)
                inside = all(
                    0 <= at < end for at, end in zip(next_to, mask.shape, strict=True)
                )
                if inside and mask[next_to] and next_to not in thing:
                    thing.add(next_to)
                    left.append(next_to)
        for pixel in thing:
            sizes[pixel] = len(thing)
    return sizes


@given(arrays(bool, st.tuples(*(st.integers(1, n) for n in (3, 9, 9)))))
def test_a_thing_is_what_hangs_together(mask: np.ndarray) -> None:
    assert np.array_equal(thing_sizes(mask), flooded(mask))


def test_a_long_snake_is_one_thing() -> None:
    mask = np.zeros((2, 64, 64), bool)
    mask[1, ::2] = True
    mask[1, 1::4, 0] = mask[1, 3::4, -1] = True
    assert np.array_equal(thing_sizes(mask), mask * mask.sum())


def test_recall_is_counted_by_the_size_of_the_thing() -> None:
    seen = np.zeros((2, 64, 64), bool)
    seen[0, 10, 10] = seen[0, 20, 20] = True  # two of one pixel
    seen[1, 30:33, 30:33] = True  # one of nine
    shown = np.zeros_like(seen)
    shown[0, 20, 20] = shown[1, 30:32, 30:33] = True
    shown[1, 50:] = True  # shown, and not there
    found = recall_by_size(seen, shown)
    assert found["pixels"].tolist() == [2, 9, 0, 0]
    assert found["recall"].tolist() == pytest.approx(
        [1 / 2, 6 / 9, np.nan, np.nan], nan_ok=True
    )
    assert found["shown"].tolist() == [1, 6, 0, 14 * 64]
    assert found["precision"].tolist() == pytest.approx([1, 1, np.nan, 0], nan_ok=True)
