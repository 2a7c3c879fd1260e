"""C: the controller, from what V and M know to an action; linear, or an MLP.

Source: World Models, sec. 2.3; two heads: a diagonal Gaussian policy.
"""

from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Annotated, Any, Literal, Self

import torch
from pydantic import Field
from torch import Tensor, nn

from wm_pipeline.common.checkpoints import Loadable
from wm_pipeline.common.errors import InputError
from wm_pipeline.common.options import Options
from wm_pipeline.kernels.native import gaussian_draws, tanh_
from wm_pipeline.kernels.perceptron import Perceptron, perceptron
from wm_pipeline.models.world_model import WorldModel

LOG_DEVIATION_RANGE = (-5.0, 2.0)
"""The second head of a Gaussian policy is kept within these."""

# torch's own elu and silu round the last few numbers of a tensor differently, and a
# candidate's result must not depend on its place in the population.
_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": tanh_,
    "relu": torch.relu_,
    "elu": lambda values: torch.where(values > 0, values, torch.expm1(values)),
    "silu": lambda values: values / (1 + torch.exp(-values)),
}

_DIFFERENTIABLE: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "relu": torch.relu,
    "elu": torch.nn.functional.elu,
    "silu": torch.nn.functional.silu,
}

Layer = tuple[Tensor, Tensor]
"""Weights (population, outputs, inputs) and biases (population, 1, outputs)."""


class ControllerOptions(Options):
    """The architecture of C; by default it is linear.

    Attributes:
        inputs: ``zh`` reads the latent and M's h; ``zhc`` reads M's c as well (the
            paper's Doom controller).
        hidden_sizes: Units of each hidden layer, 4,096 at most; none makes C linear.
        activation: After each hidden layer.
        bias: Whether the layers have biases.
        policy: ``deterministic``, or ``gaussian``: a second head gives the logarithm
            of a standard deviation, and the outputs are drawn.
    """

    inputs: Literal["zh", "zhc"] = "zh"
    hidden_sizes: tuple[Annotated[int, Field(ge=1, le=4096)], ...] = Field(
        default=(), max_length=8
    )
    activation: Literal["tanh", "relu", "elu", "silu"] = "tanh"
    bias: bool = False
    policy: Literal["deterministic", "gaussian"] = "deterministic"


