"""C by its gradient, in short dreams that begin where real games have been.

A whole dream drifts from the game, and C finds where it is kind; for some seconds from a
real moment on M is right. What comes after them, a critic says. Its dreams are many and
cheap, and a policy with hidden layers, of thousands of parameters, learns from them.

Source: Schulman et al. 2017 (PPO) and 2016 (advantages); Sutton 1991 (Dyna) and Hafner
et al. 2020 (Dreamer) for short dreams from real moments.
"""

import time
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, Self

import numpy as np
import pandas as pd
import torch
from pydantic import Field
from torch import Tensor, nn

from wm_pipeline.common import progress
from wm_pipeline.common.devices import without_denormals
from wm_pipeline.common.errors import InputError
from wm_pipeline.common.options import Options
from wm_pipeline.common.randomness import (
    seeded_initialisation,
    standard_gumbel,
    torch_stream,
)
from wm_pipeline.common.steps import STEPS
from wm_pipeline.environments.actions import (
    Actions,
    BoxActions,
    DiscreteActions,
    ThresholdActions,
)
from wm_pipeline.environments.dream import check_controls
from wm_pipeline.episodes.starts import Moments
from wm_pipeline.models.controller import LOG_DEVIATION_RANGE, Controller
from wm_pipeline.models.world_model import WorldModel

CRITIC_UNITS = 64
"""Of its hidden layer."""

CRITIC_FIRST = 3
"""Iterations in which a new critic learns alone: what it says at first is of no use."""

LAST_RATE = 0.1
"""Of the learning rate, in the last iteration."""

MOST_NORM = 0.5
"""The gradient's norm is cut to this."""


class PolicyGradientOptions(Options):
    """PPO in dreams.

    Attributes:
        iterations: Updates, each from new steps.
        dreams: Side by side.
        steps: Of M in each dream between two updates.
        horizon: Steps of M after which a dream is broken off and another begins.
        epochs: How often an update goes over its steps.
        batch_size: Steps in one of its gradients.
        learning_rate: Adam's, which falls to a tenth.
        discount: Of a reward one step of M later.
        trace_decay: Of later surprises in an advantage (lambda): 0 trusts the critic
            alone, 1 what was dreamed alone.
        clip: How far an update may change the odds of a decision.
        entropy: What each nat of a decision's entropy is worth; of an output drawn from
            a Gaussian, whose deviation is 1 at most.
    """

    iterations: int = Field(ge=1, le=1_000_000)
    dreams: int = Field(default=1024, ge=1, le=1_000_000)
    steps: int = Field(default=32, ge=1, le=10_000)
    horizon: int = Field(default=60, ge=1, le=1_000_000)
    epochs: int = Field(default=2, ge=1, le=1000)
    batch_size: int = Field(default=4096, ge=1, le=10_000_000)
    learning_rate: float = Field(default=1e-3, gt=0, le=1)
    discount: float = Field(default=0.99, ge=0, lt=1)
    trace_decay: float = Field(default=0.95, ge=0, le=1)
    clip: float = Field(default=0.2, gt=0, le=1)
    entropy: float = Field(default=0.01, ge=0, le=10)


Begin = Callable[[int, torch.Generator], Moments]
"""Draws so many moments in which dreams begin."""


