"""Judges populations in the dream: all candidates of a generation as one batch."""

import copy
from typing import Any, Protocol, Self

import numpy as np
import torch

from wm_pipeline.common.devices import Device, choose_device
from wm_pipeline.common.errors import InputError
from wm_pipeline.common.options import Options, Steps, Temperature
from wm_pipeline.common.randomness import torch_stream
from wm_pipeline.dreaming.loop import RolloutResult, dream
from wm_pipeline.dreaming.noise import DreamNoise
from wm_pipeline.dreaming.policies import PopulationPolicy, script_of
from wm_pipeline.dreaming.step_kernel import step_kernel_for
from wm_pipeline.environments.actions import Actions
from wm_pipeline.environments.dream import check_controls
from wm_pipeline.models.controller import Controller
from wm_pipeline.models.world_model import WorldModel, digest
from wm_pipeline.policies.unseeing import UnseeingPolicy


class DreamOptions(Options):
    """The dream in which candidates are judged.

    Attributes:
        temperature: 0.001 to 1,000 (typically 0.5 to 2); higher dreams are less certain
            (paper, Doom: 1.15).
        max_steps: The cap on a dream, in steps of the environment, 1 to
            1,000,000 (typically 100 to 2100).
    """

    temperature: Temperature
    max_steps: Steps

    def steps(self, frame_skip: int) -> int:
        """The cap in steps of an M with that ``frame_skip``.

        Raises:
            InputError: It is less than one.
        """
        if self.max_steps < frame_skip:
            raise InputError(
                f"dream.max_steps: expected at least the {frame_skip} steps of the game "
                f"in one step of M, found {self.max_steps}"
            )
        return self.max_steps // frame_skip


MOST_DREAMS = 1_000_000
"""At once, without a limit that somebody has chosen: some 3 GB of a default M."""


def check_dreams(max_dreams: int | None, population: int, rollouts: int) -> None:
    """Raise ValueError for more dreams at once than anybody can have meant."""
    if max_dreams is None and population * rollouts > MOST_DREAMS:
        raise ValueError(
            f"evaluator.max_dreams: expected a number, as population ({population}) "
            f"times rollouts ({rollouts}) is above {MOST_DREAMS:,} dreams, found null"
        )


class Evaluator(Protocol):
    """Judges populations; all candidates meet the same dreams, or games.

    Attributes:
        controller: The architecture of the candidates.
    """

    controller: Controller

    def evaluate(
        self, candidates: np.ndarray, rollouts: int, purpose: str, *index: int
    ) -> RolloutResult:
        """Dream with every candidate, or play.

        Args:
            candidates: (population, size).
            rollouts: Dreams, or games, of each.
            purpose: What for; other purposes have others.
            index: E.g. the generation.

        Returns:
            Returns and steps of M, each (population, rollouts).
        """

    def conditions(self) -> dict[str, Any]:
        """All that a candidate's fitness depends on, as JSON values."""


class DreamEvaluator:
    """Evaluates populations in this process.

    Args:
        world_model: V and M.
        controller: The architecture of the candidates.
        actions: The action mapping.
        options: Temperature and length.
        seed: Of the dreams.
        device: Where they are dreamed; a world model elsewhere is copied there.
        max_dreams: Simultaneous dreams; None has no limit.

    Raises:
        ValueError: The action mapping or the controller does not fit M, or there is no
            GPU.
    """

    def __init__(
        self,
        world_model: WorldModel,
        controller: Controller,
        actions: Actions,
        options: DreamOptions,
        seed: int,
        device: Device = "cpu",
        max_dreams: int | None = None,
    ) -> None:
        check_controls(actions, world_model)
        controller.check_fits(world_model, actions.outputs)
        self.device = choose_device(device)
        if world_model.start_means.device.type != self.device.type:
            world_model = copy.deepcopy(world_model).to(self.device)
        self.world_model = world_model
        self.controller, self.actions = controller, actions
        self.options, self.seed = options, seed
        self.max_dreams = max_dreams

    def on(self, device: Device) -> Self:
        """The same on a device; it itself, if it is there."""
        if choose_device(device) == self.device:
            return self
        return type(self)(
            self.world_model,
            self.controller,
            self.actions,
            self.options,
            self.seed,
            device,
            self.max_dreams,
        )

    def evaluate(
        self, candidates: np.ndarray, rollouts: int, purpose: str, *index: int
    ) -> RolloutResult:
        """Dream with every candidate; see ``Evaluator``."""
        limit = self.max_dreams or len(candidates) * rollouts
        together = max(1, limit // rollouts)
        groups = [
            candidates[first : first + together]
            for first in range(0, len(candidates), together)
        ]
        parts = [
            slice(first, min(first + limit, rollouts))
            for first in range(0, rollouts, limit)
        ]
        return joined(
            [
                joined(
                    [
                        self._dream(group, rollouts, part, purpose, *index)
                        for part in parts
                    ],
                    1,
                )
                for group in groups
            ],
            0,
        )

    def _dream(
        self,
        candidates: np.ndarray,
        rollouts: int,
        part: slice,
        purpose: str,
        *index: int,
    ) -> RolloutResult:
        """One batch: these candidates in this part of the rollouts."""
        world_model, seed = self.world_model, self.seed
        noise = DreamNoise.draw(world_model, rollouts, seed, purpose, *index, part=part)
        population = PopulationPolicy(
            self.controller,
            torch.from_numpy(candidates).float().to(noise.starts.device),
            rollouts,
            self.actions,
            torch_stream(seed, f"{purpose}, decisions", *index),
            part,
        )
        result = dream(
            world_model,
            population,
            len(candidates),
            noise,
            self.options.temperature,
            self.options.steps(world_model.mdn_rnn.frame_skip),
        )
        shape = (len(candidates), part.stop - part.start)
        return RolloutResult(*(part.view(shape) for part in vars(result).values()))

    def conditions(self) -> dict[str, Any]:
        """All that a candidate's fitness depends on; see ``Evaluator``."""
        return {
            "controller": self.controller.config(),
            "world_model": digest(self.world_model),
            "actions": self.actions.model_dump(mode="json"),
            "dream": self.options.model_dump(mode="json"),
            "dream_seed": self.seed,
            "step_kernel": type(step_kernel_for(self.world_model)).__name__,
        }


def dream_without_eyes(
    world_model: WorldModel,
    policy: UnseeingPolicy,
    options: DreamOptions,
    rollouts: int,
    seed: int,
    purpose: str,
) -> RolloutResult:
    """Dream with a policy that does not see.

    Args:
        world_model: V and M, on the device where the dreams are to be.
        policy: Acts at every step of the environment.
        options: Temperature and length.
        rollouts: How many dreams.
        seed: Of the dreams and of the policy.
        purpose: What for; other purposes have others.
    """
    frame_skip, device = world_model.mdn_rnn.frame_skip, world_model.start_means.device
    steps = options.steps(frame_skip)
    script = script_of(policy, rollouts, steps, frame_skip, seed, purpose, device)
    noise = DreamNoise.draw(world_model, rollouts, seed, purpose)
    return dream(world_model, script, 1, noise, options.temperature, steps)


def joined(results: list[RolloutResult], axis: int) -> RolloutResult:
    """Results, each (population, rollouts), side by side along an axis."""
    parts = zip(*(vars(result).values() for result in results), strict=True)
    return RolloutResult(*(torch.cat(part, axis) for part in parts))
