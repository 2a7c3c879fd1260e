"""Who acts in a batch of dreams: a population of controllers, or a script."""

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from wm_pipeline.environments.actions import Actions
from wm_pipeline.models.controller import Controller
from wm_pipeline.rollouts.policies import RandomPolicy, decision_noise

ROW_BLOCK = 8
"""A candidate's rows in a matrix product are a multiple of this."""


class Dreamers(Protocol):
    """Who acts in a batch of dreams, one row a dream."""

    def act(self, features: Tensor, cells: Tensor, step: int) -> Tensor:
        """Controls (batch, action) from [z, h] (batch, latent + hidden) and c."""

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows of the present batch only, (kept,) int64."""


class Population:
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
        # A batched product of one takes another path through BLAS, with other last
        # digits, and so do few or odd rows; a candidate's dreams must not depend on
        # its company. So it always has rows for all its rollouts, in whole blocks.
        parameters = torch.cat((parameters, parameters))[: max(2, len(parameters))]
        self._layers = controller.unpack(parameters)
        height = -(-rollouts // ROW_BLOCK) * ROW_BLOCK
        self._features = parameters.new_zeros(
            len(parameters), height, controller.features
        )
        rows = torch.arange(len(parameters) * height, device=parameters.device)
        self._rows = rows.view(-1, height)[:, :rollouts][:, part].flatten()

    def act(self, features: Tensor, cells: Tensor, step: int) -> Tensor:
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
        normal, gumbel = decision_noise(
            self._controller, self._actions, self._rollouts, self._noise
        )
        normal, gumbel = self._filled_up(normal), self._filled_up(gumbel)
        outputs = self._controller.respond(self._layers, together, normal)
        controls = self._actions.decide(outputs, gumbel).flatten(0, 1)
        return controls if whole else controls[rows]

    def keep(self, rows: Tensor) -> None:
        """Remember whose dreams the rows now are."""
        self._rows = self._rows[rows]

    def _filled_up(self, noise: Tensor | None) -> Tensor | None:
        """The noise of all rollouts (rollouts, outputs), with zeros to whole blocks."""
        if noise is None:
            return None
        missing = self._features.shape[1] - self._rollouts
        noise = torch.nn.functional.pad(noise, (0, 0, 0, missing))
        return noise.to(self._features.device)


class Script:
    """Controls fixed beforehand: random policies, standing still.

    Args:
        controls: (batch, steps, action) float32.
    """

    def __init__(self, controls: Tensor) -> None:
        self._controls = controls

    def act(self, features: Tensor, cells: Tensor, step: int) -> Tensor:
        """The next line of the script."""
        return self._controls[:, step]

    def keep(self, rows: Tensor) -> None:
        """Drop the finished dreams' lines."""
        self._controls = self._controls[rows]


def random_script(
    policy: RandomPolicy, dreams: int, steps: int, frame_skip: int, seed: int
) -> Script:
    """A random policy's controls for dreams, averaged over each step of M.

    Args:
        policy: Acts at every step of the environment.
        dreams: How many dreams.
        steps: Steps of M in each.
        frame_skip: Steps of the environment in one of M's.
        seed: Dream i is played with seed + i.
    """
    scripts = []
    for index in range(dreams):
        policy.reset(seed + index)
        fine = np.stack([policy.act() for _ in range(steps * frame_skip)])
        scripts.append(fine.reshape(steps, frame_skip, -1).mean(1))
    return Script(torch.from_numpy(np.stack(scripts).astype(np.float32)))
