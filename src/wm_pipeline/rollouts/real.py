"""Episodes of the real game, played in parallel worker processes that may die."""

import contextlib
import logging
import os
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import psutil
import torch
from loky.process_executor import ProcessPoolExecutor

from wm_pipeline.environments.real import EnvironmentOptions, RealEnv
from wm_pipeline.rollouts.episodes import Episode, play_episode
from wm_pipeline.rollouts.policies import Policy

logger = logging.getLogger(__name__)

ATTEMPTS = 3
"""How often an episode is played before its failure is the caller's."""


def play_episodes(
    environment: EnvironmentOptions,
    policies: Mapping[str, Policy],
    games: Sequence[tuple[str, int]],
    workers: int,
    keep_frames: bool,
) -> Iterator[Episode]:
    """Play many episodes in worker processes.

    A game that fails is started anew and its episode replayed; a worker process that
    dies is replaced and its episodes are played again, with the same seeds.

    Args:
        environment: The game, made once in each worker.
        policies: Who can play, by name; a copy of all goes to each worker.
        games: The name of the policy and the seed of each episode.
        workers: How many processes, 1 or more.
        keep_frames: Whether the frames are returned.

    Yields:
        The episodes, in the order of ``games``.

    Raises:
        ValueError: The environment cannot be made.
        RuntimeError: An episode, or its worker, failed ``ATTEMPTS`` times.
    """
    RealEnv(environment).close()  # a bad option fails here, not in every worker
    with tempfile.TemporaryDirectory(prefix="wm_games_") as scratch:
        team = _Team(environment, policies, keep_frames, workers, Path(scratch))
        try:
            yield from team.play(games)
        finally:
            team.close()


class _Team:
    """Worker processes playing episodes, replaced together when one of them dies."""

    def __init__(
        self,
        environment: EnvironmentOptions,
        policies: Mapping[str, Policy],
        keep_frames: bool,
        workers: int,
        scratch: Path,
    ) -> None:
        self._arguments = (
            environment,
            policies,
            keep_frames,
            str(scratch),
            os.getpid(),
        )
        self._workers, self._scratch = workers, scratch
        self._executor = self._start()

    def play(self, games: Sequence[tuple[str, int]]) -> Iterator[Episode]:
        """The episodes in order; those of a worker that died are played again."""
        # A few more than the workers keeps them busy, and memory bounded.
        ahead = 3 * self._workers
        pending: dict[int, Future[Episode]] = {}
        deaths = 0
        position = 0
        while position < len(games):
            try:
                for index in range(position, min(position + ahead, len(games))):
                    if index not in pending:
                        pending[index] = self._executor.submit(_play, *games[index])
                episode = pending[position].result()
            except BrokenProcessPool as error:
                deaths += 1
                if deaths == ATTEMPTS:
                    raise RuntimeError(
                        f"worker processes died {deaths} times in a row, at or soon "
                        f"after the episode with seed {games[position][1]}: {error}"
                    ) from error
                logger.warning("A worker process died; its episodes are played again")
                self.close()
                pending = {i: f for i, f in pending.items() if _succeeded(f)}
                self._executor = self._start()
                continue
            del pending[position]
            deaths = 0
            position += 1
            yield episode

    def close(self) -> None:
        """Stop the workers, and the games that a killed worker may have left behind."""
        self._executor.shutdown(wait=True, kill_workers=True)
        _kill_processes_in(self._scratch)

    def _start(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(
            self._workers, initializer=_start_worker, initargs=self._arguments
        )


def _succeeded(future: Future[Episode]) -> bool:
    return future.done() and not future.cancelled() and future.exception() is None


def _kill_processes_in(folder: Path) -> None:
    """Kill every process whose working directory lies in ``folder``.

    A game is a process of its own; when its worker is killed it would wait for ever.
    """
    for process in psutil.process_iter():
        try:
            if Path(process.cwd()).is_relative_to(folder):
                process.kill()
        except (psutil.Error, OSError):
            continue


class _Worker:
    """What a worker process holds: the game and the policy."""

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


_worker: _Worker | None = None


def _start_worker(
    environment: EnvironmentOptions,
    policies: Mapping[str, Policy],
    keep_frames: bool,
    scratch: str,
    parent: int,
) -> None:
    """Prepare a worker process: own folder, one thread, Ctrl-C left to the parent."""
    global _worker  # noqa: PLW0603  a worker process holds its game for its lifetime
    os.setpgrp()  # a terminal sends Ctrl-C to its whole group, the games included
    watch = threading.Thread(target=_end_with, args=(parent,), daemon=True)
    watch.start()
    _keep_pipes_from_games()
    os.chdir(tempfile.mkdtemp(dir=scratch))  # VizDoom writes into its folder
    torch.set_num_threads(1)
    _worker = _Worker(environment, policies, keep_frames)


def _end_with(parent: int) -> None:
    """End this worker and its game when the process that started it is gone.

    A killed parent tells nobody; worker and game would wait for work for ever.
    """
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(parent).wait()
    for game in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            game.kill()
    os._exit(1)


def _keep_pipes_from_games() -> None:
    """Let no game inherit this worker's pipes.

    loky sees a worker's death by a pipe closing; a game that holds a copy of its end
    outlives a killed worker, and the run would wait for ever.
    """
    for name in os.listdir("/dev/fd"):
        with contextlib.suppress(OSError):
            if int(name) > sys.stderr.fileno():
                os.set_inheritable(int(name), False)


def _play(policy: str, seed: int) -> Episode:
    assert _worker is not None, "the worker was not started"
    return _worker.play(policy, seed)
