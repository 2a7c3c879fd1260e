"""C by its gradient: PPO, of steps in dreams or in the game.

A policy with hidden layers, of thousands of parameters, learns from them.

Source: Schulman et al. 2017 (PPO) and 2016 (advantages).
"""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, Self

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from wm_pipeline.common.errors import InputError
from wm_pipeline.common.options import Options
from wm_pipeline.common.randomness import (
    seeded_initialisation,
    standard_gumbel,
    torch_stream,
)
from wm_pipeline.environments.actions import (
    Actions,
    BoxActions,
    DiscreteActions,
    ThresholdActions,
)
from wm_pipeline.models.controller import (
    LOG_DEVIATION_RANGE,
    Controller,
    ControllerOptions,
)
from wm_pipeline.models.world_model import WorldModel

CRITIC_UNITS = 64
"""Of its hidden layer."""

CRITIC_FIRST = 3
"""Iterations in which a new critic learns alone: what it says at first is of no use."""

LAST_RATE = 0.1
"""Of the learning rate, in the last iteration."""

MOST_NORM = 0.5
"""The gradient's norm is cut to this."""

ENTROPY_OF = 4096
"""So many steps, the last ones, is the entropy measured."""


class LearningOptions(Options):
    """PPO, wherever its steps come from.

    Attributes:
        iterations: Updates, each from new steps; in its first ``CRITIC_FIRST`` a critic
            learns alone.
        epochs: How often an update goes over its steps.
        batch_size: Steps in one of its gradients.
        learning_rate: Adam's, which falls to a tenth.
        discount: Of a reward one step of M later.
        trace_decay: Of later surprises in an advantage (lambda): 0 trusts the critic
            alone, 1 what was met alone.
        clip: How far an update may change the odds of a decision.
        entropy: What each nat of a decision's entropy is worth; of an output drawn from
            a Gaussian, as if its deviation were 1 at most.
    """

    iterations: int = Field(ge=1, le=1_000_000)
    epochs: int = Field(default=2, ge=1, le=1000)
    batch_size: int = Field(default=4096, ge=1, le=10_000_000)
    learning_rate: float = Field(default=1e-3, gt=0, le=1)
    discount: float = Field(default=0.99, ge=0, lt=1)
    trace_decay: float = Field(default=0.95, ge=0, le=1)
    clip: float = Field(default=0.2, gt=0, le=1)
    entropy: float = Field(default=0.01, ge=0, le=10)


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


def exploring(actions: Actions) -> Actions:
    """The mapping by which a policy tries: one action out of several is drawn."""
    if isinstance(actions, BoxActions):
        return actions
    return actions.model_copy(update={"sampled": True})


def exploring_policy(actions: Actions) -> Literal["deterministic", "gaussian"]:
    """The policy of a controller that tries: where the action is drawn, it need not be."""
    return "deterministic" if exploring(actions).sampled else "gaussian"


def new_policy(
    model: ControllerOptions, world_model: WorldModel, actions: Actions, seed: int
) -> tuple[Controller, Critic]:
    """A controller that tries, with random weights, and its critic.

    Args:
        model: Its architecture, but for the policy, which the actions decide.
        world_model: V and M, of which it is.
        actions: The action mapping.
        seed: Of the weights.
    """
    model = model.model_copy(update={"policy": exploring_policy(actions)})
    controller = Controller.for_world(model, world_model, actions.outputs)
    initialise(controller, seed)
    return controller, Critic.new(controller, seed)


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


class Segment(NamedTuple):
    """Steps of episodes side by side; each (steps, columns, ...).

    Episodes may follow one another in a column.

    Attributes:
        features: What C saw.
        drawn: What it drew from its outputs.
        odds: The log density of that.
        rewards: Of each step.
        ended: Whether the episode ended in this step.
        broken: Whether it was broken off after this step: what would have come, a
            critic estimates.
        following: What C would have seen next.
    """

    features: Tensor
    drawn: Tensor
    odds: Tensor
    rewards: Tensor
    ended: Tensor
    broken: Tensor
    following: Tensor


