"""Episodes of the real game: side by side in one process, and in many processes."""

import itertools
import logging
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import torch

from wm_pipeline.common.errors import InputError
from wm_pipeline.environments.game import close_game
from wm_pipeline.environments.real import EnvironmentOptions, RealEnv
from wm_pipeline.episodes.episode import Episode
from wm_pipeline.policies.controller_policy import ControllerPolicy
from wm_pipeline.policies.policy import Policy
from wm_pipeline.workers.engine import EngineOptions, open_pool

logger = logging.getLogger(__name__)

ATTEMPTS = 3
"""How often an episode is played before its failure is the caller's."""

THREADS = 1
"""Of torch in a worker: networks for a few frames at a time keep no second one busy."""

SIDE_BY_SIDE = 4
"""Games of a process whose policy decides for all of them at once."""

Frames = Literal["none", "decided", "all"] | int
"""Which frames of an episode are kept: those that a policy with eyes decided on, all, or the
first and each behind so many steps."""

AHEAD = 64
"""Steps for which a policy that does not see decides at once; more would gain nothing."""

GAMES_PER_TASK = 16
"""Of a policy that sees, at most."""


def play_episodes(
    environment: EnvironmentOptions,
    policies: Mapping[str, Policy],
    games: Sequence[tuple[str, int]],
    engine: EngineOptions,
    frames: Frames,
) -> Iterator[Episode]:
    """Play many episodes in worker processes.

    A game that fails is restarted and its episode replayed; a worker process that
    dies is replaced and its episodes are played again, with the same seeds.

    Args:
        environment: The game.
        policies: By name; a copy of all goes to each worker.
        games: The name of the policy and the seed of each episode.
        engine: Where they are played.
        frames: Which frames are returned.

    Yields:
        The episodes, in the order of ``games``.

    Raises:
        InputError: The environment cannot be made.
        RuntimeError: An episode, or its worker, failed ``ATTEMPTS`` times.
        Exception: Whatever a policy raised.
    """
    with open_pool(engine, THREADS, ATTEMPTS, Player, environment, policies) as pool:
        tasks = [(*task, frames) for task in _in_tasks(policies, games, pool.size)]

        def describe(task: int) -> str:
            seeds = tasks[task][1]
            if len(seeds) == 1:
                return f"the episode with seed {seeds[0]}"
            return f"one of the episodes with seeds {', '.join(map(str, seeds))}"

        for episodes in pool.map(Player.play, tasks, describe):
            yield from episodes


