"""Animations as GIFs that are small and open anywhere."""

from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

PALETTE_FRAMES = 40
"""An animation has one palette, taken from about so many of its frames."""
UNSEEN = 6
"""A pixel that changes by no more than this, out of 255, stays as it is: noise that
nobody sees would make the file several times as large."""


def write_gif(
    file: Path | BinaryIO, frames: np.ndarray, frames_per_second: float
) -> None:
    """Write an animation that repeats.

    Args:
        file: Where to.
        frames: (time, height, width, 3) uint8.
        frames_per_second: Its speed; a GIF counts time in hundredths of a second.
    """
    first, *others = _with_one_palette(frames)
    first.save(
        file,
        format="GIF",
        save_all=True,
        append_images=others,
        duration=1000 / frames_per_second,
        loop=0,
    )


def _with_one_palette(film: np.ndarray) -> list[Image.Image]:
    """The frames of a film in which what does not change is written once."""
    palette = _palette(film[:: max(1, len(film) // PALETTE_FRAMES)])
    images, shown = [], film[0]
    for frame in film:
        change = np.abs(frame.astype(np.int16) - shown).max(-1, keepdims=True)
        shown = np.where(change > UNSEEN, frame, shown)
        image = Image.fromarray(shown)
        images.append(image.quantize(palette=palette, dither=Image.Dither.NONE))
    return images


def _palette(frames: np.ndarray) -> Image.Image:
    """255 colours; the last is left for what does not change.

    Half are those of most pixels (median cut), half lie all over the colours there are
    (octree): of a bright thing with few pixels, too.
    """
    pixels = Image.fromarray(np.concatenate(list(frames)))
    colours: list[int] = []
    methods = {Image.Quantize.MEDIANCUT: 128, Image.Quantize.FASTOCTREE: 127}
    for method, count in methods.items():
        found = pixels.quantize(count, method).getpalette()
        assert found is not None
        colours += found[: 3 * count]
    palette = Image.new("P", (1, 1))
    palette.putpalette(colours)
    return palette
