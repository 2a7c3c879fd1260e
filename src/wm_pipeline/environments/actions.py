"""Action mappings: from a controller's outputs, over a control, to a game's action.

A *control* is the float vector by which V, M and C know an action: M reads it, random
policies draw it, and only the real environment turns it into what its game accepts.
"""

import math
from typing import Annotated, Any, Literal

import gymnasium
import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from wm_pipeline.common.errors import InputError
from wm_pipeline.common.options import Options
from wm_pipeline.kernels.native import tanh_

THRESHOLD = math.atanh(1 / 3)
"""Of an output whose tanh is a third."""


GameAction = Annotated[int, Field(ge=0, le=1_000_000)]
"""The number of a game's action."""

Bound = Annotated[float, Field(ge=-1e30, le=1e30)]
"""Of a continuous action; games keep them as float32."""


class ThresholdActions(Options):
    """One output, squashed by tanh and cut at +-1/3 into three discrete actions.

    The control is -1, 0 or +1. Source: World Models, sec. 4 (Doom, left/stay/right).

    Attributes:
        low: The game's action for control -1.
        middle: The game's action for control 0.
        high: The game's action for control +1.
        sampled: Whether the action is drawn from the softmax of ``logits``.
    """

    kind: Literal["threshold"]
    low: GameAction
    middle: GameAction
    high: GameAction
    sampled: bool = False

    @property
    def outputs(self) -> int:
        """How many numbers a controller must put out."""
        return 1

    @property
    def size(self) -> int:
        """The length of the control vector."""
        return 1

    @property
    def constants(self) -> np.ndarray:
        """Each action as a control, (actions, 1) float32."""
        return np.array([[-1], [0], [1]], np.float32)

    @property
    def space(self) -> gymnasium.spaces.Discrete:
        """What an agent in the dream chooses from: the rows of ``constants``."""
        return gymnasium.spaces.Discrete(len(self.constants))

    def to_controls(self, chosen: np.ndarray) -> np.ndarray:
        """Controls (batch, 1) float32 of elements of ``space``, (batch,) integers."""
        return self.constants[chosen]

    def logits(self, outputs: Tensor) -> Tensor:
        """Of outputs (..., 1): logits of low, middle and high, (..., 3).

        The largest is that of the action which the thresholds choose.
        """
        sharp = outputs / THRESHOLD
        return torch.cat((-sharp, torch.ones_like(sharp), sharp), -1)

    def decide(self, outputs: Tensor, gumbel: Tensor | None = None) -> Tensor:
        """Map outputs (..., 1) to controls (..., 1) in {-1, 0, 1}, float32.

        By ``gumbel``, standard Gumbel noise (..., 3), a ``sampled`` action is drawn.
        """
        if self.sampled and gumbel is not None:
            return (self.logits(outputs) + gumbel).argmax(-1, keepdim=True).float() - 1
        return (outputs > THRESHOLD).float() - (outputs < -THRESHOLD).float()

    def sample(self, random: np.random.Generator) -> np.ndarray:
        """A uniformly drawn control, (1,) float32."""
        return np.array([random.integers(-1, 2)], dtype=np.float32)

    def to_game(self, control: np.ndarray) -> int:
        """The game's action for a control (1,)."""
        return (self.low, self.middle, self.high)[int(np.sign(control[0])) + 1]

    def of_game(self, action: np.ndarray) -> np.ndarray:
        """The control, (1,) float32, of one of the game's actions, () integer."""
        number = (self.low, self.middle, self.high).index(int(action))
        return self.constants[number]

    def check(self, space: gymnasium.Space[Any]) -> None:
        """Raise ValueError unless the game's action space holds all three actions."""
        chosen = (self.low, self.middle, self.high)
        if not isinstance(space, gymnasium.spaces.Discrete) or not all(
            space.contains(action) for action in chosen
        ):
            raise InputError(
                "environment.actions: kind 'threshold' with the actions "
                f"{chosen} needs a Discrete action space "
                f"that holds them, found {space}"
            )


