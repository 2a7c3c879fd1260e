"""Several sets of episodes as one."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from wm_pipeline.episodes.columns import Steps


class Episodes(Protocol):
    """Stored episodes, read one at a time."""

    def __len__(self) -> int:
        """How many there are."""

    @property
    def lengths(self) -> np.ndarray:
        """The steps of each, (episodes,) int64."""

    def read(self, episode: int, columns: list[str] | None = None) -> Steps:
        """The columns of one, by their names; None for all."""


class JoinedEpisodes:
    """Sets of episodes, one behind the other.

    Args:
        sets: One or more, with the same columns.
    """

    def __init__(self, sets: Sequence[Episodes]) -> None:
        self._places = [(each, number) for each in sets for number in range(len(each))]
        self._lengths = np.concatenate([each.lengths for each in sets])

    def __len__(self) -> int:
        """How many episodes there are."""
        return len(self._places)

    @property
    def lengths(self) -> np.ndarray:
        """The steps of each episode, (episodes,) int64."""
        return self._lengths

    def read(self, episode: int, columns: list[str] | None = None) -> Steps:
        """The columns of one episode; see ``EpisodeShards.read``."""
        source, number = self._places[episode]
        return source.read(number, columns)
