"""What earlier runs left, of all versions at once."""

import json
import logging
from pathlib import Path
from typing import Any, NoReturn

from kedro.io import AbstractDataset, DatasetError

from wm_pipeline.common.files import sha256
from wm_pipeline.common.origins import Origin
from wm_pipeline.datasets.local_file import local_path

logger = logging.getLogger(__name__)


class VersionsDataset(AbstractDataset[None, dict[str, dict[str, Any]]]):
    """Versioned JSON files of a task, by run; read only.

    What is not there, damaged or only half, e.g. because its run still goes on or was
    killed, is left out, with a warning.

    Example:
        .. code-block:: yaml

            all_runs:
              type: wm_pipeline.datasets.VersionsDataset
              filepath: data/07_model_output/doom
              names: [run_record, evaluation_summary]

    Args:
        filepath: The folder in which the versioned files are.
        names: Theirs, without ``.json``.
        metadata: Anything, e.g. kedro-viz's layer; ignored here.
    """

    def __init__(
        self,
        *,
        filepath: str,
        names: list[str],
        metadata: dict[str, Any] | None = None,
    ) -> None:
        self._folder, self._names = Path(local_path(filepath)), names
        self.metadata = metadata

    def load(self) -> dict[str, dict[str, Any]]:
        """The files' values by version, oldest first, and name."""
        runs: dict[str, dict[str, Any]] = {}
        for name in self._names:
            for folder in sorted((self._folder / f"{name}.json").glob("*")):
                path = folder / f"{name}.json"
                try:
                    values = _whole(path)
                except (OSError, ValueError) as error:
                    logger.warning("%s: left out, it cannot be read (%s)", path, error)
                    continue
                runs.setdefault(folder.name, {})[name] = values
        return dict(sorted(runs.items()))

    def save(self, data: None) -> NoReturn:
        """Refused: runs write these files one by one."""
        raise DatasetError(f"{self._folder}: the files of other runs are only read")

    def _exists(self) -> bool:
        return True  # no run yet is an answer, too

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._folder), "names": self._names}


def _whole(path: Path) -> dict[str, Any]:
    """A file's values; ValueError where it is not what was written."""
    origin = Origin.read(path)
    if origin is not None and origin.sha256 != sha256(path):
        raise ValueError("it is damaged")
    values = json.loads(path.read_text())
    if not isinstance(values, dict):
        raise ValueError("expected names with values")
    return values