class DiscreteActions(Options):
    """A choice among ``count`` actions by their logits; the control is one-hot.

    Attributes:
        count: How many actions the game has, 2 or more.
        sampled: Whether the action is drawn from the softmax of the logits, rather
            than being that of the largest one.
    """

    kind: Literal["discrete"]
    count: int = Field(ge=2, le=1000)
    sampled: bool = False

    @property
    def outputs(self) -> int:
        """How many numbers a controller must put out."""
        return self.count

    @property
    def size(self) -> int:
        """The length of the control vector."""
        return self.count

    @property
    def constants(self) -> np.ndarray:
        """Each action as a control, (count, count) float32."""
        return np.eye(self.count, dtype=np.float32)

    @property
    def space(self) -> gymnasium.spaces.Discrete:
        """What an agent in the dream chooses from."""
        return gymnasium.spaces.Discrete(self.count)

    def to_controls(self, chosen: np.ndarray) -> np.ndarray:
        """Controls (batch, count) float32 of elements of ``space``, (batch,) integers."""
        return self.constants[chosen]

    def logits(self, outputs: Tensor) -> Tensor:
        """The outputs, which are logits, (..., count)."""
        return outputs

    def decide(self, outputs: Tensor, gumbel: Tensor | None = None) -> Tensor:
        """Map logits (..., count) to one-hot controls of the same shape, float32.

        ``gumbel`` is standard Gumbel noise of that shape, by which a ``sampled``
        action is drawn; without it the largest logit wins.
        """
        if self.sampled and gumbel is not None:
            outputs = outputs + gumbel
        chosen = outputs.argmax(-1)
        return torch.nn.functional.one_hot(chosen, self.count).float()

    def sample(self, random: np.random.Generator) -> np.ndarray:
        """A uniformly drawn one-hot control, (count,) float32."""
        chosen = int(random.integers(self.count))
        return np.eye(self.count, dtype=np.float32)[chosen]

    def to_game(self, control: np.ndarray) -> int:
        """The game's action for a control (count,)."""
        return int(np.argmax(control))

    def of_game(self, action: np.ndarray) -> np.ndarray:
        """The control, (count,) float32, of one of the game's actions, () integer."""
        return self.constants[int(action)]

    def check(self, space: gymnasium.Space[Any]) -> None:
        """Raise ValueError unless the game has exactly ``count`` actions."""
        if not isinstance(space, gymnasium.spaces.Discrete) or (
            (space.start, space.n) != (0, self.count)
        ):
            raise InputError(
                f"environment.actions: kind 'discrete' with count {self.count} needs "
                f"the action space Discrete({self.count}), found {space}"
            )


