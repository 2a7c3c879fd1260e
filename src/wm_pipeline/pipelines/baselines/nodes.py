"""PPO in the dream and in the game, judged in the games in which C was judged."""

import importlib.util
import logging
from importlib import import_module
from typing import Any, ClassVar, Self

import pandas as pd
import plotly.graph_objects as go
from pydantic import Field, model_validator

from wm_pipeline.common.errors import InputError
from wm_pipeline.common.numbers import rounded
from wm_pipeline.common.options import Options, Seed, Workers
from wm_pipeline.common.randomness import stream
from wm_pipeline.dreaming.evaluator import DreamOptions
from wm_pipeline.environments.dream import check_controls
from wm_pipeline.environments.real import EnvironmentOptions
from wm_pipeline.models.actor import Actor
from wm_pipeline.models.world_model import WorldModel
from wm_pipeline.policies.actor_agent import ActorAgent
from wm_pipeline.policies.agent_policy import LatentAgentPolicy
from wm_pipeline.reporting.figures import evaluation_histogram
from wm_pipeline.reporting.statistics import mean_interval, paired_interval
from wm_pipeline.search.ppo_options import PPOOptions
from wm_pipeline.workers.engine import EngineOptions
from wm_pipeline.workers.here import games_here
from wm_pipeline.workers.scores import play_for_scores

logger = logging.getLogger(__name__)

PPO_IN = {"ppo_dream": "dream", "ppo_game": "game"}
"""Where each policy is trained."""


class BaselinesOptions(Options):
    """The policies that C is compared with.

    Attributes:
        seed: Of their training.
        dreams: Side by side, in which PPO is trained.
        games: Side by side, in which it is trained.
        ppo: Its budget, the same in dream and game, and how it is trained.
        sample_latents: Whether they see a sample of z in the game, or its mean.
        workers: Games side by side in which they are judged; null: one a core.
    """

    indifferent: ClassVar[frozenset[str]] = frozenset({"workers"})
    seed: Seed
    dreams: int = Field(default=64, ge=1, le=100_000)
    games: int = Field(default=4, ge=1, le=1000)
    ppo: PPOOptions
    sample_latents: bool = True
    workers: Workers | None

    @model_validator(mode="after")
    def _updates_are_even(self) -> Self:
        for what in ("dreams", "games"):
            count = getattr(self, what)
            if self.ppo.update_steps % count:
                raise ValueError(
                    f"ppo.update_steps: expected a multiple of {what}, {count}, found "
                    f"{self.ppo.update_steps}"
                )
        return self


def train_in_dream(
    world_model: WorldModel,
    environment: EnvironmentOptions,
    dream: DreamOptions,
    options: BaselinesOptions,
) -> tuple[Actor, pd.DataFrame]:
    """Train PPO in the dream, as C is.

    Args:
        world_model: V and M.
        environment: The game; of its action mapping alone the dream makes use.
        dream: Temperature and length of the dreams.
        options: The budget.

    Returns:
        The policy, and a row an update.

    Raises:
        InputError: Stable-Baselines3 is missing, or the actions do not fit M.
    """
    ppo = _sb3()
    steps = dream.steps(world_model.mdn_rnn.frame_skip)
    actions = environment.actions
    envs = ppo.dreams(world_model, actions, dream.temperature, steps, options.dreams)
    return _trained(ppo, envs, options, "PPO in the dream")


def train_in_game(
    world_model: WorldModel, environment: EnvironmentOptions, options: BaselinesOptions
) -> tuple[Actor, pd.DataFrame]:
    """Train PPO in the game itself, behind the same V and M.

    Args:
        world_model: V and M.
        environment: The game.
        options: The budget.

    Returns:
        The policy, and a row an update.

    Raises:
        InputError: Stable-Baselines3 is missing, or the actions do not fit M.
    """
    ppo = _sb3()
    check_controls(environment.actions, world_model)
    with games_here():
        envs = ppo.games(world_model, environment, options.games)
        return _trained(ppo, envs, options, "PPO in the game")


