"""Pictures and animations: arrays as PNG or GIF, which open anywhere."""

import base64
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import numpy as np
from kedro.io import AbstractVersionedDataset, DatasetError, Version
from kedro_datasets._typing import ImagePreview
from PIL import Image

from wm_pipeline.files import replacing

_STILL, _MOVING = 3, 4

PALETTE_FRAMES = 40
"""An animation has one palette, taken from about so many of its frames."""
UNSEEN = 6
"""A pixel that changes by no more than this, out of 255, stays as it is: noise that
nobody sees would make the file several times as large."""


class AnimationDataset(AbstractVersionedDataset[np.ndarray, np.ndarray]):
    """A picture (height, width, 3) or animation (time, height, width, 3), uint8.

    Pictures are kept exactly; animations nearly so, and small.

    Example:
        .. code-block:: yaml

            dreamed_episode:
              type: wm_pipeline.datasets.AnimationDataset
              filepath: data/08_reporting/doom/dreamed_episode.gif
              frames_per_second: 9
              versioned: true

    Args:
        filepath: A local ``.gif`` or ``.png``.
        frames_per_second: The speed of an animation.
        version: Set by Kedro.
        metadata: Anything, e.g. kedro-viz's layer; ignored here.
    """

    def __init__(
        self,
        *,
        filepath: str,
        frames_per_second: float = 10,
        version: Version | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(PurePosixPath(filepath), version)
        self._frames_per_second = frames_per_second
        self.metadata = metadata

    def load(self) -> np.ndarray:
        """The picture, or the frames of the animation."""
        with Image.open(str(self._get_load_path())) as image:
            count = getattr(image, "n_frames", 1)
            if self._filepath.suffix != ".gif":
                return np.asarray(image.convert("RGB"))
            frames = []
            for number in range(count):
                image.seek(number)
                # Pillow keeps equal frames in a row as one that is shown longer.
                times = round(image.info["duration"] * self._frames_per_second / 1000)
                frames += [np.asarray(image.convert("RGB"))] * max(1, times)
            return np.stack(frames)

    def save(self, data: np.ndarray) -> None:
        """Write the file."""
        expected = _MOVING if self._filepath.suffix == ".gif" else _STILL
        if data.dtype != np.uint8 or data.ndim != expected or data.shape[-1] != 3:  # noqa: PLR2004
            raise DatasetError(
                f"{self._filepath}: expected {expected} axes of uint8, the last of 3 "
                f"colours; found {data.shape} {data.dtype}"
            )
        with replacing(self._get_save_path()) as partial:
            if data.ndim == _STILL:
                Image.fromarray(data).save(partial, format="PNG")
                return
            write_gif(partial, data, self._frames_per_second)

    def preview(self) -> ImagePreview:
        """The file in base64, for kedro-viz."""
        content = Path(self._get_load_path()).read_bytes()
        return ImagePreview(base64.b64encode(content).decode())

    def _exists(self) -> bool:
        return Path(self._get_load_path()).is_file()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath}


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
