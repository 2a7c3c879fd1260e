"""The states of long work as Kedro datasets."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from kedro.io import DatasetError, Version

from wm_pipeline.datasets.local_file import VersionedFile
from wm_pipeline.models.training_state import load_training_state, save_training_state
from wm_pipeline.search.comparison_state import (
    load_comparison_state,
    save_comparison_state,
)
from wm_pipeline.search.state import load_state, save_state

_LOAD: dict[str, Callable[[Path], Any]] = {
    "search": load_state,
    "training": load_training_state,
    "comparison": load_comparison_state,
}
_SAVE: dict[str, Callable[[Path, Any], None]] = {
    "search": save_state,
    "training": save_training_state,
    "comparison": save_comparison_state,
}


class StateDataset(VersionedFile):
    """The state of a search, training or comparison on a local path, saved amid it.

    It counts as existing when the work is finished, so that Kedro's
    ``--only-missing-outputs`` does not take an interrupted one for finished.

    Example:
        .. code-block:: yaml

            search_state:
              type: wm_pipeline.datasets.StateDataset
              of: search
              filepath: data/06_models/doom/search_state.safetensors
              versioned: true

    Args:
        filepath: The file.
        of: ``search``, ``training`` or ``comparison``.
        version: Set by Kedro.
        metadata: Anything, e.g. kedro-viz's layer; ignored here.
    """

    def __init__(
        self,
        *,
        filepath: str,
        of: Literal["search", "training", "comparison"],
        version: Version | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(filepath=filepath, version=version, metadata=metadata)
        if of not in _LOAD:
            raise DatasetError(f"of: expected {' or '.join(_LOAD)}, found {of!r}")
        self._of = of

    def load(self) -> Any:
        """Read the state."""
        return self._read(Path(self._get_load_path()))

    def write(self, path: Path, data: Any) -> None:
        """Write the state."""
        _SAVE[self._of](path, data)

    def _exists(self) -> bool:
        return super()._exists() and self._read(Path(self._get_load_path())).finished

    def _read(self, path: Path) -> Any:
        return _LOAD[self._of](path)

    def _describe(self) -> dict[str, Any]:
        return {**super()._describe(), "of": self._of}