def judge_baselines(
    world_model: WorldModel,
    ppo_dream: Actor,
    ppo_game: Actor,
    evaluation_episodes: pd.DataFrame,
    environment: EnvironmentOptions,
    engine: EngineOptions,
    options: BaselinesOptions,
) -> pd.DataFrame:
    """Play the games of the evaluation with the baselines.

    Args:
        world_model: V and M.
        ppo_dream: Trained in the dream.
        ppo_game: Trained in the game.
        evaluation_episodes: Whose seeds are played, and whose rows are kept.
        environment: The game.
        engine: Where it is played.
        options: How.

    Returns:
        The real episodes of all policies, those of the evaluation first.

    Raises:
        InputError: The evaluation has agents of these names.
    """
    if taken := sorted(PPO_IN.keys() & {*evaluation_episodes["policy"]}):
        raise InputError(
            f"evaluation_episodes: {', '.join(taken)} is a baseline's name. Choose "
            "another in evaluation.policies, and evaluate again"
        )
    actors = {"ppo_dream": ppo_dream, "ppo_game": ppo_game}
    policies = {
        name: LatentAgentPolicy(
            ActorAgent(actor, environment.actions), world_model, options.sample_latents
        )
        for name, actor in actors.items()
    }
    real = evaluation_episodes[evaluation_episodes["world"] == "real"]
    of_c = real[real["policy"] == "controller"].sort_values("episode")
    engine = engine.with_workers(options.workers)
    seeds = of_c["seed"].tolist()
    played = play_for_scores(policies, environment, engine, seeds)
    return pd.concat([real, played], ignore_index=True)


def compare_baselines(
    baseline_episodes: pd.DataFrame,
    ppo_dream_log: pd.DataFrame,
    ppo_game_log: pd.DataFrame,
    world_model: WorldModel,
    options: BaselinesOptions,
) -> tuple[pd.DataFrame, go.Figure]:
    """What each policy scores, what C gains over it, and what it cost.

    Args:
        baseline_episodes: Of ``judge_baselines``.
        ppo_dream_log: Of the training in the dream.
        ppo_game_log: Of that in the game.
        world_model: Whose steps the logs count.
        options: The seed of the bootstrap.

    Returns:
        A row a policy: policy, episodes, mean, std, low and high of its return; gain,
        gain_low and gain_high, of C over it in the same games (NaN for C); and of what
        was trained here dream_steps (of M), game_steps and seconds, else NaN. And a
        histogram.
    """
    skip = world_model.mdn_rnn.frame_skip
    cost: dict[str, dict[str, float]] = {}
    for name, log in (("ppo_dream", ppo_dream_log), ("ppo_game", ppo_game_log)):
        steps, last = float(log["steps"].iloc[-1]), float(log["seconds"].iloc[-1])
        in_game = PPO_IN[name] == "game"
        cost[name] = {
            "dream_steps": 0.0 if in_game else steps,
            # At most: an episode may end amid a step of M.
            "game_steps": steps * skip if in_game else 0.0,
            "seconds": last,
        }
    random = stream(options.seed, "bootstrap")
    returns = {
        str(policy): rows.sort_values("episode")["return"].to_numpy()
        for policy, rows in baseline_episodes.groupby("policy", sort=False)
    }
    table = []
    for policy, found in returns.items():
        row: dict[str, Any] = {"policy": policy, **mean_interval(found, random)}
        if policy != "controller":
            gain = paired_interval(returns["controller"], found, random)
            row |= {
                "gain": gain["mean"],
                "gain_low": gain["low"],
                "gain_high": gain["high"],
            }
        table.append(row | cost.get(policy, {}))
    for row in table:
        if row["policy"] in PPO_IN:
            logger.info(
                "PPO in the %s scores %s; C gains %s over it (%s to %s)",
                PPO_IN[row["policy"]],
                *rounded(row["mean"]),
                *rounded(row["gain"], row["gain_low"], row["gain_high"], sign="+"),
            )
    return pd.DataFrame(table), evaluation_histogram(baseline_episodes)


def _sb3() -> Any:
    """Our module over Stable-Baselines3, if that is installed."""
    if importlib.util.find_spec("stable_baselines3") is None:
        raise InputError(
            "baselines: they need Stable-Baselines3: pip install 'wm-pipeline[sb3]'"
        )
    return import_module("wm_pipeline.search.ppo")


def _trained(
    ppo: Any, envs: Any, options: BaselinesOptions, name: str
) -> tuple[Actor, pd.DataFrame]:
    actor, log = ppo.train_ppo(envs, options.ppo, options.seed % 2**32, name)
    return actor, log
