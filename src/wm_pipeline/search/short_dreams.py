"""C by its gradient, in short dreams that begin where real games have been.

A whole dream drifts from the game, and C finds where it is kind; for some seconds from a
real moment on M is right. What comes after them, a critic says. Its dreams are many and
cheap.

Source: Sutton 1991 (Dyna) and Hafner et al. 2020 (Dreamer).
"""

import time
from collections.abc import Callable
from typing import NamedTuple

import pandas as pd
import torch
from pydantic import Field
from torch import Tensor

from wm_pipeline.common import progress
from wm_pipeline.common.devices import without_denormals
from wm_pipeline.common.randomness import standard_gumbel
from wm_pipeline.common.steps import STEPS
from wm_pipeline.environments.actions import Actions
from wm_pipeline.environments.dream import check_controls
from wm_pipeline.episodes.starts import Moments
from wm_pipeline.models.controller import Controller
from wm_pipeline.models.world_model import WorldModel
from wm_pipeline.search.policy_gradient import (
    Critic,
    Learner,
    LearningOptions,
    Segment,
)


class ShortDreamsOptions(LearningOptions):
    """PPO in short dreams.

    Attributes:
        dreams: Side by side.
        steps: Of M in each dream between two updates.
        horizon: Steps of M after which a dream is broken off and another begins.
    """

    dreams: int = Field(default=1024, ge=1, le=1_000_000)
    steps: int = Field(default=32, ge=1, le=10_000)
    horizon: int = Field(default=60, ge=1, le=1_000_000)


Begin = Callable[[int, torch.Generator], Moments]
"""Draws so many moments in which dreams begin."""


class ShortDreams(NamedTuple):
    """The dreams in which C is trained.

    Attributes:
        world_model: V and M, on the CPU.
        begin: Where they begin.
        actions: The action mapping.
        temperature: Above 0.
    """

    world_model: WorldModel
    begin: Begin
    actions: Actions
    temperature: float


def begin_at(*groups: Moments) -> Begin:
    """Begin dreams in moments of several groups, as many in each group."""

    def begin(count: int, generator: torch.Generator) -> Moments:
        which = torch.randint(len(groups), (count,), generator=generator)
        drawn = []
        for number, group in enumerate(groups):
            some = int((which == number).sum())
            rows = torch.randint(len(group.latents), (some,), generator=generator)
            drawn.append(group.at(rows))
        return Moments(*(torch.cat(parts) for parts in zip(*drawn, strict=True)))

    return begin


def improve(
    controller: Controller,
    critic: Critic,
    dreams: ShortDreams,
    options: ShortDreamsOptions,
    seed: int,
    name: str = "C",
) -> pd.DataFrame:
    """Improve a controller and its critic in place.

    Args:
        controller: With the policy of ``exploring_policy``.
        critic: Of what this controller sees; a new one learns alone at first.
        dreams: In which it is trained.
        options: How.
        seed: Of the dreams and the decisions.
        name: Of what is trained, for progress and curves.

    Returns:
        A row an iteration: iteration; ends_per_step, of M; reward_per_step; entropy, in
        nats, as in the options; explained, the share of the variance of returns that the
        critic explains; steps; dream_seconds and update_seconds.

    Raises:
        InputError: The controller's policy is another, the action mapping does not fit
            M, or training diverged.
    """
    reward_scale = dreams.world_model.mdn_rnn.reward_scale.item()
    learner = Learner(controller, critic, dreams.actions, reward_scale, options, seed)
    check_controls(dreams.actions, dreams.world_model)
    controller.check_fits(dreams.world_model, dreams.actions.outputs)
    practice = Practice(learner, dreams, options)
    rows = []
    with (
        without_denormals(),
        progress.task(f"Training {name}", options.iterations, "iterations") as task,
    ):
        for iteration in range(options.iterations):
            started = time.perf_counter()
            segment = practice.dream()
            dreamed = time.perf_counter()
            learned = learner.learn(segment, iteration, "rounds.gradient")
            row = {
                "ends_per_step": segment.ended.float().mean().item(),
                "reward_per_step": segment.rewards.mean().item(),
                **learned,
                "steps": segment.rewards.numel(),
                "dream_seconds": dreamed - started,
                "update_seconds": time.perf_counter() - dreamed,
            }
            rows.append({"iteration": iteration, **row})
            progress.record(name, iteration, row)
            task.advance(note=f"ends per step {row['ends_per_step']:.4f}")
    controller.set_parameters(learner.vector.detach())
    return pd.DataFrame(rows)


class Practice:
    """Dreams under way, in which a policy decides.

    Args:
        learner: The policy, which may learn meanwhile.
        dreams: In which it decides.
        options: How many there are, and how long.
    """

    def __init__(
        self, learner: Learner, dreams: ShortDreams, options: ShortDreamsOptions
    ) -> None:
        self._learner, self._options = learner, options
        self._world_model, self._begin = dreams.world_model, dreams.begin
        self._temperature = dreams.temperature
        self._generator = learner.generator
        self._moments = self._begin(options.dreams, self._generator)
        # They begin at all ages, so that not all are broken off together.
        self._ages = torch.randint(
            options.horizon, (options.dreams,), generator=self._generator
        )

    @torch.no_grad()
    def dream(self) -> Segment:
        """The next steps of all dreams; one that is over makes room for another."""
        options, learner = self._options, self._learner
        mdn_rnn = self._world_model.mdn_rnn
        shape = (options.dreams, mdn_rnn.choices, mdn_rnn.options.mixtures)
        steps = []
        for _ in range(options.steps):
            features = self._features()
            values = learner.controller.last_layer(learner.vector, features)
            drawn = learner.draws.draw(values, self._generator)
            noise = torch.randn(
                options.dreams, mdn_rnn.latent_size, generator=self._generator
            )
            latents, rewards, ended, (h, c) = self._world_model.step(
                self._moments.latents,
                learner.draws.controls(drawn),
                (self._moments.h, self._moments.c),
                self._temperature,
                standard_gumbel(shape, self._generator),
                noise,
            )
            self._moments = Moments(latents, h, c)
            self._ages += 1
            broken = (self._ages >= options.horizon) & ~ended
            odds = learner.draws.odds(values, drawn)
            following = self._features()
            steps.append(
                Segment(features, drawn, odds, rewards, ended, broken, following)
            )
            self._replace(ended | broken)
        STEPS.add("dream", options.steps * options.dreams)
        return Segment(*(torch.stack(parts) for parts in zip(*steps, strict=True)))

    def _features(self) -> Tensor:
        """What C sees now, (dreams, features)."""
        parts = self._moments[: 1 + len(self._learner.controller.memory)]
        return torch.cat(parts, 1)

    def _replace(self, over: Tensor) -> None:
        """Begin other dreams in the place of those that are over."""
        rows = over.nonzero()[:, 0]
        if len(rows):
            for part, fresh in zip(
                self._moments, self._begin(len(rows), self._generator), strict=True
            ):
                part[rows] = fresh
            self._ages[rows] = 0
