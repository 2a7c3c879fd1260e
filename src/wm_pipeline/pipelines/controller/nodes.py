"""Train C in the dream."""

import logging

import pandas as pd
import plotly.graph_objects as go
from pydantic import Field

from wm_pipeline.environments.real import EnvironmentOptions
from wm_pipeline.evolution.evaluators import DreamEvaluator, DreamOptions
from wm_pipeline.evolution.training import EvolutionOptions, evolve
from wm_pipeline.models.controller import Controller, ControllerOptions
from wm_pipeline.models.world_model import WorldModel
from wm_pipeline.options import Options
from wm_pipeline.reporting.figures import fitness_curve

logger = logging.getLogger(__name__)


class ControllerStageOptions(Options):
    """C and its search.

    Attributes:
        seed: Of the search and of the dreams.
        model: What C reads.
        evolution: The search and its budget.
    """

    seed: int = Field(ge=0)
    model: ControllerOptions
    evolution: EvolutionOptions


def train_controller(
    world_model: WorldModel,
    environment: EnvironmentOptions,
    dream: DreamOptions,
    options: ControllerStageOptions,
) -> tuple[Controller, pd.DataFrame, go.Figure]:
    """Find C with CMA-ES, wholly inside the dream.

    Args:
        world_model: V and M.
        environment: The game; only its action mapping is used.
        dream: Temperature and length of the dreams.
        options: C and its search.

    Returns:
        The controller, the fitness log (one row a generation) and its curve.
    """
    architecture = Controller(
        options.model,
        world_model.vae.latent_size,
        world_model.mdn_rnn.hidden_size,
        environment.actions.outputs,
    )
    evaluator = DreamEvaluator(
        world_model, architecture, environment.actions, dream, options.seed
    )
    result = evolve(evaluator, options.evolution, options.seed)
    logger.info("Delivered: the search's %s", result.delivered)
    return result.controller, result.fitness_log, fitness_curve(result.fitness_log)
