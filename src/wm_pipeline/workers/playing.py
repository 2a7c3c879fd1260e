"""Episodes of the real game, played in parallel worker processes that may die."""

import copy
import itertools
import logging
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence

import numpy as np

from wm_pipeline.common.devices import cores
from wm_pipeline.environments.real import EnvironmentOptions, RealEnv
from wm_pipeline.episodes.episode import Episode
from wm_pipeline.policies.policy import (
    TOGETHER,
    ControllerPolicy,
    Policy,
    decide_together,
)
from wm_pipeline.workers.pool import WorkerPool

logger = logging.getLogger(__name__)

ATTEMPTS = 3
"""How often an episode is played before its failure is the caller's."""

GROUP = 16
"""Episodes of a controller that a worker plays as one task."""


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
        environment: The game; a worker makes one, or for a controller several, which
            are played side by side.
        policies: Who can play, by name; a copy of all goes to each worker.
        games: The name of the policy and the seed of each episode.
        workers: How many processes, 1 or more; None takes one a core.
        keep_frames: Whether the frames are returned.

    Yields:
        The episodes, in the order of ``games``.

    Raises:
        InputError: The environment cannot be made.
        RuntimeError: An episode, or its worker, failed ``ATTEMPTS`` times.
    """
    RealEnv(environment).close()  # a bad option fails here, not in every worker
    groups = _grouped(policies, games)

    def describe(group: int) -> str:
        seeds = groups[group][1]
        if len(seeds) == 1:
            return f"the episode with seed {seeds[0]}"
        return f"one of the episodes with seeds {', '.join(map(str, seeds))}"

    # Games and networks for a few frames at a time keep no second thread busy.
    with WorkerPool(
        workers or cores(), 1, ATTEMPTS, _Player, environment, policies, keep_frames
    ) as pool:
        for episodes in pool.map(_Player.play, groups, describe):
            yield from episodes


def play_episode(env: RealEnv, policy: Policy, seed: int, keep_frames: bool) -> Episode:
    """Play one episode to its end.

    Args:
        env: The game.
        policy: Who plays.
        seed: Seeds both the game and the policy.
        keep_frames: Whether the frames are returned.
    """
    course = episode_course(env, policy, seed, keep_frames)
    while True:
        try:
            next(course)
        except StopIteration as over:
            episode: Episode = over.value
            return episode


def episode_course(
    env: RealEnv, policy: Policy, seed: int, keep_frames: bool
) -> Generator[np.ndarray, None, Episode]:
    """Play one episode, pausing wherever the policy looks.

    Args:
        env: The game.
        policy: Who plays.
        seed: Seeds both the game and the policy.
        keep_frames: Whether the frames are returned.

    Yields:
        The frame the policy is about to look at. Whoever lets it decide now, together
        with those of other games, spares it the deciding.

    Returns:
        The episode.
    """
    policy.reset(seed)
    env.reset(seed=seed)
    frames, actions, rewards = [], [], []
    terminated = truncated = False
    while not (terminated or truncated):
        looks = policy.looks
        frame = env.frame() if keep_frames or looks else None
        if frame is not None and looks:
            yield frame
        control = policy.act(frame)
        if frame is not None and keep_frames:
            frames.append(frame)
        reward, terminated, truncated, _ = env.advance(control)
        actions.append(control)
        rewards.append(reward)
    return Episode(
        seed=seed,
        frames=np.stack(frames) if keep_frames else None,
        actions=np.stack(actions),
        rewards=np.array(rewards, np.float32),
        terminated=terminated,
    )


def _grouped(
    policies: Mapping[str, Policy], games: Sequence[tuple[str, int]]
) -> list[tuple[str, list[int]]]:
    """The games a worker plays as one task, with their policy.

    A single one; of a controller, so many that they fill its places for a while.
    """
    groups = []
    for name, same in itertools.groupby(games, key=lambda game: game[0]):
        seeds = [seed for _, seed in same]
        size = GROUP if isinstance(policies[name], ControllerPolicy) else 1
        groups += [
            (name, seeds[first : first + size]) for first in range(0, len(seeds), size)
        ]
    return groups


class _Player:
    """What a worker process holds: games and who plays them."""

    def __init__(
        self,
        environment: EnvironmentOptions,
        policies: Mapping[str, Policy],
        keep_frames: bool,
    ) -> None:
        self._environment, self._policies = environment, policies
        self._keep_frames = keep_frames
        self._envs: list[RealEnv | None] = [None] * TOGETHER

    def play(self, name: str, seeds: list[int]) -> list[Episode]:
        """Episodes of one policy, side by side, in the order of their seeds."""
        waiting, played = deque(seeds), dict[int, Episode]()
        policies = [copy.copy(self._policies[name]) for _ in seeds[:TOGETHER]]
        places = [
            (policy, self._place(number, policy, waiting, played))
            for number, policy in enumerate(policies)
        ]
        while places:
            frames = [next(courses, None) for _, courses in places]
            seen = [frame for frame in frames if frame is not None]
            places = [
                place
                for place, frame in zip(places, frames, strict=True)
                if frame is not None
            ]
            deciding = [p for p, _ in places if isinstance(p, ControllerPolicy)]
            if deciding:
                decide_together(deciding, seen)
        return [played[seed] for seed in seeds]

    def _place(
        self,
        number: int,
        policy: Policy,
        waiting: deque[int],
        played: dict[int, Episode],
    ) -> Iterator[np.ndarray]:
        """Waiting episodes one after another, pausing wherever the policy looks.

        One that fails is played again, in a new game.
        """
        while waiting:
            seed = waiting.popleft()
            for attempt in range(1, ATTEMPTS + 1):
                try:
                    env = self._envs[number] or RealEnv(self._environment)
                    self._envs[number] = env
                    played[seed] = yield from episode_course(
                        env, policy, seed, self._keep_frames
                    )
                    break
                except Exception as error:  # a game's failures have no common class
                    if (failed := self._envs[number]) is not None:
                        failed.close()
                        self._envs[number] = None
                    if attempt == ATTEMPTS:
                        raise RuntimeError(
                            f"the episode with seed {seed} failed {ATTEMPTS} times: "
                            f"{error}"
                        ) from error
                    logger.warning(
                        "A game failed (%s); its episode is played again", error
                    )
