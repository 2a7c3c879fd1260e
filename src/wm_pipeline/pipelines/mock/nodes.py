"""The mock games' world models, written down."""

from typing import Literal

from wm_pipeline.common.options import Options
from wm_pipeline.dreaming.evaluator import DreamOptions
from wm_pipeline.environments.make import made_with
from wm_pipeline.environments.mock import mock_world_model
from wm_pipeline.environments.mock_needles import needles_world_model
from wm_pipeline.environments.real import EnvironmentOptions
from wm_pipeline.models.world_model import WorldModel

WORLDS = {"balance": mock_world_model, "needles": needles_world_model}


class MockOptions(Options):
    """Which game is played; that of ``parameters_games/`` has the same name.

    Attributes:
        game: ``balance`` has three actions and pays for each step; ``needles`` has three
            continuous ones, and may cost.
    """

    game: Literal["balance", "needles"]


def make_mock_world_model(
    environment: EnvironmentOptions, dream: DreamOptions, options: MockOptions
) -> WorldModel:
    """V and M of a mock game, which need no training.

    Args:
        environment: The game, whose action mapping the world model remembers.
        dream: The dream, which it remembers.
        options: Which.
    """
    world_model = WORLDS[options.game]()
    steps = dream.steps(world_model.mdn_rnn.frame_skip)
    return made_with(world_model, environment.actions, dream.temperature, steps)
