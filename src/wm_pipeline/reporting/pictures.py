"""Pictures and animations of frames."""

import numpy as np

GAP, WHITE = 2, 255


def enlarge(frames: np.ndarray, factor: int) -> np.ndarray:
    """Frames (..., height, width, 3) with every pixel ``factor`` times as large."""
    return frames.repeat(factor, -3).repeat(factor, -2)


def pairs_of_rows(top: np.ndarray, bottom: np.ndarray, columns: int) -> np.ndarray:
    """A picture in which each row of frames has its counterpart right below it.

    A line of GAP white pixels is between the columns and between the pairs.

    Args:
        top: (frames, height, width, 3) uint8.
        bottom: Of the same shape.
        columns: Frames a row; what does not fill a row is left out.

    Returns:
        (rows * (2 * height + GAP) - GAP, columns * (width + GAP) - GAP, 3) uint8.
    """
    pairs = np.concatenate((top, bottom), axis=1)
    pairs = np.pad(pairs, ((0, 0), (0, GAP), (0, GAP), (0, 0)), constant_values=WHITE)
    rows = [
        np.concatenate(list(pairs[start : start + columns]), axis=1)
        for start in range(0, len(pairs) - columns + 1, columns)
    ]
    return np.concatenate(rows)[:-GAP, :-GAP]
