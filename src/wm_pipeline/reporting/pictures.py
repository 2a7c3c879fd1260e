"""Pictures and animations of frames."""

import io

import numpy as np

from wm_pipeline.reporting.gif import write_gif

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


def strips(*rows: np.ndarray) -> np.ndarray:
    """Frames in rows, one below the other, a white line between any two.

    Args:
        rows: (frames, height, width, 3) uint8 each, all of one shape.

    Returns:
        (rows * (height + 1) - 1, frames * (width + 1) - 1, 3) uint8.
    """
    line = ((0, 0), (0, 1), (0, 1), (0, 0))
    lined = [np.pad(row, line, constant_values=255) for row in rows]
    return np.concatenate([np.concatenate(list(row), 1) for row in lined])[:-1, :-1]


def gif(frames: np.ndarray, frames_per_second: float) -> bytes:
    """An animation as the bytes of a GIF that repeats, to show in a notebook.

    Args:
        frames: (time, height, width, 3) uint8.
        frames_per_second: Its speed; a GIF counts time in hundredths of a second.
    """
    file = io.BytesIO()
    write_gif(file, frames, frames_per_second)
    return file.getvalue()
