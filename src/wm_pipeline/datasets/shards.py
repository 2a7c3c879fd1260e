"""Episodes, saved shard by shard by a generator node and loaded as one set."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset, DatasetError

from wm_pipeline.datasets.local_file import local_path
from wm_pipeline.episodes.sets import (
    MANIFEST,
    current_set,
    finished_shards,
    is_complete,
)
from wm_pipeline.episodes.shards import EpisodeShards, Shard


class ShardsDataset(AbstractDataset[Any, Any]):
    """A folder of episode shards; it exists once the set is complete.

    Example:
        .. code-block:: yaml

            episodes:
              type: wm_pipeline.datasets.ShardsDataset
              filepath: data/01_raw/doom/episodes

    Args:
        filepath: The folder.
        metadata: Anything, e.g. kedro-viz's layer; ignored here.
    """

    def __init__(
        self, *, filepath: str, metadata: dict[str, Any] | None = None
    ) -> None:
        self._folder = Path(local_path(filepath))
        self._finished = False
        self.metadata = metadata

    outdated = False
    """Whether it is to be made again, as if it did not exist."""

    def load(self) -> Any:
        """Open the set, as ``EpisodeShards``; episodes are read when asked for."""
        return EpisodeShards(self._folder)

    def save(self, data: Shard) -> None:
        """Write one shard; the last puts the set in an older one's place."""
        data.save(self._folder)
        self._finished = data.index + 1 == data.of

    def path_read(self) -> Path | None:
        """The list of the set that counts; None if there is none."""
        if not is_complete(self._folder):
            return None
        return current_set(self._folder) / MANIFEST

    def path_saved(self) -> Path | None:
        """The list of the set, once its last shard is saved."""
        return self.path_read() if self._finished else None

    def check_whole(self) -> None:
        """Compare all shards with the list; InputError if one is damaged."""
        EpisodeShards(self._folder)

    def _exists(self) -> bool:
        return not self.outdated and is_complete(self._folder)

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._folder)}


class UnfinishedShardsDataset(ShardsDataset):
    """The shards of an interrupted set, looked for only when a run resumes it."""

    only_if_asked = True
    """A run that resumes nothing does without it."""

    def path_read(self) -> None:
        """None: what it reads is no result."""

    def load(self) -> Callable[[int, dict[str, Any]], int]:
        """``finished_shards`` of this folder."""
        return functools.partial(finished_shards, self._folder)

    def save(self, data: Shard) -> None:
        """Refused: ``episodes`` is where a run saves."""
        raise DatasetError(f"{self._folder}: an unfinished set is only read")
