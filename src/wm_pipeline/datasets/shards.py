"""Episodes, saved shard by shard by a generator node and loaded as one set."""

from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset

from wm_pipeline.rollouts.shards import EpisodeShards, Shard, complete_set


class ShardsDataset(AbstractDataset[Shard, EpisodeShards]):
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
        self._folder = Path(filepath)
        self.metadata = metadata

    def load(self) -> EpisodeShards:
        """Open the set; episodes are read when asked for."""
        return EpisodeShards(self._folder)

    def save(self, data: Shard) -> None:
        """Write one shard; the last puts the set in an older one's place."""
        data.save(self._folder)

    def _exists(self) -> bool:
        return complete_set(self._folder) is not None

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._folder)}
