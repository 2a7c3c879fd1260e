"""A folder of files as a Kedro dataset."""

import hashlib
import json
import shutil
from pathlib import Path, PurePosixPath
from typing import Any

from kedro.io import AbstractVersionedDataset, Version
from kedro_datasets._typing import JSONPreview

from wm_pipeline.common.errors import InputError
from wm_pipeline.datasets.local_file import LocalFile


class FolderDataset(LocalFile, AbstractVersionedDataset[dict[str, bytes], Any]):
    """Files by name, in a folder of their own that any web server can serve.

    The folder lies beside a JSON of the files' SHA-256, which is written last: without
    it the folder does not count.

    Example:
        .. code-block:: yaml

            play_page:
              type: wm_pipeline.datasets.FolderDataset
              filepath: data/08_reporting/doom/play.json
              versioned: true

    Args:
        filepath: The JSON; the folder has the same name without its suffix.
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

    def load(self) -> dict[str, bytes]:
        """Read all files.

        Raises:
            InputError: One is missing or damaged.
        """
        sums = Path(self._get_load_path())
        contents = {}
        for name, expected in json.loads(sums.read_text()).items():
            path = sums.with_suffix("") / name
            contents[name] = path.read_bytes() if path.is_file() else b""
            found = hashlib.sha256(contents[name]).hexdigest()
            if found != expected:
                raise InputError(
                    f"{path}: expected content with the SHA-256 {expected}, found {found}"
                )
        return contents

    def write(self, path: Path, data: dict[str, bytes]) -> None:
        """Write the files into the folder, and their sums to ``path``."""
        folder = Path(self._get_save_path()).with_suffix("")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for name, content in data.items():
            (folder / name).write_bytes(content)
        sums = {n: hashlib.sha256(part).hexdigest() for n, part in data.items()}
        path.write_text(json.dumps(sums, indent=2) + "\n")

    def preview(self) -> JSONPreview:
        """The files and their sums, for kedro-viz."""
        return JSONPreview(Path(self._get_load_path()).read_text())

    def check_whole(self) -> None:
        """Compare all files with their sums."""
        self.load()

    def _exists(self) -> bool:
        return Path(self._get_load_path()).is_file()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath}