class Learner:
    """A policy and its critic, as they learn.

    Args:
        controller: With the policy of ``exploring_policy``, where it begins; it stays as
            it is, and ``vector`` learns.
        critic: Of what this controller sees, which learns in place; a new one learns
            alone at first.
        actions: The action mapping.
        reward_scale: Of a step of M, which makes the critic's unit.
        options: How they learn.
        seed: Of all that is drawn.

    Attributes:
        vector: The policy's parameters, (size,).
        draws: How it decides.
        generator: Draws whatever is drawn.

    Raises:
        InputError: The controller's policy is another.
    """

    def __init__(
        self,
        controller: Controller,
        critic: Critic,
        actions: Actions,
        reward_scale: float,
        options: LearningOptions,
        seed: int,
    ) -> None:
        if (found := controller.options.policy) != (
            wanted := exploring_policy(actions)
        ):
            raise InputError(
                f"a policy that tries: expected a {wanted} one, found {found}"
            )
        self.controller, self.critic = controller, critic
        self._options, self._reward_scale = options, reward_scale
        self.draws: _Categorical | _Gaussian
        if isinstance(actions, BoxActions):
            self.draws = _Gaussian(actions)
        else:
            self.draws = _Categorical(actions)
        self.generator = torch_stream(seed, "practice")
        self.vector = controller.get_parameters().requires_grad_()
        self._adam = torch.optim.Adam([self.vector, *critic.parameters()])

    def learn(
        self, segment: Segment, iteration: int, settings: str
    ) -> dict[str, float]:
        """Learn from some steps.

        Args:
            segment: The steps, which this policy took as it is now.
            iteration: The first is 0.
            settings: The options' group, for messages.

        Returns:
            Entropy, in nats, and explained, the share of the variance of returns that
            the critic explains.

        Raises:
            InputError: The weights are not finite any more.
        """
        options = self._options
        advantages, returns, explained = self.judge(segment)
        done = iteration / max(1, options.iterations - 1)
        for group in self._adam.param_groups:
            group["lr"] = options.learning_rate * (1 - done * (1 - LAST_RATE))
        alone = bool(self.critic.iterations < CRITIC_FIRST)
        self._update(segment, advantages, returns, alone)
        self.critic.iterations += 1
        if not bool(self.vector.isfinite().all()):
            raise InputError(
                f"C: expected finite weights, found others in iteration {iteration}. "
                f"Lower {settings}.learning_rate"
            )
        with torch.no_grad():
            last = segment.features.flatten(0, 1)[-ENTROPY_OF:]
            values = self.controller.last_layer(self.vector, last)
            entropy = self.draws.entropy(values).mean()
        return {"entropy": entropy.item(), "explained": explained}

    def arrays(self) -> dict[str, np.ndarray]:
        """All that ``restore`` needs, by name, as a training state has it."""
        tensors = {"weights.policy": self.vector, "random": self.generator.get_state()}
        for name, tensor in self.critic.state_dict().items():
            tensors[f"weights.critic.{name}"] = tensor
        for number, moments in self._adam.state_dict()["state"].items():
            for name, moment in moments.items():
                tensors[f"adam.{number}.{name}"] = moment
        return {n: t.detach().numpy().copy() for n, t in tensors.items()}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Go on where another learner of the same kind was."""
        tensors = {name: torch.from_numpy(a.copy()) for name, a in arrays.items()}
        with torch.no_grad():
            self.vector.copy_(tensors["weights.policy"])
        self.generator.set_state(tensors["random"])
        self.critic.load_state_dict(
            {
                name: tensors[f"weights.critic.{name}"]
                for name in self.critic.state_dict()
            }
        )
        moments: dict[int, dict[str, Tensor]] = defaultdict(dict)
        for name, tensor in tensors.items():
            if name.startswith("adam."):
                _, number, moment = name.split(".")
                moments[int(number)][moment] = tensor
        groups = self._adam.state_dict()["param_groups"]
        self._adam.load_state_dict({"state": dict(moments), "param_groups": groups})

    @torch.no_grad()
    def judge(self, segment: Segment) -> tuple[Tensor, Tensor, float]:
        """Advantages and returns, each (steps, columns), and the critic's merit.

        Returns are in the critic's units.
        """
        options = self._options
        unit = self._reward_scale / (1 - options.discount)
        values = self.critic(segment.features)
        following = self.critic(segment.following) * ~segment.ended
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
        self, segment: Segment, advantages: Tensor, returns: Tensor, critic_only: bool
    ) -> None:
        """Go over the steps ``epochs`` times, in batches."""
        options = self._options
        features, drawn = segment.features.flatten(0, 1), segment.drawn.flatten(0, 1)
        odds, returns = segment.odds.flatten(), returns.flatten()
        spread = advantages.std(correction=0) + 1e-8
        merits = ((advantages - advantages.mean()) / spread).flatten()
        for _ in range(options.epochs):
            order = torch.randperm(len(odds), generator=self.generator)
            for rows in order.split(options.batch_size):
                seen = features[rows]
                loss = (self.critic(seen) - returns[rows]).square().mean()
                if not critic_only:
                    values = self.controller.last_layer(self.vector, seen)
                    now = self.draws.odds(values, drawn[rows])
                    ratio = (now - odds[rows]).exp()
                    within = ratio.clamp(1 - options.clip, 1 + options.clip)
                    gain = torch.minimum(ratio * merits[rows], within * merits[rows])
                    worth = options.entropy * self.draws.entropy(values)
                    loss = loss - (gain + worth).mean()
                self._adam.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_([self.vector], MOST_NORM)
                nn.utils.clip_grad_norm_(self.critic.parameters(), MOST_NORM)
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
        shape = len(values), values.shape[1] // 2
        noise = torch.randn(shape, generator=generator)
        return self.again(values, None, noise)

    def again(
        self,
        values: Tensor,
        controls: Tensor | None,
        normal: Tensor,
    ) -> Tensor:
        """What was drawn by this noise, (batch, outputs)."""
        means, log_deviations = self._heads(values)
        return means + log_deviations.exp() * normal

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

    def again(self, values: Tensor, controls: Tensor, normal: Tensor) -> Tensor:
        """What was drawn where these are the controls, (batch, actions)."""
        return (controls[:, None] == self._constants).all(2).float()

    def odds(self, values: Tensor, drawn: Tensor) -> Tensor:
        """The log probability of drawn actions, (batch,)."""
        return (self._logits(values).log_softmax(1) * drawn).sum(1)

    def entropy(self, values: Tensor) -> Tensor:
        """In nats, (batch,)."""
        logs = self._logits(values).log_softmax(1)
        return -(logs.exp() * logs).sum(1)
