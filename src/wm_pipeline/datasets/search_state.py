"""The state of a search as a Kedro dataset."""

from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

from kedro.io import AbstractVersionedDataset, DatasetError, Version
from kedro.io.core import VersionNotFoundError

from wm_pipeline.datasets.local_file import LocalFile
from wm_pipeline.search.state import SearchState, load_state, save_state


class SearchStateDataset(LocalFile, AbstractVersionedDataset[Any, Any]):
    """The state of a CMA-ES search, on a local path, saved while the search runs.

    It counts as existing when the search is over, so that Kedro's
    ``--only-missing-outputs`` does not take an interrupted one for finished.

    Example:
        .. code-block:: yaml

            search_state:
              type: wm_pipeline.datasets.SearchStateDataset
              filepath: data/06_models/doom/search_state.safetensors
              versioned: true

    Args:
        filepath: The file.
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
        super().__init__(PurePosixPath(filepath), version)
        self.metadata = metadata

    def load(self) -> Any:
        """Read the state."""
        return load_state(str(self._get_load_path()))

    def write(self, path: Path, data: SearchState) -> None:
        """Write the state."""
        save_state(path, data)

    def _exists(self) -> bool:
        path = Path(self._get_load_path())
        return path.is_file() and load_state(path).stopped is not None

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath}


class EarlierSearchDataset(SearchStateDataset):
    """The newest state there is before a run begins, read only if it is asked for."""

    only_to_resume = True
    """A run that resumes nothing does without it."""

    def path_read(self) -> None:
        """None: what it reads is no result."""

    def load(self) -> Callable[[], SearchState | None]:
        """A function that reads the state; it returns None if there is none."""
        try:
            path = Path(self._get_load_path())
        except VersionNotFoundError:
            return lambda: None
        return lambda: load_state(path) if path.exists() else None

    def save(self, data: SearchState) -> None:
        """Refused: ``search_state`` is where a run saves."""
        raise DatasetError(f"{self._filepath}: an earlier search is only read")

    def _exists(self) -> bool:
        return Path(self._filepath).exists()
