"""A file that a library keeps by itself, as a Kedro dataset."""

from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset, DatasetError

from wm_pipeline.datasets.local_file import local_path


class PathDataset(AbstractDataset[Any, Path]):
    """The place of a file that is kept from run to run, whether it is there yet or not.

    Example:
        .. code-block:: yaml

            tune_storage:
              type: wm_pipeline.datasets.PathDataset
              filepath: data/06_models/doom/tune.db

    Args:
        filepath: The file.
        metadata: Anything, e.g. kedro-viz's layer; ignored here.
    """

    only_if_asked = True
    """A run does without it: who reads the place makes the file."""

    def __init__(
        self, *, filepath: str, metadata: dict[str, Any] | None = None
    ) -> None:
        self._path = Path(local_path(filepath))
        self.metadata = metadata

    def load(self) -> Path:
        """The place."""
        return self._path

    def save(self, data: Any) -> None:
        """Refused: the library that keeps the file writes it."""
        raise DatasetError(f"{self._path}: it is written by what keeps it")

    def _exists(self) -> bool:
        return self._path.is_file()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._path)}
