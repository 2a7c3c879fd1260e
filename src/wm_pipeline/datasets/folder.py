"""A folder of files as a Kedro dataset."""

import hashlib
import json
import shutil
from pathlib import Path

from kedro_datasets._typing import JSONPreview

from wm_pipeline.common.errors import InputError
from wm_pipeline.datasets.local_file import VersionedFile


class FolderDataset(VersionedFile):
    """Files by name, in a folder of their own that any web server can serve.

    The folder lies beside a JSON of the files' SHA-256, which is written last: without
    it the folder does not count.

    Example:
        .. code-block:: yaml

            play_page:
              type: wm_pipeline.datasets.FolderDataset
              filepath: data/08_reporting/doom/play.json
              versioned: true

    The JSON is the dataset's file; the folder has the same name without its suffix.
    """

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

    def remove_partial(self) -> None:
        """As any file's; and folders that a killed run left without their sums."""
        sums = Path(self._filepath)
        for folder in sums.glob(f"*/{sums.stem}/"):
            if not folder.with_suffix(sums.suffix).exists():
                shutil.rmtree(folder)
        super().remove_partial()

    def preview(self) -> JSONPreview:
        """The files and their sums, for kedro-viz."""
        return JSONPreview(Path(self._get_load_path()).read_text())

    def check_whole(self) -> None:
        """Compare all files with their sums."""
        self.load()
