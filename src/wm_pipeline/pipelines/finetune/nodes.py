"""Train C on in the game itself, behind V and M as they are."""

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import ClassVar

import pandas as pd
import plotly.graph_objects as go

from wm_pipeline.common.errors import InputError
from wm_pipeline.common.options import Options, Seed
from wm_pipeline.common.resuming import to_resume
from wm_pipeline.environments.real import EnvironmentOptions
from wm_pipeline.models.controller import Controller, ControllerOptions
from wm_pipeline.models.training_state import TrainingState
from wm_pipeline.models.world_model import WorldModel
from wm_pipeline.policies.controller_policy import ControllerPolicy
from wm_pipeline.reporting.figures import finetuning_figure
from wm_pipeline.search.game_gradient import (
    GameGradientOptions,
    improve_in_game,
    log_of,
    trained,
)
from wm_pipeline.search.policy_gradient import (
    Critic,
    exploring,
    new_policy,
)
from wm_pipeline.workers.engine import EngineOptions


class FinetuneOptions(Options):
    """C in the game.

    Attributes:
        seed: Of the games, and of C's decisions and weights.
        resume: Whether to resume the newest training.
        sample_latents: Whether C sees a sample of z in the game, or its mean.
        model: The architecture of a new C, where there are no rounds before.
        gradient: How it is trained.
    """

    indifferent: ClassVar[frozenset[str]] = frozenset({"resume"})
    seed: Seed
    resume: bool = False
    sample_latents: bool = True
    model: ControllerOptions
    gradient: GameGradientOptions


def finetune_controller(
    world_model: WorldModel,
    environment: EnvironmentOptions,
    engine: EngineOptions,
    options: FinetuneOptions,
    earlier_finetuning: Callable[[], TrainingState | None],
    explorer: Controller | None = None,
    critic: Critic | None = None,
) -> Iterator[tuple[pd.DataFrame, TrainingState]]:
    """Train C on in the game, or a new one.

    Args:
        world_model: V and M.
        environment: The game.
        engine: Where it is played.
        options: How.
        earlier_finetuning: Reads the newest state, if there is one, which is resumed if
            asked for.
        explorer: C of the last round, as it explores; without one a new C begins.
        critic: Its critic.

    Yields:
        While it is trained: the log, one row an iteration, and the state.
    """
    before = to_resume("training", options.resume, earlier_finetuning)
    if explorer is None or critic is None:
        explorer, critic = new_policy(
            options.model, world_model, environment.actions, options.seed
        )
    policy = ControllerPolicy(
        world_model, explorer, exploring(environment.actions), options.sample_latents
    )
    states = improve_in_game(
        policy,
        critic,
        environment,
        engine,
        options.gradient,
        options.seed,
        before,
    )
    with closing(states):
        for state in states:
            yield log_of(state), state


def select_finetuned(finetuning: TrainingState) -> tuple[Controller, go.Figure]:
    """C without noise at the end of its training, and the curve.

    Raises:
        InputError: The training is interrupted.
    """
    if not finetuning.finished:
        raise InputError(
            f"finetuning: expected a training that is finished, found one interrupted after "
            f"iteration {finetuning.step}. Resume it with `kedro run --pipelines finetune "
            "--params finetune.resume=true`"
        )
    return trained(finetuning).without_noise(), finetuning_figure(log_of(finetuning))
