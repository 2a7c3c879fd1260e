"""Join V and M to the world model, and look at its dreams."""

import logging
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import torch
from gymnasium.utils.env_checker import check_env
from pydantic import Field

from wm_pipeline.common.devices import Device, copied_to
from wm_pipeline.common.numbers import rounded
from wm_pipeline.common.options import Options, Rollouts, Seed, StepRange
from wm_pipeline.common.randomness import game_seeds, stream
from wm_pipeline.dreaming.evaluator import DreamOptions, dream_without_eyes
from wm_pipeline.environments.dream import Decision, Dreams
from wm_pipeline.environments.dream_env import DreamEnv
from wm_pipeline.environments.game import without_advice
from wm_pipeline.environments.make import made_with
from wm_pipeline.environments.real import EnvironmentOptions
from wm_pipeline.episodes.sequences import check_latents
from wm_pipeline.episodes.shards import EpisodeShards
from wm_pipeline.fidelity.comparison import compare_worlds
from wm_pipeline.models.mdn_rnn import MDNRNN
from wm_pipeline.models.salience import SalienceRule
from wm_pipeline.models.vae import ConvVAE
from wm_pipeline.models.world_model import WorldModel, build_world_model
from wm_pipeline.policies.random_policy import RandomPolicy
from wm_pipeline.policies.scripted_policy import CyclePolicy
from wm_pipeline.policies.unseeing import UnseeingPolicy, controls_for_dreams
from wm_pipeline.reporting.animations import animation
from wm_pipeline.reporting.fidelity_figures import fidelity_figure, sweeps_figure
from wm_pipeline.reporting.films import film_dream
from wm_pipeline.search.blind import BlindPolicy
from wm_pipeline.workers.engine import EngineOptions

logger = logging.getLogger(__name__)

MOST_STARTS = 1000
"""Real episodes in whose first latents dreams begin; more only take longer to read."""


class DreamCheckOptions(Options):
    """A first look at the dream.

    Attributes:
        seed: Of the dreams.
        rollouts: Dreams of each constant action, and of the random policy.
        hold: The least and the most steps a random action is held.
        animation_steps: The most steps of M in the animation.
        things: Which pixels are of things, by whose number and growth the dream is
            compared with the game; without it those that are unlike themselves.
        watched: Games, and dreams, of a policy that are compared.
        sweeps: Policies without eyes whose scores are; 0 compares none.
        device: Where the dreams are.
    """

    indifferent: ClassVar[frozenset[str]] = frozenset({"device"})
    seed: Seed
    rollouts: Rollouts
    hold: StepRange
    animation_steps: int = Field(ge=1, le=10_000)
    things: SalienceRule | None = None
    watched: int = Field(ge=2, le=10_000)
    sweeps: int = Field(ge=0, le=1000)
    device: Device = "auto"


def load_world_model(
    vae: ConvVAE,
    mdn_rnn: MDNRNN,
    latents: EpisodeShards,
    environment: EnvironmentOptions,
    options: DreamOptions,
) -> WorldModel:
    """Join V and M from their checkpoints with the latents in which episodes began.

    Args:
        vae: V.
        mdn_rnn: M.
        latents: Of the real game's episodes, made by ``vae``.
        environment: The game, whose action mapping the world model remembers.
        options: The dream, which it remembers.

    Returns:
        The world model: one file, all that the later stages need.

    Raises:
        ValueError: V, M and the latents do not belong together.
    """
    check_latents(latents, vae)
    firsts = [
        latents.read(episode, ["mean", "log_variance"])
        for episode in range(min(len(latents), MOST_STARTS))
    ]
    means = np.stack([first["mean"][0] for first in firsts]).astype(np.float32)
    log_variances = np.stack([first["log_variance"][0] for first in firsts])
    world_model = build_world_model(
        vae,
        mdn_rnn,
        torch.from_numpy(means),
        torch.from_numpy(log_variances.astype(np.float32)),
    )
    steps = options.steps(mdn_rnn.frame_skip)
    return made_with(world_model, environment.actions, options.temperature, steps)


