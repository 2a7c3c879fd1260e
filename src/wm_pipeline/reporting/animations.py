"""Films of episodes as animations, with all that is known of each moment on them."""

from collections.abc import Mapping

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from wm_pipeline.reporting.films import Film
from wm_pipeline.reporting.pictures import enlarge

LINE, MARGIN, TEXT_SIZE = 18, 6, 13
"""Height of a line of text, room between things, height of the letters; pixels."""
PAUSE = 10
"""Frames for which the end stands still."""

_GROUND, _TEXT, _TRACK, _MARK = "#181818", "#e8e8e8", "#3c3c3c", "#e8963c"


def animation(
    film: Film, captions: Mapping[str, str], factor: int, whole: bool = True
) -> np.ndarray:
    """A film's views side by side; below them step, return and action.

    The action is drawn as a bar for each number of the control, which grows from its
    middle to the left (-1) or to the right (+1).

    Args:
        film: The film.
        captions: What is written above each view, in the order of the panels.
        factor: How many times as large the views are shown.
        whole: Whether an episode that nothing ended came to its cap; else only the film
            is over.

    Returns:
        (time + PAUSE, height, width, 3) uint8.
    """
    views = [enlarge(film.views[name], factor) for name in captions]
    time, height, width, _ = views[0].shape
    lefts = [MARGIN + number * (width + MARGIN) for number in range(len(views))]
    size = (lefts[-1] + width + MARGIN, height + 3 * LINE)
    ground = Image.new("RGB", size, _GROUND)
    for left, caption in zip(lefts, captions.values(), strict=True):
        _write(ground, left, 0, caption)
    label_end = _write(ground, MARGIN, height + 2 * LINE, "action")
    lines = _lines(film, whole)
    frames = []
    for moment in range(time):
        frame = ground.copy()
        for left, view in zip(lefts, views, strict=True):
            frame.paste(Image.fromarray(view[moment]), (left, LINE))
        _write(frame, MARGIN, height + LINE, lines[moment])
        bars = (label_end + MARGIN, height + 2 * LINE, size[0] - MARGIN, size[1])
        _draw_bars(frame, film.controls[moment], bars)
        frames.append(np.asarray(frame))
    return np.stack(frames + frames[-1:] * PAUSE)


def _lines(film: Film, whole: bool) -> list[str]:
    """What is written below each moment."""
    digits = max(0, 3 - len(f"{np.abs(film.returns).max():.0f}"))
    lines = [
        f"step {step:,}   return {total:,.{digits}f}"
        for step, total in zip(film.steps, film.returns, strict=True)
    ]
    if film.terminated or whole:
        lines[-1] += "   the end" if film.terminated else "   the cap"
    return lines


def _write(image: Image.Image, left: int, top: int, text: str) -> int:
    """A line of text, its letters in the middle of its height; returns where it ends."""
    font = ImageFont.load_default(TEXT_SIZE)
    draw = ImageDraw.Draw(image)
    draw.text((left, top + LINE // 2), text, _TEXT, font, anchor="lm")
    return left + round(draw.textlength(text, font))


def _draw_bars(
    image: Image.Image, control: np.ndarray, box: tuple[int, int, int, int]
) -> None:
    """A bar for each number of the control, side by side in a box."""
    draw = ImageDraw.Draw(image)
    left, top, right, bottom = box
    # Of many numbers the bars are as narrow as what parts them.
    gap = min(MARGIN, (right + MARGIN - left) / len(control) / 2)
    share = (right + gap - left) / len(control)
    top, bottom = top + LINE // 3, bottom - LINE // 3
    for number, value in enumerate(control):
        start = left + number * share
        end = start + share - gap
        middle = (start + end) / 2
        tip = middle + float(np.clip(value, -1, 1)) * (end - middle)
        draw.rectangle((start, top, end, bottom), _TRACK)
        draw.rectangle((min(middle, tip), top, max(middle, tip), bottom), _MARK)
        draw.rectangle((middle - 1, top - 2, middle, bottom + 2), _TEXT)