class Controller(Loadable, nn.Module):
    """C, whose weights are one flat vector.

    Args:
        options: Its architecture.
        latent_size: Length of z.
        hidden_size: Length of h.
        outputs: Length of the output vector, which the action mapping reads.
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
        self.features = latent_size + hidden_size * len(self.memory)
        heads = 2 if self.stochastic else 1
        widths = (self.features, *options.hidden_sizes, heads * outputs)
        self._shapes = [(after, before) for before, after in pairwise(widths)]
        self.register_buffer("parameters_vector", torch.zeros(self.size))
        self._packed: tuple[Tensor, int | None, Perceptron | None] | None = None

    parameters_vector: Tensor

    @property
    def memory(self) -> str:
        """Which parts of M's state it reads, ``h`` or ``hc``."""
        return self.options.inputs.removeprefix("z")

    @property
    def stochastic(self) -> bool:
        """Whether the outputs are drawn."""
        return self.options.policy == "gaussian"

    @property
    def size(self) -> int:
        """How many parameters there are."""
        return sum(
            after * (before + self.options.bias) for after, before in self._shapes
        )

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

    @classmethod
    def for_world(
        cls, options: ControllerOptions, world_model: WorldModel, outputs: int
    ) -> Self:
        """A controller for a world's latents and memory, with all parameters zero."""
        mdn_rnn = world_model.mdn_rnn
        return cls(options, mdn_rnn.latent_size, mdn_rnn.hidden_size, outputs)

    def check_fits(self, world_model: WorldModel, outputs: int) -> None:
        """Raise InputError unless it is of a world's sizes and an action mapping's."""
        mdn_rnn = world_model.mdn_rnn
        expected = mdn_rnn.latent_size, mdn_rnn.hidden_size, outputs
        found = self.latent_size, self.hidden_size, self.outputs
        if found != expected:
            raise InputError(
                "controller: expected one that reads a z of {} and an h of {}, as the "
                "world model's, and has {} outputs, as the action mapping; found {}, {} "
                "and {}. Train it anew, or load the version that belongs to the world "
                "model".format(*expected, *found)
            )

    def get_parameters(self) -> Tensor:
        """A copy of the parameters, one flat vector (size,) float32."""
        return self.parameters_vector.clone()

    def set_parameters(self, vector: Tensor) -> None:
        """Take a flat vector (size,) as the parameters; ValueError on a wrong length."""
        if tuple(vector.shape) != (self.size,):
            raise ValueError(
                f"controller parameters: expected a vector of {self.size}, found shape "
                f"{tuple(vector.shape)}"
            )
        self.parameters_vector.copy_(vector)

    def __getstate__(self) -> dict[str, Any]:
        """Without the packed layers: a copy's parameters are another tensor."""
        return self.__dict__ | {"_packed": None}

    def forward(
        self,
        latents: Tensor,
        h: Tensor,
        c: Tensor | None = None,
        normal: Tensor | None = None,
    ) -> Tensor:
        """Outputs (batch, outputs) for z (batch, latent), h and c (batch, hidden).

        Of ``zh`` c may be left out. ``normal`` is the noise of a Gaussian policy, (batch, outputs); without it the
        outputs are the distribution's means.
        """
        parts: tuple[Tensor, ...] = (latents, h)
        if self.options.inputs == "zhc":
            if c is None:
                raise InputError("a controller of zhc: expected c beside z and h")
            parts = (latents, h, c)
        packed = self._perceptron()
        if packed is None:
            layers = self.unpack(self.parameters_vector[None])
            return self.respond(layers, torch.cat(parts, 1)[None], normal)[0]
        noise = normal if self.stochastic else None
        return packed(parts, self.outputs, noise, LOG_DEVIATION_RANGE)

    def last_layer(self, vector: Tensor, features: Tensor) -> Tensor:
        """What the last layer gives, with gradients.

        Args:
            vector: The parameters, (size,).
            features: [z, h] or [z, h, c], (batch, features).

        Returns:
            The outputs; of a Gaussian policy their means, then the logarithms of their
            standard deviations; (batch, heads x outputs).
        """
        first, *others = self.unpack(vector[None])
        values = _rows(features, *first)
        for layer in others:
            values = _rows(_DIFFERENTIABLE[self.options.activation](values), *layer)
        return values

    def without_noise(self) -> Self:
        """The deterministic controller of a Gaussian policy's means; others as they are."""
        options = self.options.model_copy(update={"policy": "deterministic"})
        quiet = type(self)(options, self.latent_size, self.hidden_size, self.outputs)
        *layers, (weights, biases) = self.unpack(self.parameters_vector[None])
        layers.append((weights[:, : self.outputs], biases[..., : self.outputs]))
        quiet.set_parameters(quiet.pack(layers))
        return quiet

    def _perceptron(self) -> Perceptron | None:
        """The layers packed for C, anew when they change; None where torch does it."""
        vector = self.parameters_vector
        # Of a tensor made in inference mode changes are not counted.
        version = None if vector.is_inference() else vector._version  # noqa: SLF001
        kept = self._packed
        if (
            kept is None
            or kept[0] is not vector
            or version is None
            or kept[1] != version
        ):
            packed = None
            if not self.options.hidden_sizes or self.options.activation == "tanh":
                layers = self.unpack(vector[None])
                packed = perceptron([(w[0], b[0, 0]) for w, b in layers])
            self._packed = kept = vector, version, packed
        return kept[2]

    def unpack(self, vectors: Tensor) -> list[Layer]:
        """The layers of a population of flat vectors, (population, size)."""
        layers, start = [], 0
        for after, before in self._shapes:
            weights = vectors[:, start : start + after * before]
            start += after * before
            biases = vectors.new_zeros(len(vectors), 1, after)
            if self.options.bias:
                biases = vectors[:, None, start : start + after]
                start += after
            layers.append((weights.unflatten(1, (after, before)), biases))
        return layers

    def pack(self, layers: Iterable[Layer]) -> Tensor:
        """The flat vector (size,) of the layers of one controller, as of ``unpack``."""
        read = 1 + self.options.bias
        return torch.cat([p.flatten() for layer in layers for p in layer[:read]])

    def respond(
        self, layers: list[Layer], features: Tensor, normal: Tensor | None = None
    ) -> Tensor:
        """The outputs of a whole population, in batched products.

        Args:
            layers: Of ``unpack``.
            features: (population, batch, features).
            normal: The noise of a Gaussian policy, (batch, outputs), shared by the
                population; without it the outputs are the means.

        Returns:
            (population, batch, outputs).
        """
        activate = _ACTIVATIONS[self.options.activation]
        first, *others = layers
        values = _products(features, *first)
        for layer in others:
            values = _products(activate(values), *layer)
        return self._drawn(values, normal)

    def _drawn(self, values: Tensor, normal: Tensor | None) -> Tensor:
        """Outputs from what the last layer gives."""
        if not self.stochastic:
            return values
        if normal is None:
            return values[..., : self.outputs]
        return gaussian_draws(values, normal, LOG_DEVIATION_RANGE)


def _rows(values: Tensor, weights: Tensor, biases: Tensor) -> Tensor:
    """A layer of one controller, (batch, inputs) to (batch, outputs)."""
    return torch.addmm(biases[0, 0], values, weights[0].T)


def _products(values: Tensor, weights: Tensor, biases: Tensor) -> Tensor:
    """``torch.nn.functional.linear`` for a population."""
    return torch.baddbmm(biases, values, weights.transpose(1, 2))
