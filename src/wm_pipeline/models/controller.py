"""C: the controller, a linear map from what V and M know to an action.

Source: World Models, sec. 2.3.
"""

from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from wm_pipeline.options import Options


class ControllerOptions(Options):
    """What C reads and how it is built.

    Attributes:
        inputs: ``zh`` reads the latent and M's h; ``zhc`` reads M's c as well (the
            paper's Doom controller).
        bias: Whether the linear map has a bias.
    """

    inputs: Literal["zh", "zhc"]
    bias: bool


class Controller(nn.Module):
    """C, whose weights are one flat vector.

    Args:
        options: Its inputs and bias.
        latent_size: Length of z.
        hidden_size: Length of h.
        outputs: Numbers it puts out, those the action mapping reads.
    """

    def __init__(
        self,
        options: ControllerOptions,
        latent_size: int,
        hidden_size: int,
        outputs: int,
    ) -> None:
        super().__init__()
        self.options = options
        self.latent_size, self.hidden_size = latent_size, hidden_size
        self.outputs = outputs
        self.features = latent_size + hidden_size * len(options.inputs[1:])
        self.register_buffer("parameters_vector", torch.zeros(self.size))

    parameters_vector: Tensor

    @property
    def size(self) -> int:
        """How many parameters there are."""
        return self.outputs * (self.features + self.options.bias)

    def config(self) -> dict[str, Any]:
        """What ``from_config`` needs to build this module again, as JSON values."""
        return {
            "options": self.options.model_dump(mode="json"),
            "latent_size": self.latent_size,
            "hidden_size": self.hidden_size,
            "outputs": self.outputs,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """The controller of a config, with all parameters zero."""
        options = ControllerOptions.model_validate(config["options"])
        return cls(
            options, config["latent_size"], config["hidden_size"], config["outputs"]
        )

    def set_parameters(self, vector: Tensor) -> None:
        """Take a flat vector (size,) as the parameters; ValueError on a wrong length."""
        if tuple(vector.shape) != (self.size,):
            raise ValueError(
                f"controller parameters: expected a vector of {self.size}, found shape "
                f"{tuple(vector.shape)}"
            )
        self.parameters_vector.copy_(vector)

    def read(self, latents: Tensor, h: Tensor, c: Tensor) -> Tensor:
        """The features, (batch, features), from z, h and c."""
        parts = (latents, h, c) if self.options.inputs == "zhc" else (latents, h)
        return torch.cat(parts, -1)

    def forward(self, latents: Tensor, h: Tensor, c: Tensor) -> Tensor:
        """Outputs (batch, outputs) for z (batch, latent), h and c (batch, hidden)."""
        features = self.read(latents, h, c)
        weights, bias = self.unpack(self.parameters_vector[None])
        return features @ weights[0].T + bias[0]

    def unpack(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Weights (population, outputs, features) and biases (population, outputs).

        Args:
            vectors: A population of flat vectors, (population, size).
        """
        weights = vectors[:, : self.outputs * self.features]
        biases = vectors[:, self.outputs * self.features :]
        if not self.options.bias:
            biases = vectors.new_zeros(len(vectors), self.outputs)
        return weights.unflatten(1, (self.outputs, self.features)), biases
