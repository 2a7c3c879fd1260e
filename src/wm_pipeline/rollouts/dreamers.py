"""Who acts in a batch of dreams: a population of controllers, or a script."""

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from wm_pipeline.environments.actions import Actions
from wm_pipeline.models.controller import Controller
from wm_pipeline.rollouts.policies import RandomPolicy


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
    """

    def __init__(
        self,
        controller: Controller,
        parameters: Tensor,
        rollouts: int,
        actions: Actions,
    ) -> None:
        weights, biases = controller.unpack(parameters)
        self._weights = weights.repeat_interleave(rollouts, 0)
        self._biases = biases.repeat_interleave(rollouts, 0)
        self._reads_cells = controller.options.inputs == "zhc"
        self._actions = actions

    def act(self, features: Tensor, cells: Tensor, step: int) -> Tensor:
        """Each dream's candidate decides."""
        if self._reads_cells:
            features = torch.cat((features, cells), 1)
        outputs = (self._weights * features[:, None]).sum(-1) + self._biases
        return self._actions.decide(outputs)

    def keep(self, rows: Tensor) -> None:
        """Drop the finished dreams' copies of the weights."""
        self._weights, self._biases = self._weights[rows], self._biases[rows]


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
