"""ONNX files as a Kedro dataset."""

from pathlib import Path

from wm_pipeline.datasets.local_file import VersionedFile


class OnnxDataset(VersionedFile):
    """The content of an ONNX file, on a local path.

    Example:
        .. code-block:: yaml

            agent_onnx:
              type: wm_pipeline.datasets.OnnxDataset
              filepath: data/06_models/doom/agent.onnx
              versioned: true
    """

    def load(self) -> bytes:
        """Read the content; onnxruntime says what is wrong with it."""
        return Path(self._get_load_path()).read_bytes()

    def write(self, path: Path, data: bytes) -> None:
        """Write the content."""
        path.write_bytes(data)