def check_dream(
    world_model: WorldModel,
    latents: EpisodeShards,
    environment: EnvironmentOptions,
    options: DreamOptions,
    check: DreamCheckOptions,
) -> dict[str, float]:
    """Check the environment, and what simple policies come to in it.

    A dream in which doing the same all the time, or random play, lasts much longer than
    in the game, or pays much more, is one in which nothing happens; a controller trained
    in it will be useless.

    Args:
        world_model: V and M.
        latents: The real game's episodes, played by random policies.
        environment: The game.
        options: The dream.
        check: How many dreams.

    Returns:
        Mean steps of the environment: ``shortest_constant_dream`` and
        ``longest_constant_dream`` (of the actions, when one never changes),
        ``random_held_dream`` and ``collected_real``. And mean returns:
        ``worst_constant_return``, ``best_constant_return``, ``random_held_return`` and
        ``collected_return``.

    Raises:
        AssertionError: Gymnasium's checker finds fault with the environment.
    """
    mdn_rnn = world_model.mdn_rnn
    cap = options.steps(mdn_rnn.frame_skip)
    env = DreamEnv(world_model, environment.actions, options.temperature, cap)
    with without_advice():
        check_env(env, skip_render_check=True)
    logger.info("The dream environment passes Gymnasium's checker")
    world_model = copied_to(check.device, world_model)

    def comes_to(policy: UnseeingPolicy, purpose: str) -> tuple[float, float]:
        result = dream_without_eyes(
            world_model, policy, options, check.rollouts, check.seed, purpose
        )
        steps = result.steps.double().mean().item() * mdn_rnn.frame_skip
        return steps, result.returns.double().mean().item()

    held = RandomPolicy(environment.actions, check.hold)
    constant = [
        comes_to(CyclePolicy(control[None, None], (1, 1)), "constant")
        for control in environment.actions.constants
    ]
    steps, paid = zip(*constant, strict=True)
    random = comes_to(held, "random held")
    rewards, pays_for_time = _rewards(latents)
    lengths = {
        "shortest_constant_dream": min(steps),
        "longest_constant_dream": max(steps),
        "random_held_dream": random[0],
        "collected_real": float(latents.lengths.mean()),
    }
    returns = {
        "worst_constant_return": min(paid),
        "best_constant_return": max(paid),
        "random_held_return": random[1],
        "collected_return": rewards,
    }
    said = (
        "In the dream a constant action lasts %s to %s steps, random play %s; the "
        "collected episodes lasted %s"
        if pays_for_time
        else "In the dream a constant action pays %s to %s, random play %s; the "
        "collected episodes paid %s"
    )
    logger.info(said, *rounded(*(lengths if pays_for_time else returns).values()))
    return lengths | returns


def _rewards(latents: EpisodeShards) -> tuple[float, bool]:
    """The mean return of the collected episodes; whether all their steps pay the same."""
    episodes = [
        latents.read(number, ["reward"])["reward"] for number in range(len(latents))
    ]
    paid = np.concatenate(episodes)
    mean = float(np.mean([episode.sum() for episode in episodes]))
    return mean, bool(paid[0] > 0 and (paid == paid[0]).all())


def measure_dream(
    world_model: WorldModel,
    blind_policies: dict[str, Any],
    environment: EnvironmentOptions,
    engine: EngineOptions,
    options: DreamOptions,
    check: DreamCheckOptions,
) -> tuple[pd.DataFrame, go.Figure]:
    """Compare the dream with the game under random play and the best blind policy.

    Args:
        world_model: V and M.
        blind_policies: Those without eyes, the best first.
        environment: The game.
        engine: Where it is played.
        options: The dream.
        check: How many games and dreams.

    Returns:
        The rows of ``compared`` for each ``policy``; and a figure.
    """
    policies: dict[str, UnseeingPolicy] = {
        "random play": RandomPolicy(environment.actions, check.hold),
        "the best blind policy": _blind(blind_policies)[0].policy(),
    }
    frame_skip = world_model.mdn_rnn.frame_skip
    steps = options.steps(frame_skip)
    seeds = game_seeds(check.watched, check.seed, "fidelity, scripts")
    tables = [
        compare_worlds(
            name,
            policy,
            environment,
            _scripted(policy, seeds, steps, frame_skip),
            Dreams(world_model, check.watched, options.temperature),
            steps,
            check.things,
            check.seed,
            engine,
        )[0]
        for name, policy in policies.items()
    ]
    table = pd.concat(tables, ignore_index=True)
    return table, fidelity_figure(table)


