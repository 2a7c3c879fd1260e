"""A policy as others train it: from [z, h] to an action, with a layer of logits or means."""

from collections.abc import Sequence
from typing import Any, Self

from torch import Tensor, nn

from wm_pipeline.common.checkpoints import Loadable


class Actor(Loadable, nn.Module):
    """What Stable-Baselines3's ``MlpPolicy`` acts by, without its critic.

    Args:
        features: Numbers of [z, h].
        hidden_sizes: Units of the tanh layers, the first first.
        outputs: Logits of a discrete action, or dimensions of a continuous one.
    """

    def __init__(
        self, features: int, hidden_sizes: Sequence[int], outputs: int
    ) -> None:
        super().__init__()
        self.features, self.outputs = features, outputs
        self.hidden_sizes = tuple(hidden_sizes)
        layers: list[nn.Module] = []
        for inputs, units in zip((features, *hidden_sizes), hidden_sizes, strict=False):
            layers += [nn.Linear(inputs, units), nn.Tanh()]
        last = hidden_sizes[-1] if hidden_sizes else features
        self.layers = nn.Sequential(*layers, nn.Linear(last, outputs))

    def config(self) -> dict[str, Any]:
        """What ``from_config`` needs to build this module again, as JSON values."""
        return {
            "features": self.features,
            "hidden_sizes": list(self.hidden_sizes),
            "outputs": self.outputs,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """The module of a config, with fresh weights."""
        return cls(config["features"], config["hidden_sizes"], config["outputs"])

    def forward(self, features: Tensor) -> Tensor:
        """Of [z, h], (..., features): logits or means, (..., outputs)."""
        outputs: Tensor = self.layers(features)
        return outputs
