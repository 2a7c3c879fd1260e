"""Where candidates run: in this process, all of them in one batch of dreams."""

import numpy as np
import torch
from pydantic import Field

from wm_pipeline.environments.actions import Actions
from wm_pipeline.environments.dream import check_controls
from wm_pipeline.models.controller import Controller
from wm_pipeline.models.world_model import WorldModel
from wm_pipeline.options import Options
from wm_pipeline.rollouts.dream import DreamNoise, DreamResult, dream
from wm_pipeline.rollouts.dreamers import Population


class DreamOptions(Options):
    """The dream in which candidates are judged.

    Attributes:
        temperature: Above 0; higher dreams are less certain (paper, Doom: 1.15).
        max_steps: The cap on a dream, in steps of the environment.
    """

    temperature: float = Field(gt=0)
    max_steps: int = Field(ge=1)

    def steps(self, frame_skip: int) -> int:
        """The cap in steps of an M with that ``frame_skip``."""
        return max(1, self.max_steps // frame_skip)


class DreamEvaluator:
    """Evaluates populations in the dream; all candidates meet the same dreams.

    Args:
        world_model: V and M.
        controller: The architecture of the candidates.
        actions: The action mapping.
        options: Temperature and length.
        seed: Of the dreams.

    Raises:
        ValueError: The action mapping does not fit M.
    """

    def __init__(
        self,
        world_model: WorldModel,
        controller: Controller,
        actions: Actions,
        options: DreamOptions,
        seed: int,
    ) -> None:
        check_controls(actions, world_model)
        self.world_model, self.controller = world_model, controller
        self.actions, self.options, self.seed = actions, options, seed

    def evaluate(
        self, candidates: np.ndarray, rollouts: int, stage: str, *index: int
    ) -> DreamResult:
        """Dream with every candidate.

        Args:
            candidates: (population, size).
            rollouts: Dreams a candidate.
            stage: What for; other stages have other dreams.
            index: E.g. the generation.

        Returns:
            Returns and steps of M, each (population, rollouts).
        """
        parameters = torch.from_numpy(candidates).float()
        noise = DreamNoise.draw(self.world_model, rollouts, self.seed, stage, *index)
        result = dream(
            self.world_model,
            Population(self.controller, parameters, rollouts, self.actions),
            len(candidates),
            noise,
            self.options.temperature,
            self.options.steps(self.world_model.mdn_rnn.frame_skip),
        )
        shape = (len(candidates), rollouts)
        return DreamResult(result.returns.view(shape), result.steps.view(shape))
