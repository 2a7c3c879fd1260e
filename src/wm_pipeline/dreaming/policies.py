"""Policies in a batch of dreams: a population of controllers, or a script."""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import pad

from wm_pipeline.common.randomness import game_seeds
from wm_pipeline.dreaming.cuda_graphs import to_device
from wm_pipeline.environments.actions import Actions
from wm_pipeline.models.controller import Controller
from wm_pipeline.policies.controller_policy import decision_noise
from wm_pipeline.policies.unseeing import UnseeingPolicy, controls_for_dreams

ROW_BLOCK = 8
"""A candidate's rows in a matrix product are a multiple of this."""


class DreamPolicy(Protocol):
    """Acts in a batch of dreams, one row a dream."""

    def draw(self, step: int) -> Sequence[Tensor]:
        """The random numbers, or controls, that ``act`` needs at a step (the first is 0)."""

    def act(self, features: Tensor, cells: Tensor, *drawn: Tensor) -> Tensor:
        """Decide, without reading a value on the host: on a GPU this is recorded.

        Args:
            features: [z, h], (batch, latent + hidden).
            cells: c, (batch, hidden).
            drawn: What ``draw`` returned for this step.

        Returns:
            Controls, (batch, action).
        """

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows of the present batch only, (kept,) int64."""


class PopulationPolicy:
    """Controllers, each in several dreams: rows are candidate-major.

    Args:
        controller: The architecture.
        parameters: (population, size) float32.
        rollouts: Dreams a candidate.
        actions: The action mapping.
        noise: Draws what stochastic decisions need, once a rollout: the candidates
            meet the same noise.
        part: Which of the rollouts these dreams are; all of them if not given.
    """

    def __init__(
        self,
        controller: Controller,
        parameters: Tensor,
        rollouts: int,
        actions: Actions,
        noise: torch.Generator,
        part: slice = slice(None),
    ) -> None:
        self._controller, self._actions = controller, actions
        self._rollouts, self._noise = rollouts, noise
        # BLAS multiplies a batch of one, and few or odd rows, by other paths with other
        # last digits, and a candidate's dreams must not depend on its batch. So it
        # always has rows for all its rollouts, in whole blocks.
        parameters = torch.cat((parameters, parameters))[: max(2, len(parameters))]
        self._layers = controller.unpack(parameters)
        height = -(-rollouts // ROW_BLOCK) * ROW_BLOCK
        self._features = parameters.new_zeros(
            len(parameters), height, controller.features
        )
        rows = torch.arange(len(parameters) * height, device=parameters.device)
        self._rows = rows.view(-1, height)[:, :rollouts][:, part].flatten()

    def draw(self, step: int) -> Sequence[Tensor]:
        """The noise of the policy and of the action, each if there is any."""
        noise = decision_noise(
            self._controller, self._actions, self._rollouts, self._noise
        )
        missing = self._features.shape[1] - self._rollouts
        return [
            to_device(pad(each, (0, 0, 0, missing)), self._features.device)
            for each in noise
            if each is not None
        ]

    def act(self, features: Tensor, cells: Tensor, *drawn: Tensor) -> Tensor:
        """Each dream's candidate decides."""
        if self._controller.options.inputs == "zhc":
            features = torch.cat((features, cells), 1)
        rows = self._rows[: len(features)]
        whole = len(features) == self._features.shape[0] * self._features.shape[1]
        if whole:
            together = features.unflatten(0, self._features.shape[:2])
        else:
            self._features.flatten(0, 1)[rows] = features
            together = self._features
        noise = iter(drawn)
        normal = next(noise) if self._controller.stochastic else None
        gumbel = next(noise, None)
        outputs = self._controller.respond(self._layers, together, normal)
        controls = self._actions.decide(outputs, gumbel).flatten(0, 1)
        return controls if whole else controls[rows]

    def keep(self, rows: Tensor) -> None:
        """Remember whose dreams the rows now are."""
        self._rows = self._rows[rows]


class ScriptedPolicy:
    """Controls fixed beforehand: those of random policies, or always the same.

    Args:
        controls: (batch, steps, action) float32.
    """

    def __init__(self, controls: Tensor) -> None:
        self._controls = controls

    def draw(self, step: int) -> Sequence[Tensor]:
        """The script's controls of this step."""
        return [self._controls[:, step]]

    def act(self, features: Tensor, cells: Tensor, *drawn: Tensor) -> Tensor:
        """The script's controls of this step."""
        return drawn[0]

    def keep(self, rows: Tensor) -> None:
        """Drop the finished dreams' lines."""
        self._controls = self._controls[rows]


def script_of(
    policy: UnseeingPolicy,
    dreams: int,
    steps: int,
    frame_skip: int,
    seed: int,
    purpose: str,
    device: torch.device | None = None,
) -> ScriptedPolicy:
    """A policy's controls for dreams, averaged over each step of M.

    Args:
        policy: Acts at every step of the environment.
        dreams: How many dreams.
        steps: Steps of M in each.
        frame_skip: Steps of the environment in one of M's.
        seed: Of the policy.
        purpose: What the dreams are for; others have other scripts.
        device: Where the dreams are; None is the CPU.
    """
    seeds = game_seeds(dreams, seed, f"{purpose}, scripts")
    controls = controls_for_dreams(policy, seeds, steps, frame_skip)
    return ScriptedPolicy(torch.from_numpy(controls).to(device))
