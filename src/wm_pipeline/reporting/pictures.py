"""Pictures and animations of frames."""

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

MARGIN, LINE, TEXT_SIZE = 6, 18, 13
"""Around and between panels; the height of a line of text and of its letters, pixels."""

_BACKGROUND, _TEXT, _TRACK, _MARK = "#181818", "#e8e8e8", "#3c3c3c", "#e8963c"


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


def captioned_film(
    panels: Mapping[str, np.ndarray],
    lines: Sequence[str],
    controls: np.ndarray,
    factor: int,
) -> np.ndarray:
    """Films side by side, each with its caption; below, a line of text and the action.

    The action is drawn as a bar for each number of the control, which grows from the
    middle to the left (-1) or to the right (+1).

    Args:
        panels: By caption, films (time, height, width, 3) uint8 of one shape.
        lines: What is written below each moment, (time,).
        controls: (time, size) in [-1, 1].
        factor: How many times as large the films are shown.

    Returns:
        (time, LINE + factor * height + 2 * LINE, panels * (factor * width + MARGIN) +
        MARGIN, 3) uint8.
    """
    films = [enlarge(film, factor) for film in panels.values()]
    time, height, width = films[0].shape[:3]
    size = (
        MARGIN + len(films) * (width + MARGIN),
        LINE + height + 2 * LINE,
    )
    font = ImageFont.load_default(TEXT_SIZE)
    ground = Image.new("RGB", size, _BACKGROUND)
    draw = ImageDraw.Draw(ground)
    lefts = [MARGIN + number * (width + MARGIN) for number in range(len(films))]
    for left, caption in zip(lefts, panels, strict=True):
        _write(draw, left, 0, caption, font)
    pictures = []
    for moment in range(time):
        picture = ground.copy()
        for left, film in zip(lefts, films, strict=True):
            picture.paste(Image.fromarray(film[moment]), (left, LINE))
        draw = ImageDraw.Draw(picture)
        _write(draw, MARGIN, LINE + height, lines[moment], font)
        _write(draw, MARGIN, 2 * LINE + height, "action", font)
        start = 2 * MARGIN + round(draw.textlength("action", font))
        bars = (start, 2 * LINE + height, size[0] - MARGIN, size[1])
        _draw_bars(draw, controls[moment], bars)
        pictures.append(np.asarray(picture))
    return np.stack(pictures)


def _write(
    draw: ImageDraw.ImageDraw,
    left: int,
    top: int,
    text: str,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
) -> None:
    """A line of text, its letters in the middle of its height."""
    draw.text((left, top + LINE // 2), text, _TEXT, font, anchor="lm")


def _draw_bars(
    draw: ImageDraw.ImageDraw, control: np.ndarray, box: tuple[int, int, int, int]
) -> None:
    """A bar for each number of the control, side by side in a box."""
    left, top, right, bottom = box
    share = (right - left + MARGIN) / len(control)
    top, bottom = top + LINE // 3, bottom - LINE // 3
    for number, value in enumerate(control):
        start = left + number * share
        end = start + share - MARGIN
        middle = (start + end) / 2
        tip = middle + float(np.clip(value, -1, 1)) * (end - middle)
        draw.rectangle((start, top, end, bottom), _TRACK)
        draw.rectangle((min(middle, tip), top, max(middle, tip), bottom), _MARK)
        draw.rectangle((middle - 1, top - 2, middle, bottom + 2), _TEXT)