def measure_sweeps(
    world_model: WorldModel,
    blind_policies: dict[str, Any],
    options: DreamOptions,
    check: DreamCheckOptions,
) -> tuple[pd.DataFrame, go.Figure]:
    """Dream with policies without eyes, whose scores in the game are known.

    What the dream is worth for a search is whether it ranks policies as the game does.

    Args:
        world_model: V and M.
        blind_policies: Those without eyes, the best first.
        options: The dream.
        check: How many, and how many dreams of each.

    Returns:
        One row a policy: ``name``, ``period``, ``games``, and the mean return in the
        ``game`` and in the ``dream``; and a figure.
    """
    world_model = copied_to(check.device, world_model)
    rows: list[dict[str, Any]] = []
    for document, each in zip(
        blind_policies["policies"], _blind(blind_policies), strict=True
    ):
        if len(rows) == check.sweeps:
            break
        result = dream_without_eyes(
            world_model, each.policy(), options, check.rollouts, check.seed, "sweeps"
        )
        rows.append(
            {
                "name": each.name,
                "period": each.period,
                "games": document["games"],
                "game": document["mean"],
                "dream": result.returns.double().mean().item(),
            }
        )
    columns = ["name", "period", "games", "game", "dream"]
    sweeps = pd.DataFrame(rows, columns=columns)
    same = [world for world in ("game", "dream") if sweeps[world].nunique() == 1]
    if len(sweeps) > 1 and same:
        logger.info(
            "The %d policies without eyes all score the same in the %s: there is no "
            "order to keep",
            *(len(sweeps), " and in the ".join(same)),
        )
    elif len(sweeps) > 1:
        logger.info(
            "Of %d policies without eyes the dream keeps the order with a rank "
            "correlation of %.2f; it pays the best %s, the game %s",
            len(sweeps),
            sweeps["game"].rank().corr(sweeps["dream"].rank()),
            *rounded(sweeps["dream"].iloc[0], sweeps["game"].iloc[0]),
        )
    return sweeps, sweeps_figure(sweeps)


def _blind(blind_policies: dict[str, Any]) -> list[BlindPolicy]:
    return [BlindPolicy.of(document) for document in blind_policies["policies"]]


def _scripted(
    policy: UnseeingPolicy, seeds: Sequence[int], steps: int, frame_skip: int
) -> Decision:
    """A policy without eyes as it acts in dreams side by side."""
    controls = iter(
        controls_for_dreams(policy, seeds, steps, frame_skip).swapaxes(0, 1)
    )
    return lambda _: next(controls)


def animate_dream(
    world_model: WorldModel,
    environment: EnvironmentOptions,
    options: DreamOptions,
    check: DreamCheckOptions,
) -> np.ndarray:
    """One dreamed episode of the random policy, decoded by V.

    Args:
        world_model: V and M.
        environment: The game.
        options: The dream.
        check: The seed and the most steps.

    Returns:
        (time, height, width, 3) uint8.
    """
    policy = RandomPolicy(environment.actions, check.hold)
    frame_skip = world_model.mdn_rnn.frame_skip
    cap = options.steps(frame_skip)
    most = min(check.animation_steps, cap)
    (controls,) = controls_for_dreams(policy, [check.seed], most, frame_skip)
    steps = iter(controls)
    film = film_dream(
        Dreams(world_model, 1, options.temperature),
        lambda _: next(steps)[None],
        most,
        stream(check.seed, "animation"),
    )
    captions = {"dream": "random play, dreamed"}
    return animation(film, captions, 4, whole=most == cap)
