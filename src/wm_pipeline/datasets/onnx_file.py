"""ONNX files as a Kedro dataset."""

from pathlib import Path, PurePosixPath
from typing import Any

from kedro.io import AbstractVersionedDataset, Version

from wm_pipeline.datasets.local_file import LocalFile


class OnnxDataset(LocalFile, AbstractVersionedDataset[bytes, bytes]):
    """The content of an ONNX file, on a local path.

    Example:
        .. code-block:: yaml

            agent_onnx:
              type: wm_pipeline.datasets.OnnxDataset
              filepath: data/06_models/doom/agent.onnx
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

    def load(self) -> bytes:
        """Read the content; onnxruntime says what is wrong with it."""
        return Path(self._get_load_path()).read_bytes()

    def write(self, path: Path, data: bytes) -> None:
        """Write the content."""
        path.write_bytes(data)

    def _exists(self) -> bool:
        return Path(self._get_load_path()).is_file()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath}
