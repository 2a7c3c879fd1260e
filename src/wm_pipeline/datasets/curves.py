"""Where the event files of runs lie, one folder a run."""

from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

from kedro.io import AbstractVersionedDataset, DatasetError, Version

from wm_pipeline.datasets.local_file import local_path


class CurvesDataset(AbstractVersionedDataset[None, Path]):
    """The folders of TensorBoard's event files; its ``--logdir`` is the ``filepath``.

    The run's hook writes there while stages train; nodes do not.

    Example:
        .. code-block:: yaml

            tensorboard:
              type: wm_pipeline.datasets.CurvesDataset
              filepath: data/07_model_output/doom/tensorboard
              versioned: true

    Args:
        filepath: The folder of all runs.
        version: Set by Kedro.
        metadata: Anything, e.g. kedro-viz's layer; ignored here.
    """

    def __init__(
        self,
        *,
        filepath: str,
        version: Version | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(PurePosixPath(local_path(filepath)), version)
        self.metadata = metadata

    def run_folder(self) -> Path:
        """Where this run's event files go; not made yet."""
        return Path(self._filepath) / str(self.resolve_save_version() or "run")

    def load(self) -> Path:
        """The folder of the newest run."""
        runs = sorted(path for path in Path(self._filepath).glob("*") if path.is_dir())
        if not runs:
            raise DatasetError(f"{self._filepath}: no run has left curves there yet")
        return runs[-1]

    def save(self, data: None) -> NoReturn:
        """Refused: the curves are written while stages train."""
        raise DatasetError(f"{self._filepath}: curves are written by the run itself")

    def _exists(self) -> bool:
        return any(Path(self._filepath).glob("*/*"))

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath}
