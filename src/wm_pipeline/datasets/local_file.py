"""What versioned datasets here share: one local file that is never half-written."""

import contextlib
from abc import ABC, abstractmethod
from pathlib import Path, PurePosixPath
from typing import Any, Self

from kedro.io import AbstractVersionedDataset, Version
from kedro.io.core import VersionNotFoundError

from wm_pipeline.common.errors import InputError
from wm_pipeline.common.files import replacing


def local_path(filepath: str) -> str:
    """The path; InputError unless it is one of this machine."""
    if "://" in filepath:
        raise InputError(f"filepath: expected a local path, found {filepath!r}")
    return filepath


class LocalFile(ABC):
    """To stand first among the bases of a versioned Kedro dataset.

    ``save`` hands ``write`` a temporary name and renames the file. A run may save its
    version more than once, as generator nodes do at each ``yield``; another run's
    version stays refused.

    Raises:
        InputError: The file is not local, or there are ``save_args`` or ``fs_args``.
    """

    _save_path: PurePosixPath | None = None

    outdated = False
    """Whether it is to be made again, as if it did not exist."""

    def __new__(
        cls,
        *_: Any,
        filepath: str = "",
        save_args: dict[str, Any] | None = None,
        fs_args: dict[str, Any] | None = None,
        **__: Any,
    ) -> Self:
        """Refuse what would else be ignored. Kedro wraps constructors; hence here."""
        local_path(filepath)
        for name, given in (("save_args", save_args), ("fs_args", fs_args)):
            if given:
                raise InputError(
                    f"{name}: expected none for a {cls.__name__}, found {given}"
                )
        return super().__new__(cls)

    @property
    def filepath(self) -> str:
        """The file of the version that is loaded; kedro-viz shows its size."""
        try:
            return str(self._get_load_path())  # type: ignore[attr-defined]
        except VersionNotFoundError:
            return str(self._filepath)  # type: ignore[attr-defined]

    def save(self, data: Any) -> None:
        """Write the file, complete or not at all."""
        with replacing(self._get_save_path()) as partial:
            self.write(partial, data)

    @abstractmethod
    def write(self, path: Path, data: Any) -> None:
        """Write the data to a new file."""

    def exists(self) -> bool:
        """Whether it is there, and not outdated."""
        return not self.outdated and bool(super().exists())  # type: ignore[misc]

    def path_read(self) -> Path | None:
        """The file of the version that is loaded; None if there is none."""
        if self._version is None:  # type: ignore[attr-defined]
            return None
        try:
            path = Path(self._get_load_path())  # type: ignore[attr-defined]
        except VersionNotFoundError:
            return None
        return path if path.is_file() else None

    def path_saved(self) -> Path | None:
        """The file that this run has saved; None where there are no versions."""
        if self._version is None:  # type: ignore[attr-defined]
            return None
        return Path(self._get_save_path())

    def check_whole(self) -> None:
        """Nothing: there is no more to compare than the file."""
        return

    def remove_partial(self) -> None:
        """Remove what killed runs were writing, and folders that they left empty."""
        for path in Path(self._filepath).glob("*/.*.partial"):  # type: ignore[attr-defined]
            path.unlink()
        for folder in Path(self._filepath).glob("*/"):  # type: ignore[attr-defined]
            with contextlib.suppress(OSError):  # it is not empty
                folder.rmdir()

    def _get_save_path(self) -> PurePosixPath:
        if self._save_path is None:
            self._save_path = super()._get_save_path()  # type: ignore[misc]
        assert self._save_path is not None
        return self._save_path


class VersionedFile(LocalFile, AbstractVersionedDataset[Any, Any]):
    """A versioned file of our own kind.

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

    def _exists(self) -> bool:
        return Path(self._get_load_path()).is_file()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath}
