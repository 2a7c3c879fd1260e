"""Curves of a run for TensorBoard, while it runs."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from torch.utils.tensorboard import SummaryWriter


class Curves:
    """A progress listener that writes event files.

    Args:
        folder: Of one run; made at the first figure.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._writer: SummaryWriter | None = None

    def __call__(
        self,
        name: str,
        step: int,
        figures: Mapping[str, float],
        weights: Mapping[str, np.ndarray],
    ) -> None:
        """Write the figures of a step; readable at once."""
        if self._writer is None:
            self._writer = SummaryWriter(str(self.folder))
        for figure, value in figures.items():
            self._writer.add_scalar(f"{name}/{figure}", value, step)
        for array, values in weights.items():
            self._writer.add_histogram(f"{name}/weights of the {array}", values, step)
        self._writer.flush()

    def close(self) -> None:
        """End the event file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
