"""An action held for several steps of a game, of which only the last is looked at."""

from typing import Any, NamedTuple

import gymnasium
from gymnasium.wrappers import OrderEnforcing, PassiveEnvChecker

from wm_pipeline.environments.checks import refuse_other_methods, reward_of

_TRANSPARENT = (OrderEnforcing, PassiveEnvChecker)
"""Wrappers to which a step is a step, however long."""


class Held(NamedTuple):
    """What came of it.

    Attributes:
        steps: Taken, fewer where the episode ended.
        observation: The last one.
        reward: Of all steps.
        terminated: Whether the game ended the episode.
        truncated: Whether a cap on its length did.
        info: The last step's.
    """

    steps: int
    observation: Any
    reward: float
    terminated: bool
    truncated: bool
    info: dict[str, Any]


def hold(game: gymnasium.Env[Any, Any], action: Any, steps: int) -> Held:
    """Take an action for some steps, or until the episode ends.

    VizDoom draws the last one alone: most of its time goes into drawing. It calls its
    own timeout an end too, which it is only for who dies in that step.

    Args:
        game: In an episode.
        action: The game's own.
        steps: 1 or more.

    Raises:
        InputError: What a step gives is not as in Gymnasium.
    """
    doom = _doom_in(game)
    # Of a closed game VizDoom itself says so; to ask it for its time ends the process.
    if doom is not None and steps > 1 and doom.game.is_running():
        held = _hold_in_doom(game, doom, action, steps)
    else:
        held = _hold_step_by_step(game, action, steps)
    return held._replace(terminated=False) if _outlived(game, held) else held


def _hold_step_by_step(game: gymnasium.Env[Any, Any], action: Any, steps: int) -> Held:
    total, taken, over = 0.0, 0, False
    while taken < steps and not over:
        try:
            observation, reward, terminated, truncated, info = game.step(action)
        except (TypeError, ValueError) as error:
            refuse_other_methods(
                "step(action) must return (observation, reward, terminated, truncated, "
                "info)",
                error,
            )
            raise
        total, taken = total + reward_of(reward), taken + 1
        over = terminated or truncated
    return Held(taken, observation, total, bool(terminated), bool(truncated), info)


def _doom_in(game: gymnasium.Env[Any, Any]) -> Any:
    """VizDoom's environment, or None where it is none, or something counts its steps."""
    while isinstance(game, gymnasium.Wrapper):
        if type(game) not in _TRANSPARENT:
            return None
        game = game.env
    return game if _is_doom(game) else None


def _is_doom(game: gymnasium.Env[Any, Any]) -> bool:
    return type(game).__module__.startswith("vizdoom.")


def _outlived(game: gymnasium.Env[Any, Any], held: Held) -> bool:
    """Whether a cap alone ended an episode that VizDoom says has ended."""
    doom: Any = game.unwrapped
    return held.truncated and _is_doom(doom) and not doom.game.is_player_dead()


def _hold_in_doom(
    game: gymnasium.Env[Any, Any], doom: Any, action: Any, steps: int
) -> Held:
    tics, before = doom.frame_skip, doom.game.get_episode_time()
    doom.frame_skip = tics * steps
    try:
        observation, reward, terminated, truncated, info = game.step(action)
    finally:
        doom.frame_skip = tics
    taken = -(-(doom.game.get_episode_time() - before) // tics)
    return Held(
        taken, observation, reward_of(reward), bool(terminated), bool(truncated), info
    )
