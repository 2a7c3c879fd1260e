"""What earlier runs left, as Kedro datasets that a stage reads only if it needs to."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from kedro.io import DatasetError
from kedro.io.core import VersionNotFoundError

from wm_pipeline.datasets.checkpoint import CheckpointDataset
from wm_pipeline.datasets.documents import TableDataset
from wm_pipeline.datasets.states import StateDataset


class _Earlier:
    """To stand first among the bases of a dataset with ``_read``."""

    only_if_asked = True
    """A run does without it unless an option asks for it."""

    def path_read(self) -> None:
        """None: what it reads is no result."""

    def load(self) -> Callable[[], Any]:
        """A function that reads the newest there was; it returns None if there is none."""
        try:
            path = Path(self._get_load_path())  # type: ignore[attr-defined]
        except VersionNotFoundError:
            return lambda: None
        return lambda: self._read(path) if path.exists() else None  # type: ignore[attr-defined]

    def save(self, data: Any) -> None:
        """Refused: the stage's own output is where a run saves."""
        raise DatasetError(f"{self._filepath}: what is earlier is only read")  # type: ignore[attr-defined]

    def _exists(self) -> bool:
        return Path(self._filepath).exists()  # type: ignore[attr-defined]


class EarlierStateDataset(_Earlier, StateDataset):
    """The newest state of a search, training or comparison before a run begins."""


class EarlierCheckpointDataset(_Earlier, CheckpointDataset):
    """The newest checkpoint before a run begins."""


class EarlierTableDataset(_Earlier, TableDataset):  # type: ignore[misc]
    """The newest table before a run begins."""
