"""Play the dream and the real game with C, beside random baselines."""

from typing import Any, ClassVar

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import torch
from pydantic import Field

from wm_pipeline.common import progress
from wm_pipeline.common.errors import InputError
from wm_pipeline.common.options import Options, Seed, Sigma, StepRange, Workers
from wm_pipeline.common.randomness import stream
from wm_pipeline.dreaming.evaluator import DreamEvaluator, DreamOptions
from wm_pipeline.dreaming.loop import dream
from wm_pipeline.dreaming.noise import DreamNoise
from wm_pipeline.dreaming.policies import script_of
from wm_pipeline.environments.real import EnvironmentOptions
from wm_pipeline.models.controller import Controller
from wm_pipeline.models.world_model import WorldModel
from wm_pipeline.policies.controller_policy import ControllerPolicy
from wm_pipeline.policies.policy import Policy
from wm_pipeline.policies.random_policy import RandomPolicy
from wm_pipeline.reporting.figures import evaluation_histogram
from wm_pipeline.reporting.statistics import difference_interval, mean_interval
from wm_pipeline.workers.playing import play_episodes


class EvaluationOptions(Options):
    """How the controller is judged.

    Attributes:
        seed: Of the games and dreams; other stages never see these episodes.
        episodes: Episodes a policy and world.
        hold: The least and the most steps the held random policy holds an action.
        untrained_sigma: Standard deviation of the untrained controller's weights.
        sample_latents: Whether C sees a sample of z in the real game, as in the dream,
            or its mean.
        workers: Games played side by side, each in a process; null: one a core.
    """

    indifferent: ClassVar[frozenset[str]] = frozenset({"workers"})
    seed: Seed
    episodes: int = Field(ge=2, le=100_000)
    hold: StepRange
    untrained_sigma: Sigma
    sample_latents: bool
    workers: Workers | None


def evaluate(
    world_model: WorldModel,
    controller: Controller,
    environment: EnvironmentOptions,
    dream_options: DreamOptions,
    options: EvaluationOptions,
) -> pd.DataFrame:
    """Play the same fresh episodes with the controller and with the baselines.

    Args:
        world_model: V and M.
        controller: C.
        environment: The game.
        dream_options: The dream.
        options: How many episodes, and the baselines.

    Returns:
        One row an episode: policy, world, episode, seed, return, steps.
    """
    untrained = Controller.from_config(controller.config())
    random = stream(options.seed, "untrained controller")
    weights = random.normal(0, options.untrained_sigma, untrained.size)
    untrained.set_parameters(torch.from_numpy(weights).float())
    players = {"controller": controller, "untrained": untrained}
    randoms = {
        "random_held": RandomPolicy(environment.actions, options.hold),
        "random_uniform": RandomPolicy(environment.actions, (1, 1)),
    }
    tables = []
    for name, player in players.items():
        evaluator = DreamEvaluator(
            world_model, player, environment.actions, dream_options, options.seed
        )
        tables.append(_dream_with(name, evaluator, options.episodes))
    for name, at_random in randoms.items():
        tables.append(
            _dream_at_random(name, at_random, world_model, dream_options, options)
        )
    policies: dict[str, Policy] = {
        name: ControllerPolicy(
            world_model, player, environment.actions, options.sample_latents
        )
        for name, player in players.items()
    }
    tables.append(_play_for_real(policies | randoms, environment, options))
    played = pd.concat(tables, ignore_index=True)
    failed = played[~np.isfinite(played["return"])]
    if not failed.empty:
        first = failed.iloc[0]
        raise InputError(
            f"evaluation: expected finite returns, found {first['return']} of the policy "
            f"{first['policy']} in the {first['world']} world"
        )
    return played


def summarise(
    episodes: pd.DataFrame, options: EvaluationOptions
) -> tuple[dict[str, Any], go.Figure]:
    """Means with intervals, the gain over the held random policy, and a histogram.

    Args:
        episodes: Of ``evaluate``.
        options: The seed of the bootstrap.

    Returns:
        The summary: ``real`` and ``dream``, each policy's mean, std and 95% interval;
        and ``gain_over_random_held``, the difference in the real game with its 95%
        interval. And the histogram of real returns.
    """
    random = stream(options.seed, "bootstrap")
    summary: dict[str, Any] = {
        str(world): {
            str(policy): mean_interval(rows["return"].to_numpy(), random)
            for policy, rows in table.groupby("policy")
        }
        for world, table in episodes.groupby("world")
    }
    real = episodes[episodes["world"] == "real"]
    summary["gain_over_random_held"] = difference_interval(
        real.loc[real["policy"] == "controller", "return"].to_numpy(),
        real.loc[real["policy"] == "random_held", "return"].to_numpy(),
        random,
    )
    return summary, evaluation_histogram(episodes)


def _dream_with(name: str, evaluator: DreamEvaluator, episodes: int) -> pd.DataFrame:
    vector = evaluator.controller.parameters_vector.numpy()
    result = evaluator.evaluate(vector[None], episodes, "evaluation dreams")
    steps = result.steps[0] * evaluator.world_model.mdn_rnn.frame_skip
    seeds = [evaluator.seed] * episodes
    return _table(name, "dream", seeds, result.returns[0].numpy(), steps.numpy())


def _dream_at_random(
    name: str,
    policy: RandomPolicy,
    world_model: WorldModel,
    dream_options: DreamOptions,
    options: EvaluationOptions,
) -> pd.DataFrame:
    frame_skip = world_model.mdn_rnn.frame_skip
    steps = dream_options.steps(frame_skip)
    script = script_of(policy, options.episodes, steps, frame_skip, options.seed)
    noise = DreamNoise.draw(
        world_model, options.episodes, options.seed, "evaluation dreams"
    )
    result = dream(world_model, script, 1, noise, dream_options.temperature, steps)
    seeds = [options.seed] * options.episodes
    lengths = (result.steps * frame_skip).numpy()
    return _table(name, "dream", seeds, result.returns.numpy(), lengths)


def _play_for_real(
    policies: dict[str, Policy],
    environment: EnvironmentOptions,
    options: EvaluationOptions,
) -> pd.DataFrame:
    random = stream(options.seed, "evaluation")
    seeds = random.integers(2**31, size=options.episodes).tolist()
    games = [(name, seed) for name in policies for seed in seeds]
    scores: dict[str, list[tuple[float, int]]] = {name: [] for name in policies}
    with progress.task("Playing the real game", len(games), "episodes") as task:
        played = play_episodes(environment, policies, games, options.workers, False)
        for (name, _), episode in zip(games, played, strict=True):
            scores[name].append((float(episode.rewards.sum()), len(episode.rewards)))
            mean = np.mean([episode_return for episode_return, _ in scores[name]])
            task.advance(note=f"{name} {mean:,.0f}")
    tables = []
    for name, rows in scores.items():
        returns, steps = zip(*rows, strict=True)
        tables.append(_table(name, "real", seeds, np.array(returns), np.array(steps)))
    return pd.concat(tables)


def _table(
    policy: str, world: str, seeds: list[int], returns: np.ndarray, steps: np.ndarray
) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "policy": policy,
            "world": world,
            "episode": np.arange(len(seeds)),
            "seed": seeds,
            "return": returns.astype(np.float64),
            "steps": steps.astype(np.int64),
        }
    )