class Critic(nn.Module):
    """Says what a moment is worth: the discounted rewards to come.

    In units of a mean reward for ever, so about 1 at most. Training alone needs it.

    Args:
        features: Of what C sees.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.features = features
        self.layers = nn.Sequential(
            nn.Linear(features, CRITIC_UNITS), nn.Tanh(), nn.Linear(CRITIC_UNITS, 1)
        )
        self.register_buffer("iterations", torch.zeros((), dtype=torch.int64))

    iterations: Tensor
    """Of its training so far."""

    @classmethod
    def new(cls, controller: Controller, seed: int) -> Self:
        """A critic for what a controller sees, with random weights."""
        with seeded_initialisation(seed, "critic weights"):
            return cls(controller.features)

    def config(self) -> dict[str, Any]:
        """What ``from_config`` needs to build this module again, as JSON values."""
        return {"features": self.features}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """The module of a config, with fresh weights."""
        return cls(config["features"])

    def forward(self, features: Tensor) -> Tensor:
        """Of moments (..., features): what each is worth, (...)."""
        worth: Tensor = self.layers(features)[..., 0]
        return worth


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


def exploring(actions: Actions) -> Actions:
    """The mapping by which a policy tries: one action out of several is drawn."""
    if isinstance(actions, BoxActions):
        return actions
    return actions.model_copy(update={"sampled": True})


def exploring_policy(actions: Actions) -> Literal["deterministic", "gaussian"]:
    """The policy of a controller that tries: where the action is drawn, it need not be."""
    return "deterministic" if exploring(actions).sampled else "gaussian"


def initialise(controller: Controller, seed: int) -> None:
    """Give a controller random weights with which it decides at random.

    Args:
        controller: Its parameters are replaced.
        seed: Of the weights.
    """
    generator = torch_stream(seed, "policy weights")
    layers = controller.unpack(torch.zeros(1, controller.size))
    parts = []
    for number, (weights, biases) in enumerate(layers, 1):
        # The last layer is small: then nothing is decided yet.
        scale = (0.1 if number == len(layers) else 1.0) / weights.shape[2] ** 0.5
        parts.append(scale * torch.randn(weights.numel(), generator=generator))
        if controller.options.bias:
            parts.append(torch.zeros(biases.numel()))
    controller.set_parameters(torch.cat(parts))


def improve(
    controller: Controller,
    critic: Critic,
    dreams: ShortDreams,
    options: PolicyGradientOptions,
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
    if (found := controller.options.policy) != (
        wanted := exploring_policy(dreams.actions)
    ):
        raise InputError(f"a policy that tries: expected a {wanted} one, found {found}")
    check_controls(dreams.actions, dreams.world_model)
    practice = _Practice(controller, critic, dreams, options, seed)
    rows = []
    with (
        without_denormals(),
        progress.task(f"Training {name}", options.iterations, "iterations") as task,
    ):
        for iteration in range(options.iterations):
            row = practice.iterate(iteration)
            rows.append(row)
            scalars = {key: value for key, value in row.items() if key != "iteration"}
            progress.record(name, iteration, scalars)
            task.advance(note=f"ends per step {row['ends_per_step']:.4f}")
    controller.set_parameters(practice.vector.detach())
    return pd.DataFrame(rows)


class _Segment(NamedTuple):
    """Steps of dreams side by side; each (steps, dreams, ...).

    Attributes:
        features: What C saw.
        drawn: What it drew from its outputs.
        odds: The log density of that.
        rewards: Of each step.
        ended: Whether the dream ended in this step.
        broken: Whether it was broken off after this step.
        following: What C would have seen next.
    """

    features: Tensor
    drawn: Tensor
    odds: Tensor
    rewards: Tensor
    ended: Tensor
    broken: Tensor
    following: Tensor


class _Practice:
    """The policy, its critic and the dreams under way."""

    def __init__(
        self,
        controller: Controller,
        critic: Critic,
        dreams: ShortDreams,
        options: PolicyGradientOptions,
        seed: int,
    ) -> None:
        self._controller, self._critic, self._options = controller, critic, options
        self._world_model, self._begin = dreams.world_model, dreams.begin
        self._temperature = dreams.temperature
        self._draws: _Categorical | _Gaussian
        if isinstance(dreams.actions, BoxActions):
            self._draws = _Gaussian(dreams.actions)
        else:
            self._draws = _Categorical(dreams.actions)
        self._generator = torch_stream(seed, "practice")
        self.vector = controller.get_parameters().requires_grad_()
        self._adam = torch.optim.Adam([self.vector, *self._critic.parameters()])
        self._moments = self._begin(options.dreams, self._generator)
        # They begin at all ages, so that not all are broken off together.
        self._ages = torch.randint(
            options.horizon, (options.dreams,), generator=self._generator
        )

    def iterate(self, iteration: int) -> dict[str, float]:
        """Dream on, and learn from it; what came of it."""
        options = self._options
        started = time.perf_counter()
        segment = self._dream()
        dreamed = time.perf_counter()
        advantages, returns, explained = self._judge(segment)
        done = iteration / max(1, options.iterations - 1)
        for group in self._adam.param_groups:
            group["lr"] = options.learning_rate * (1 - done * (1 - LAST_RATE))
        alone = bool(self._critic.iterations < CRITIC_FIRST)
        self._update(segment, advantages, returns, alone)
        self._critic.iterations += 1
        if not bool(self.vector.isfinite().all()):
            raise InputError(
                f"C: expected finite weights, found others in iteration {iteration}. "
                "Lower rounds.gradient.learning_rate"
            )
        with torch.no_grad():
            values = self._controller.last_layer(self.vector, segment.features[-1])
            entropy = self._draws.entropy(values).mean()
        return {
            "iteration": iteration,
            "ends_per_step": segment.ended.float().mean().item(),
            "reward_per_step": segment.rewards.mean().item(),
            "entropy": entropy.item(),
            "explained": explained,
            "steps": segment.rewards.numel(),
            "dream_seconds": dreamed - started,
            "update_seconds": time.perf_counter() - dreamed,
        }

    @torch.no_grad()
    def _dream(self) -> _Segment:
        """The next steps of all dreams; one that is over makes room for another."""
        options, mdn_rnn = self._options, self._world_model.mdn_rnn
        shape = (options.dreams, mdn_rnn.choices, mdn_rnn.options.mixtures)
        steps = []
        for _ in range(options.steps):
            features = self._features()
            values = self._controller.last_layer(self.vector, features)
            drawn = self._draws.draw(values, self._generator)
            noise = torch.randn(
                options.dreams, mdn_rnn.latent_size, generator=self._generator
            )
            latents, rewards, ended, (h, c) = self._world_model.step(
                self._moments.latents,
                self._draws.controls(drawn),
                (self._moments.h, self._moments.c),
                self._temperature,
                standard_gumbel(shape, self._generator),
                noise,
            )
            self._moments = Moments(latents, h, c)
            self._ages += 1
            broken = (self._ages >= options.horizon) & ~ended
            odds = self._draws.odds(values, drawn)
            following = self._features()
            steps.append(
                _Segment(features, drawn, odds, rewards, ended, broken, following)
            )
            self._replace(ended | broken)
        STEPS.add("dream", options.steps * options.dreams)
        return _Segment(*(torch.stack(parts) for parts in zip(*steps, strict=True)))

    def _features(self) -> Tensor:
        """What C sees now, (dreams, features)."""
        parts = self._moments[: 1 + len(self._controller.memory)]
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

    @torch.no_grad()
    def _judge(self, segment: _Segment) -> tuple[Tensor, Tensor, float]:
        """Advantages and returns, each (steps, dreams), and the critic's merit.

        Returns are in the critic's units.
        """
        options = self._options
        unit = self._world_model.mdn_rnn.reward_scale / (1 - options.discount)
        values = self._critic(segment.features)
        following = self._critic(segment.following) * ~segment.ended
        surprises = segment.rewards / unit + options.discount * following - values
        goes_on = (~(segment.ended | segment.broken)).float()
        decay = options.discount * options.trace_decay
        advantages = torch.zeros_like(surprises)
        later = torch.zeros_like(surprises[0])
        for step in reversed(range(len(surprises))):
            later = surprises[step] + decay * goes_on[step] * later
            advantages[step] = later
        returns = advantages + values
        spread = returns.var(correction=0).item()
        left = (returns - values).var(correction=0).item() / (spread or np.nan)
        return advantages, returns, 1 - left

    def _update(
        self, segment: _Segment, advantages: Tensor, returns: Tensor, critic_only: bool
    ) -> None:
        """Go over the steps ``epochs`` times, in batches."""
        options = self._options
        features, drawn = segment.features.flatten(0, 1), segment.drawn.flatten(0, 1)
        odds, returns = segment.odds.flatten(), returns.flatten()
        spread = advantages.std(correction=0) + 1e-8
        merits = ((advantages - advantages.mean()) / spread).flatten()
        for _ in range(options.epochs):
            order = torch.randperm(len(odds), generator=self._generator)
            for rows in order.split(options.batch_size):
                seen = features[rows]
                loss = (self._critic(seen) - returns[rows]).square().mean()
                if not critic_only:
                    values = self._controller.last_layer(self.vector, seen)
                    now = self._draws.odds(values, drawn[rows])
                    ratio = (now - odds[rows]).exp()
                    within = ratio.clamp(1 - options.clip, 1 + options.clip)
                    gain = torch.minimum(ratio * merits[rows], within * merits[rows])
                    worth = options.entropy * self._draws.entropy(values)
                    loss = loss - (gain + worth).mean()
                self._adam.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_([self.vector], MOST_NORM)
                nn.utils.clip_grad_norm_(self._critic.parameters(), MOST_NORM)
                self._adam.step()


class _Gaussian:
    """Outputs drawn around their means, of the last layer's two heads."""

    def __init__(self, actions: BoxActions) -> None:
        self._actions = actions

    def controls(self, drawn: Tensor) -> Tensor:
        """Of drawn outputs, (batch, action)."""
        return self._actions.decide(drawn)

    def draw(self, values: Tensor, generator: torch.Generator) -> Tensor:
        """Outputs, (batch, outputs)."""
        means, log_deviations = self._heads(values)
        noise = torch.randn(means.shape, generator=generator)
        return means + log_deviations.exp() * noise

    def odds(self, values: Tensor, drawn: Tensor) -> Tensor:
        """The log density of drawn outputs, but for a constant, (batch,)."""
        means, log_deviations = self._heads(values)
        standard = (drawn - means) * (-log_deviations).exp()
        return -(0.5 * standard.square() + log_deviations).sum(1)

    def entropy(self, values: Tensor) -> Tensor:
        """In nats, (batch,), but for a constant.

        Action mappings are saturated a few units from zero: there a larger deviation
        would be rewarded for ever, and decide nothing.
        """
        return self._heads(values)[1].clamp(max=0).sum(1)

    def _heads(self, values: Tensor) -> tuple[Tensor, Tensor]:
        means, log_deviations = values.chunk(2, 1)
        return means, log_deviations.clamp(*LOG_DEVIATION_RANGE)


class _Categorical:
    """One action drawn by its logits; what is drawn is 1 there and 0 elsewhere."""

    def __init__(self, actions: ThresholdActions | DiscreteActions) -> None:
        self._logits, self._constants = actions.logits, torch.tensor(actions.constants)

    def controls(self, drawn: Tensor) -> Tensor:
        """Of drawn actions, (batch, action)."""
        return drawn @ self._constants

    def draw(self, values: Tensor, generator: torch.Generator) -> Tensor:
        """The action, (batch, actions)."""
        logits = self._logits(values)
        noise = standard_gumbel(tuple(logits.shape), generator)
        chosen = (logits + noise).argmax(1)
        return torch.nn.functional.one_hot(chosen, logits.shape[1]).float()

    def odds(self, values: Tensor, drawn: Tensor) -> Tensor:
        """The log probability of drawn actions, (batch,)."""
        return (self._logits(values).log_softmax(1) * drawn).sum(1)

    def entropy(self, values: Tensor) -> Tensor:
        """In nats, (batch,)."""
        logs = self._logits(values).log_softmax(1)
        return -(logs.exp() * logs).sum(1)
