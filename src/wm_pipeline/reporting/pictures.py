"""Pictures and animations of frames."""

import io

import numpy as np
from PIL import Image


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
    first, *others = [Image.fromarray(frame) for frame in frames]
    file = io.BytesIO()
    first.save(
        file,
        format="GIF",
        save_all=True,
        append_images=others,
        duration=1000 / frames_per_second,
        loop=0,
    )
    return file.getvalue()
