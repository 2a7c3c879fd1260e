"""Checkpoints as a Kedro dataset."""

from pathlib import Path
from typing import Any

from kedro.io import DatasetError, Version
from kedro.utils import load_obj

from wm_pipeline.common.checkpoints import load_checkpoint, save_checkpoint
from wm_pipeline.datasets.local_file import VersionedFile


class CheckpointDataset(VersionedFile):
    """A trained module, on a local path.

    Example:
        .. code-block:: yaml

            vae:
              type: wm_pipeline.datasets.CheckpointDataset
              model: wm_pipeline.models.vae.ConvVAE
              filepath: data/06_models/doom/vae.safetensors
              versioned: true

    Args:
        filepath: The file.
        model: The dotted path of the module's class.
        version: Set by Kedro.
        metadata: Anything, e.g. kedro-viz's layer; ignored here.
    """

    def __init__(
        self,
        *,
        filepath: str,
        model: str,
        version: Version | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(filepath=filepath, version=version, metadata=metadata)
        self._model = load_obj(model)

    def load(self) -> Any:
        """Build the module and give it the weights."""
        return self._read(Path(self._get_load_path()))

    def write(self, path: Path, data: Any) -> None:
        """Write the module's weights and config."""
        if not isinstance(data, self._model):
            raise DatasetError(
                f"expected a {self._model.__name__} to save, found {type(data).__name__}"
            )
        save_checkpoint(path, data)

    def _read(self, path: Path) -> Any:
        return load_checkpoint(str(path), self._model)

    def _describe(self) -> dict[str, Any]:
        return {**super()._describe(), "model": self._model.__name__}