def shares(seeds: Sequence[int], workers: int, later: int = 0) -> Iterator[list[int]]:
    """The games of a policy that sees, in the tasks of workers.

    Many together, so that several stay side by side; fewer towards the end, so that no
    worker plays on for long when the others have nothing left to do.

    Args:
        seeds: Of the games.
        workers: How many there are.
        later: Games that come behind these.

    Yields:
        The seeds of each task, in order.
    """
    first = 0
    while first < len(seeds):
        left = len(seeds) - first + later
        size = min(max(left // (2 * workers), SIDE_BY_SIDE), GAMES_PER_TASK)
        yield list(seeds[first : first + size])
        first += size


def _in_tasks(
    policies: Mapping[str, Policy], games: Sequence[tuple[str, int]], workers: int
) -> Iterator[tuple[str, list[int]]]:
    """What a worker plays as one task: a policy and its seeds."""
    later = len(games)
    for name, same in itertools.groupby(games, key=lambda game: game[0]):
        seeds = [seed for _, seed in same]
        later -= len(seeds)
        if policies[name].sees:
            yield from ((name, some) for some in shares(seeds, workers, later))
        else:
            yield from ((name, [seed]) for seed in seeds)


class _Rollout:
    """An episode being played, up to the policy's next decision.

    Attributes:
        env: Its game.
        seed: Of the game and the policy.
        state: The policy's.
        random: The policy's source of random numbers.
        frame: What the policy is to answer, (64, 64, 3) uint8, where it is needed.
        over: Whether the episode has ended.
    """

    def __init__(
        self,
        env: RealEnv,
        policy: Policy,
        seed: int,
        frames: Frames,
        keep_states: bool,
    ) -> None:
        self.env, self.seed, self.over = env, seed, False
        self._sees, self._keeps_decided = policy.sees, frames == "decided"
        # Steps from one frame that is kept to the next, whoever decides.
        self._every = frames if isinstance(frames, int) else int(frames == "all")
        self._keeps_states = keep_states
        self._decided: np.ndarray | None = None
        self._frames: list[np.ndarray] = []
        self._actions: list[np.ndarray] = []
        self._rewards: list[float] = []
        self._states: list[Any] = []
        state, self.random = policy.begin(seed)
        self.remember(state)
        env.reset(seed=seed)
        self._look(decides=True)

    frame: np.ndarray
    state: Any

    def remember(self, state: Any) -> None:
        """Take the policy's new state."""
        self.state = state
        if self._keeps_states:
            self._states.append(state)

    def look_ahead(self, policy: Policy) -> tuple[np.ndarray, int]:
        """What a policy without eyes does next, and for how many steps.

        It sees nothing meanwhile, so it may decide at once, up to where the control
        changes; that one is kept.
        """
        control = self._decided
        if control is None:
            (control,) = _decide(policy, [self])
        steps, self._decided = policy.hold, None
        while not self._keeps_states and steps < AHEAD:
            (following,) = _decide(policy, [self])
            if not np.array_equal(following, control):
                self._decided = following
                break
            steps += policy.hold
        return control, steps

    def advance(self, control: np.ndarray, steps: int) -> None:
        """Hold a control (size,) until the next decision, or the end."""
        left = steps
        while left:
            # Steps whose frames nobody keeps are taken together.
            together = left
            if self._every:
                together = min(left, self._every - len(self._actions) % self._every)
            taken, reward, self._terminated, truncated, _ = self.env.hold(
                control, together
            )
            self._actions.extend([control] * taken)
            self._rewards.extend([0.0] * (taken - 1) + [reward])
            self.over = self._terminated or truncated
            if self.over:
                return
            left -= taken
            self._look(decides=not left)

    def episode(self) -> Episode:
        """All of it, once it is over."""
        return Episode(
            seed=self.seed,
            frames=np.stack(self._frames) if self._frames else None,
            actions=np.stack(self._actions),
            rewards=np.array(self._rewards),
            terminated=self._terminated,
            states=self._states,
        )

    def _look(self, decides: bool) -> None:
        """Make the frame, which takes a third of a step, only where it is needed."""
        kept = self._every and len(self._actions) % self._every == 0
        decided = decides and self._sees
        if kept or decided:
            self.frame = self.env.frame()
        if kept or (decided and self._keeps_decided):
            self._frames.append(self.frame)


def _decide(policy: Policy, rollouts: Sequence[_Rollout]) -> np.ndarray:
    """The policy's controls (rollouts, size) float32, and its new states."""
    frames = np.stack([each.frame for each in rollouts]) if policy.sees else None
    controls, states = policy.act(
        frames, [each.state for each in rollouts], [each.random for each in rollouts]
    )
    expected = (len(rollouts), rollouts[0].env.options.actions.size)
    if controls.shape != expected:
        raise ValueError(
            f"{type(policy).__name__}.act: expected controls of shape {expected}, "
            f"found {controls.shape}"
        )
    for rollout, state in zip(rollouts, states, strict=True):
        rollout.remember(state)
    return controls.astype(np.float32, copy=False)


def _decisions(
    policy: Policy, rollouts: Sequence[_Rollout]
) -> Iterator[tuple[_Rollout, np.ndarray, int]]:
    """Each rollout's next control, and for how many steps."""
    if policy.sees:
        for rollout, control in zip(rollouts, _decide(policy, rollouts), strict=True):
            yield rollout, control, policy.hold
    else:
        for rollout in rollouts:
            yield rollout, *rollout.look_ahead(policy)


class Player:
    """What a worker process holds: games, and the policies that play them."""

    def __init__(
        self, environment: EnvironmentOptions, policies: Mapping[str, Policy]
    ) -> None:
        self._environment, self._policies = environment, policies
        self._games: list[RealEnv] = []
        self._idle: list[RealEnv] = []

    def play(
        self,
        name: str,
        seeds: list[int],
        frames: Frames,
        keep_states: bool = False,
    ) -> list[Episode]:
        """Episodes of one policy, some side by side, in the order of their seeds.

        One that fails is played again, in a new game.
        """
        policy = self._policies[name]
        waiting, failures = deque(seeds), Counter[int]()
        played: dict[int, Episode] = {}
        rollouts: list[_Rollout] = []
        while waiting or rollouts:
            while waiting and len(rollouts) < SIDE_BY_SIDE:
                seed = waiting.popleft()
                with self._replayed(seed, waiting, failures):
                    rollouts.append(self._begin(policy, seed, frames, keep_states))
            running, rollouts = rollouts, []
            for rollout, control, steps in _decisions(policy, running):
                with self._replayed(rollout.seed, waiting, failures, rollout.env):
                    rollout.advance(control, steps)
                    if rollout.over:
                        played[rollout.seed] = rollout.episode()
                        self._idle.append(rollout.env)
                    else:
                        rollouts.append(rollout)
        return [played[seed] for seed in seeds]

    def close(self) -> None:
        """Close the games."""
        for env in self._games:
            close_game(env)

    def _begin(self, policy: Policy, *given: Any) -> _Rollout:
        """Begin an episode, in an idle game or in a new one."""
        env = self._idle.pop() if self._idle else self._new_game()
        try:
            return _Rollout(env, policy, *given)
        except (Exception, SystemExit):
            self._drop(env)
            raise

    @contextmanager
    def _replayed(
        self,
        seed: int,
        waiting: deque[int],
        failures: Counter[int],
        env: RealEnv | None = None,
    ) -> Iterator[None]:
        """Let the episode wait once more, and close its game, if the block fails."""
        try:
            yield
        except InputError:
            raise
        except (Exception, SystemExit) as error:  # they have no common class
            if env is not None:
                self._drop(env)
            failures[seed] += 1
            said = ": ".join(filter(None, (type(error).__name__, str(error))))
            if failures[seed] == ATTEMPTS:
                raise RuntimeError(
                    f"the episode with seed {seed} failed {ATTEMPTS} times: {said}"
                ) from error
            logger.warning("A game failed (%s); its episode is played again", said)
            waiting.appendleft(seed)

    def _new_game(self) -> RealEnv:
        self._games.append(RealEnv(self._environment))
        return self._games[-1]

    def _drop(self, env: RealEnv) -> None:
        """Close a game that failed, and do without it."""
        self._games.remove(env)
        close_game(env)


class ControllerPlayer(Player):
    """What a worker process holds: games, and a policy whose controller changes."""

    def __init__(
        self, environment: EnvironmentOptions, policy: ControllerPolicy
    ) -> None:
        super().__init__(environment, {"controller": policy})
        self.policy = policy

    def play_with(
        self, parameters: np.ndarray, seeds: list[int], keep_states: bool = False
    ) -> list[Episode]:
        """Episodes, without frames, of a controller with parameters (size,)."""
        self.policy.controller.set_parameters(torch.from_numpy(parameters).float())
        return self.play("controller", seeds, "none", keep_states)
