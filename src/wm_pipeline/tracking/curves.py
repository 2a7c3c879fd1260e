"""Curves of a run for TensorBoard, while it runs."""

import importlib.util
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from wm_pipeline.common.signals import signals_wait

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

logger = logging.getLogger(__name__)


class Curves:
    """A progress listener that writes event files; without TensorBoard it writes none.

    Args:
        folder: Of one run; made at the first scalar.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._writer: SummaryWriter | None = None
        self._installed = importlib.util.find_spec("tensorboard") is not None
        if not self._installed:
            logger.info(
                "No curves: TensorBoard is not installed (pip install "
                "'wm-pipeline[tensorboard]')"
            )

    def __call__(
        self,
        name: str,
        step: int,
        scalars: Mapping[str, float],
        weights: Mapping[str, np.ndarray],
    ) -> None:
        """Write the scalars of a step; readable at once."""
        if not self._installed:
            return
        with signals_wait():  # or the thread that writes is never told to end
            if self._writer is None:
                # It takes half a second to import, and most stages never need it.
                from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415

                self._writer = SummaryWriter(str(self.folder))
            for scalar, value in scalars.items():
                self._writer.add_scalar(f"{name}/{scalar}", value, step)
            for array, values in weights.items():
                self._writer.add_histogram(
                    f"{name}/weights of the {array}", values, step
                )
            self._writer.flush()

    def close(self) -> None:
        """End the event file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
