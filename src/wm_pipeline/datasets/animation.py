"""Pictures and animations: arrays as PNG or GIF, which open anywhere."""

import base64
from pathlib import Path
from typing import Any

import numpy as np
from kedro.io import DatasetError, Version
from kedro_datasets._typing import ImagePreview
from PIL import Image

from wm_pipeline.datasets.local_file import VersionedFile
from wm_pipeline.reporting.gif import write_gif

_STILL, _MOVING = 3, 4


class AnimationDataset(VersionedFile):
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
        super().__init__(filepath=filepath, version=version, metadata=metadata)
        self._frames_per_second = frames_per_second

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

    def write(self, path: Path, data: np.ndarray) -> None:
        """Write the file."""
        expected = _MOVING if self._filepath.suffix == ".gif" else _STILL
        if data.dtype != np.uint8 or data.ndim != expected or data.shape[-1] != 3:  # noqa: PLR2004
            raise DatasetError(
                f"{self._filepath}: expected {expected} axes of uint8, the last of 3 "
                f"colours; found {data.shape} {data.dtype}"
            )
        if data.ndim == _STILL:
            Image.fromarray(data).save(path, format="PNG")
        else:
            write_gif(path, data, self._frames_per_second)

    def preview(self) -> ImagePreview:
        """The file in base64, for kedro-viz."""
        content = Path(self._get_load_path()).read_bytes()
        return ImagePreview(base64.b64encode(content).decode())
