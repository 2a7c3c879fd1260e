"""The controller in the real game, behind V and M."""

import torch
from torch import Tensor

from wm_pipeline.common.randomness import standard_gumbel
from wm_pipeline.environments.actions import Actions
from wm_pipeline.environments.dream import check_controls
from wm_pipeline.models.controller import Controller
from wm_pipeline.models.world_model import WorldModel
from wm_pipeline.policies.latent_policy import LatentPolicy


class ControllerPolicy(LatentPolicy):
    """A controller in the real game: V encodes, C decides, M remembers.

    Source: World Models, sec. 2.

    Args:
        world_model: V and M.
        controller: C, with its parameters.
        actions: The action mapping C was trained with.
        sample_latents: As ``LatentPolicy``.

    Raises:
        InputError: C is of another world model or action mapping, or M is of another
            mapping.
    """

    def __init__(
        self,
        world_model: WorldModel,
        controller: Controller,
        actions: Actions,
        sample_latents: bool,
    ) -> None:
        check_controls(actions, world_model)
        controller.check_fits(world_model, actions.outputs)
        super().__init__(world_model, sample_latents, "controller policy")
        self.controller, self.actions = controller, actions

    def decide(
        self, latents: Tensor, h: Tensor, c: Tensor, noises: tuple[Tensor, ...]
    ) -> Tensor:
        """C's outputs, as controls."""
        normal, gumbel = noises
        return self.actions.decide(self.controller(latents, h, c, normal), gumbel)

    def noises(self, random: torch.Generator) -> tuple[Tensor, Tensor]:
        """As ``decision_noise``, in a batch of one; zeros in place of None."""
        normal, gumbel = decision_noise(self.controller, self.actions, 1, random)
        zeros = torch.zeros(1, 1)
        return (
            zeros if normal is None else normal,
            zeros if gumbel is None else gumbel,
        )


def decision_noise(
    controller: Controller, actions: Actions, batch: int, generator: torch.Generator
) -> tuple[Tensor | None, Tensor | None]:
    """The noise of decisions: a Gaussian policy's, and that of sampled actions.

    Args:
        controller: C.
        actions: The action mapping.
        batch: How many decisions.
        generator: Draws it.

    Returns:
        Standard normal noise (batch, outputs) and standard Gumbel noise (batch, logits),
        float32, or None where none is needed.
    """
    normal = gumbel = None
    if controller.stochastic:
        normal = torch.randn((batch, controller.outputs), generator=generator)
    if actions.sampled:
        gumbel = standard_gumbel((batch, len(actions.constants)), generator)
    return normal, gumbel
