"""Returns of policies in the same real games."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from wm_pipeline.common import progress
from wm_pipeline.common.numbers import rounded
from wm_pipeline.environments.real import EnvironmentOptions
from wm_pipeline.policies.policy import Policy
from wm_pipeline.workers.engine import EngineOptions
from wm_pipeline.workers.playing import play_episodes


def play_for_scores(
    policies: Mapping[str, Policy],
    environment: EnvironmentOptions,
    engine: EngineOptions,
    seeds: Sequence[int],
) -> pd.DataFrame:
    """Play the same games with each policy.

    Args:
        policies: By name.
        environment: The game.
        engine: Where it is played.
        seeds: Of the games.

    Returns:
        The rows of ``score_rows``, policy by policy; the world is ``real``.

    Raises:
        InputError: As ``play_episodes``.
    """
    games = [(name, seed) for name in policies for seed in seeds]
    scores: dict[str, list[tuple[float, int, bool]]] = {name: [] for name in policies}
    with progress.task("Playing the real game", len(games), "episodes") as task:
        played = play_episodes(environment, policies, games, engine, "none")
        for (name, _), episode in zip(games, played, strict=True):
            scores[name].append(
                (episode.episode_return, len(episode.rewards), episode.terminated)
            )
            mean = np.mean([episode_return for episode_return, *_ in scores[name]])
            task.advance(note=f"{name} {rounded(float(mean))[0]}")
    tables = []
    for name, rows in scores.items():
        columns = (np.array(column) for column in zip(*rows, strict=True))
        tables.append(score_rows(name, "real", seeds, *columns))
    return pd.concat(tables)


def score_rows(
    policy: str,
    world: str,
    seeds: Sequence[int],
    returns: np.ndarray,
    steps: np.ndarray,
    terminated: np.ndarray,
) -> pd.DataFrame:
    """A row an episode: policy, world, episode, seed, return, steps, terminated.

    Args:
        policy: Its name.
        world: ``real`` or ``dream``.
        seeds: Of the episodes.
        returns: (episodes,).
        steps: Of the game, (episodes,).
        terminated: Whether the world ended each, rather than a cap, (episodes,).
    """
    return pd.DataFrame(
        {
            "policy": policy,
            "world": world,
            "episode": np.arange(len(seeds)),
            "seed": seeds,
            "return": returns.astype(np.float64),
            "steps": steps.astype(np.int64),
            "terminated": terminated.astype(bool),
        }
    )
