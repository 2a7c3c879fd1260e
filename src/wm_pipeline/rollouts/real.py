"""Episodes of the real game, played in parallel worker processes that may die."""

import logging
from collections.abc import Iterator, Mapping, Sequence

from wm_pipeline.devices import cores
from wm_pipeline.environments.real import EnvironmentOptions, RealEnv
from wm_pipeline.rollouts.episodes import Episode, play_episode
from wm_pipeline.rollouts.policies import Policy
from wm_pipeline.rollouts.team import Team

logger = logging.getLogger(__name__)

ATTEMPTS = 3
"""How often an episode is played before its failure is the caller's."""


def play_episodes(
    environment: EnvironmentOptions,
    policies: Mapping[str, Policy],
    games: Sequence[tuple[str, int]],
    workers: int | None,
    keep_frames: bool,
) -> Iterator[Episode]:
    """Play many episodes in worker processes.

    A game that fails is started anew and its episode replayed; a worker process that
    dies is replaced and its episodes are played again, with the same seeds.

    Args:
        environment: The game, made once in each worker.
        policies: Who can play, by name; a copy of all goes to each worker.
        games: The name of the policy and the seed of each episode.
        workers: How many processes, 1 or more; None takes one a core.
        keep_frames: Whether the frames are returned.

    Yields:
        The episodes, in the order of ``games``.

    Raises:
        ValueError: The environment cannot be made.
        RuntimeError: An episode, or its worker, failed ``ATTEMPTS`` times.
    """
    RealEnv(environment).close()  # a bad option fails here, not in every worker
    # A game and a network for one frame at a time keep no second thread busy.
    with Team(
        workers or cores(), 1, ATTEMPTS, _Player, environment, policies, keep_frames
    ) as team:
        yield from team.do(
            _Player.play, games, lambda game: f"the episode with seed {games[game][1]}"
        )


class _Player:
    """What a worker process holds: the game and who plays it."""

    def __init__(
        self,
        environment: EnvironmentOptions,
        policies: Mapping[str, Policy],
        keep_frames: bool,
    ) -> None:
        self._environment, self._policies = environment, policies
        self._keep_frames = keep_frames
        self._env: RealEnv | None = None

    def play(self, policy: str, seed: int) -> Episode:
        """One episode, in a new game where the last one failed."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                if self._env is None:
                    self._env = RealEnv(self._environment)
                return play_episode(
                    self._env, self._policies[policy], seed, self._keep_frames
                )
            except Exception as error:  # a game's failures have no common class
                if self._env is not None:
                    self._env.close()
                    self._env = None
                if attempt == ATTEMPTS:
                    raise RuntimeError(
                        f"the episode with seed {seed} failed {ATTEMPTS} times: {error}"
                    ) from error
                logger.warning("A game failed (%s); its episode is played again", error)
        raise AssertionError("unreachable")
