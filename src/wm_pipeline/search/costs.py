"""What a policy cost: steps of M and of the game, and seconds, from the logs it left."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from wm_pipeline.models.controller import Controller
from wm_pipeline.search.state import CLOCKS, SearchState
from wm_pipeline.workers.evaluators import World


def came_of(controller: Controller, search: SearchState) -> bool:
    """Whether a search ended with this controller."""
    found = controller.get_parameters().numpy()
    ends = (search.mean, search.best)
    return any(np.array_equal(found, end.astype(np.float32)) for end in ends)


def log_of_search(fitness_log: pd.DataFrame, episodes: int) -> pd.DataFrame:
    """A search's log with the columns that PPO's has.

    Args:
        fitness_log: Of the search.
        episodes: Dreams, or games, a generation.

    Returns:
        A row a generation: steps so far, episodes, mean_return, mean_steps and seconds
        so far.
    """
    return pd.DataFrame(
        {
            "steps": fitness_log["steps"].cumsum(),
            "episodes": episodes,
            "mean_return": fitness_log["mean"],
            "mean_steps": fitness_log["steps"] / episodes,
            "seconds": fitness_log[[*CLOCKS]].sum(axis=1).cumsum(),
        }
    )


def cost_of_training(
    log: pd.DataFrame, world: World, frame_skip: int
) -> dict[str, float]:
    """The cost of a search, or of PPO.

    Args:
        log: A row a generation, or an update: steps of M and seconds so far.
        world: Where it was.
        frame_skip: Steps of the game in one of M.

    Returns:
        ``dream_steps`` (of M), ``game_steps``, at most, as an episode may end amid a step
        of M, and ``seconds``.
    """
    steps, seconds = float(log["steps"].iloc[-1]), float(log["seconds"].iloc[-1])
    in_game = world == "real"
    return {
        "dream_steps": 0.0 if in_game else steps,
        "game_steps": steps * frame_skip if in_game else 0.0,
        "seconds": seconds,
    }


def cost_by_gradient(logs: Sequence[pd.DataFrame]) -> dict[str, float]:
    """The cost of a controller's training by its gradient, in rounds and in the game.

    Args:
        logs: Of what was played and learned, each with the steps of its rows: of M where it
            has ``dream_seconds``, else of the game. Seconds are known of C's training alone,
            not of the games of rounds, nor of M's training.

    Returns:
        As ``cost_of_training``.
    """
    steps, seconds = {"dream": 0.0, "game": 0.0}, 0.0
    for log in logs:
        world = "dream" if "dream_seconds" in log else "game"
        steps[world] += float(log["steps"].sum())
        seconds += float(log.filter(like="_seconds").sum().sum())
    return {
        "dream_steps": steps["dream"],
        "game_steps": steps["game"],
        "seconds": seconds,
    }