class BoxActions(Options):
    """Continuous actions: tanh of each output, scaled to the game's bounds.

    The control lies in [-1, 1] in each dimension.

    Attributes:
        low: The game's lower bound of each dimension.
        high: The game's upper bound of each dimension, above ``low``.
        clipped: In which dimensions every control below 0 is the lower bound, as that of
            the paper's brake (World Models, appendix A.3); none, or one of each.
        squash: What brings an output into [-1, 1]; ``none`` leaves it, M reads it as it
            is, and the game's action is at a bound beyond.
        bounded: Whether a clipped control is 0 at the least, so that M reads what the
            game does; else M reads what C wants.
    """

    kind: Literal["box"]
    low: tuple[Bound, ...] = Field(min_length=1, max_length=1000)
    high: tuple[Bound, ...] = Field(min_length=1, max_length=1000)
    clipped: tuple[bool, ...] = Field(default=(), max_length=1000)
    squash: Literal["tanh", "none"] = "tanh"
    bounded: bool = False

    @model_validator(mode="after")
    def _bounds_match(self) -> "BoxActions":
        if len(self.low) != len(self.high) or not all(
            -math.inf < low < high < math.inf
            for low, high in zip(self.low, self.high, strict=True)
        ):
            raise ValueError(
                "low and high must be finite, of one length, each low below its high; found "
                f"low={self.low}, high={self.high}"
            )
        if len(self.clipped) not in (0, len(self.low)):
            raise ValueError(
                f"clipped must be empty or of {len(self.low)}, as low is; found "
                f"{self.clipped}"
            )
        return self

    @property
    def sampled(self) -> bool:
        """Whether a decision is drawn."""
        return False

    @property
    def outputs(self) -> int:
        """How many numbers a controller must put out."""
        return len(self.low)

    @property
    def size(self) -> int:
        """The length of the control vector."""
        return len(self.low)

    @property
    def least(self) -> np.ndarray:
        """The control of the lower bound, of each dimension; float64."""
        return np.where(self.clipped or (False,) * self.size, 0.0, -1.0)

    @property
    def constants(self) -> np.ndarray:
        """The middle and both ends of each dimension, (1 + 2 dimensions, dimensions).

        Those of a bounded box that are alike are one.
        """
        axes = np.eye(self.size, dtype=np.float32)
        ends = np.concatenate((np.zeros((1, self.size), np.float32), axes, -axes))
        different = dict.fromkeys(map(tuple, self.kept(ends)))
        return np.array(list(different), np.float32)

    @property
    def space(self) -> gymnasium.spaces.Box:
        """What an agent in the dream chooses from: the game's own actions."""
        low, high = np.array(self.low, np.float32), np.array(self.high, np.float32)
        return gymnasium.spaces.Box(low, high, dtype=np.float32)

    def to_controls(self, chosen: np.ndarray) -> np.ndarray:
        """Controls (batch, dimensions) float32 of the game's actions, same shape."""
        low, high = np.array(self.low), np.array(self.high)
        least = self.least
        scaled = (chosen - low) / (high - low) * (1 - least) + least
        # The bounds of ``space`` are rounded to float32.
        return np.clip(scaled, -1, 1).astype(np.float32)

    def decide(self, outputs: Tensor, gumbel: Tensor | None = None) -> Tensor:
        """Map outputs (..., dimensions) to controls of the same shape."""
        controls = outputs.clone(memory_format=torch.contiguous_format)
        if self.squash == "tanh":
            controls = tanh_(controls)
        if self.bounded:
            for number in np.flatnonzero(self.clipped):
                controls[..., int(number)].clamp_(min=0)
        return controls

    def sample(self, random: np.random.Generator) -> np.ndarray:
        """A uniformly drawn control, (dimensions,) float32."""
        return self.kept(random.uniform(-1, 1, self.size).astype(np.float32))

    def kept(self, controls: np.ndarray) -> np.ndarray:
        """What M reads of controls (..., dimensions) float32, same shape."""
        return (
            controls.clip(self.least).astype(np.float32) if self.bounded else controls
        )

    def to_game(self, control: np.ndarray) -> np.ndarray:
        """The game's action for a control, (dimensions,) float32."""
        low, high = np.array(self.low), np.array(self.high)
        least = self.least
        share = (np.clip(control, least, 1) - least) / (1 - least)
        scaled = np.clip(low + share * (high - low), low, high).astype(np.float32)
        # Rounding to float32 must not leave the bounds.
        beyond = (scaled < low) | (scaled > high)
        middle = ((low + high) / 2).astype(np.float32)
        return np.where(beyond, np.nextafter(scaled, middle), scaled)

    def of_game(self, action: np.ndarray) -> np.ndarray:
        """The control, (dimensions,) float32, of a game's action of the same shape."""
        return self.to_controls(action)

    def check(self, space: gymnasium.Space[Any]) -> None:
        """Raise ValueError unless the game's action space is this box, of floats."""
        fits = isinstance(space, gymnasium.spaces.Box) and (
            np.issubdtype(space.dtype, np.floating)
            and space.shape == (self.size,)
            and np.allclose(space.low, self.low)
            and np.allclose(space.high, self.high)
        )
        if not fits:
            raise InputError(
                f"environment.actions: kind 'box' with low {self.low} and high "
                f"{self.high} needs a Box of floats with these bounds, found {space}"
            )


Actions = ThresholdActions | DiscreteActions | BoxActions
"""Any action mapping."""

ActionOptions = Annotated[Actions, Field(discriminator="kind")]
"""An action mapping as a field of options, told apart by its ``kind``."""


def control_space(actions: Actions) -> gymnasium.spaces.Box:
    """The Gymnasium space of the controls of an action mapping."""
    free = isinstance(actions, BoxActions) and actions.squash == "none"
    most = np.inf if free else 1.0
    return gymnasium.spaces.Box(-most, most, (actions.size,), np.float32)
