"""What is learned: V, M, C, and V and M together as the world model. Plain torch."""

from wm_pipeline.models.controller import Controller, ControllerOptions
from wm_pipeline.models.mdn_rnn import MDNRNN, MDNRNNOptions
from wm_pipeline.models.vae import ConvVAE, VAEOptions
from wm_pipeline.models.world_model import WorldModel

__all__ = [
    "MDNRNN",
    "Controller",
    "ControllerOptions",
    "ConvVAE",
    "MDNRNNOptions",
    "VAEOptions",
    "WorldModel",
]
