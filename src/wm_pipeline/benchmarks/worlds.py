"""Worlds to measure, trained or blank, and who acts in them."""

from dataclasses import dataclass, replace

import torch

from wm_pipeline.benchmarks.options import WorldOptions
from wm_pipeline.common.devices import Device
from wm_pipeline.common.randomness import seeded_initialisation
from wm_pipeline.dreaming.evaluator import DreamEvaluator, DreamOptions
from wm_pipeline.environments.actions import Actions
from wm_pipeline.models.controller import Controller, ControllerOptions
from wm_pipeline.models.mdn_rnn import MDNRNN, MDNRNNOptions
from wm_pipeline.models.vae import FRAME_SIZE, ConvLayer, ConvVAE, VAEOptions
from wm_pipeline.models.world_model import WorldModel, digest

GPU_STEPS = 2000
"""Of M in a measured piece on a GPU, beside which recording a step does not count."""


@dataclass(frozen=True)
class World:
    """A world, who acts in it, and how long.

    Attributes:
        model: V and M.
        controller: Who acts.
        actions: The action mapping.
        steps: Of M in a dream, at most.
    """

    model: WorldModel
    controller: Controller
    actions: Actions
    steps: int

    def evaluator(self, seed: int, device: Device = "cpu") -> DreamEvaluator:
        """Where it is dreamed: this process."""
        max_steps = self.steps * self.model.mdn_rnn.frame_skip
        cap = DreamOptions(temperature=1.0, max_steps=max_steps)
        return DreamEvaluator(
            self.model, self.controller, self.actions, cap, seed, device
        )

    def on_gpu(self, seed: int) -> DreamEvaluator:
        """Where longer dreams of it are dreamed: the GPU."""
        return replace(self, steps=GPU_STEPS).evaluator(seed, "cuda")


def world_of(sizes: WorldOptions, seed: int) -> WorldModel:
    """An untrained world of the options' sizes, in which no dream ends."""
    return blank_world(
        sizes.latent_size, sizes.hidden_size, sizes.mixtures, sizes.actions, seed
    )


def blank_world(
    latent: int, hidden: int, mixtures: int, actions: Actions, seed: int
) -> WorldModel:
    """An untrained world of given sizes, in which no dream ends."""
    pixels = ConvLayer(channels=1, kernel=FRAME_SIZE, stride=FRAME_SIZE, padding=0)
    screen = ConvLayer(channels=3, kernel=1, stride=1, padding=0)
    vae_options = VAEOptions(
        latent_size=latent,
        encoder=(pixels,),
        decoder_channels=1,
        decoder_size=FRAME_SIZE,
        decoder=(screen,),
    )
    options = MDNRNNOptions(hidden_size=hidden, mixtures=mixtures, frame_skip=1)
    with seeded_initialisation(seed, "benchmark world"):
        vae = ConvVAE(vae_options)
        mdn_rnn = MDNRNN(options, latent, actions.size, digest(vae))
    with torch.no_grad():
        mdn_rnn.head.weight[-1].zero_()
        mdn_rnn.head.bias[-1] = -1
    starts = torch.zeros(1, latent)
    return WorldModel(vae, mdn_rnn, starts, starts.clone()).eval()


def linear_controller(latent: int, hidden: int, actions: Actions) -> Controller:
    """A linear controller without biases, all parameters zero."""
    return Controller(ControllerOptions(), latent, hidden, actions.outputs)
