"""Pictures and animations of frames."""

import numpy as np


def enlarge(frames: np.ndarray, factor: int) -> np.ndarray:
    """Frames (..., height, width, 3) with every pixel ``factor`` times as large."""
    return frames.repeat(factor, -3).repeat(factor, -2)


def pairs_of_rows(top: np.ndarray, bottom: np.ndarray, columns: int) -> np.ndarray:
    """A picture in which each row of frames has its counterpart right below it.

    Args:
        top: (frames, height, width, 3) uint8.
        bottom: Of the same shape.
        columns: Frames a row; what does not fill a row is left out.

    Returns:
        (rows * 2 * height, columns * width, 3) uint8.
    """
    rows = []
    for start in range(0, len(top) - columns + 1, columns):
        for frames in (top, bottom):
            rows.append(np.concatenate(list(frames[start : start + columns]), axis=1))
    return np.concatenate(rows)
