"""Agents of one episode, as policies that decide in many."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from wm_pipeline.common.errors import InputError
from wm_pipeline.models.world_model import WorldModel
from wm_pipeline.policies.latent_policy import LatentPolicy


class Agent(Protocol):
    """Chooses the control of one episode, from what it sees and remembers."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of what it sees."""

    def begin(self, seed: int) -> Any:
        """What it remembers at first."""

    def act(self, seen: np.ndarray, memory: Any) -> tuple[np.ndarray, Any]:
        """The control, (size,) float32, and what it remembers from now on."""


class NamedAgent:
    """An agent whose errors name it, in whichever of its decisions they come.

    Args:
        agent: It.
        name: The option by which it is there.
    """

    def __init__(self, agent: Agent, name: str) -> None:
        self._agent, self._name = agent, name
        self.shape = agent.shape

    def begin(self, seed: int) -> Any:
        """What the agent remembers at first.

        Raises:
            InputError: It cannot begin.
        """
        with self._named():
            return self._agent.begin(seed)

    def act(self, seen: np.ndarray, memory: Any) -> tuple[np.ndarray, Any]:
        """What the agent does.

        Raises:
            InputError: It fails, or does what is no action of the game's.
        """
        with self._named():
            return self._agent.act(seen, memory)

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            with deciding():
                yield
        except InputError as error:
            raise InputError(f"{self._name}: {error}") from error


@contextmanager
def deciding() -> Iterator[None]:
    """Make of what an agent raises in the block, whose code is anybody's, an InputError."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        said = " ".join(str(error).split())
        raise InputError(
            f"the agent cannot decide: {type(error).__name__}: {said}"
        ) from error


class FrameAgentPolicy:
    """An agent that sees frames.

    Args:
        agent: It.
        hold: Steps of the game for which each control is held.
    """

    sees = True

    def __init__(self, agent: Agent, hold: int) -> None:
        self._agent, self.hold = agent, hold

    def begin(self, seed: int) -> tuple[Any, None]:
        """What the agent remembers at first; its random numbers are its own."""
        return self._agent.begin(seed), None

    def act(
        self, frames: np.ndarray | None, states: Sequence[Any], randoms: Sequence[Any]
    ) -> tuple[np.ndarray, list[Any]]:
        """The agent's controls, episode by episode; see ``Policy``."""
        assert frames is not None, "an agent needs frames"
        decided = [
            self._agent.act(frame, state)
            for frame, state in zip(frames, states, strict=True)
        ]
        return np.stack([control for control, _ in decided]), [
            state for _, state in decided
        ]


class LatentAgentPolicy(LatentPolicy):
    """An agent that sees [z, h], as in the dream.

    Args:
        agent: It; M is its only memory.
        world_model: V and M.
        sample_latents: As ``LatentPolicy``.
    """

    def __init__(
        self, agent: Agent, world_model: WorldModel, sample_latents: bool
    ) -> None:
        super().__init__(world_model, sample_latents, "agent policy")
        if agent.begin(0) is not None:
            raise InputError(
                "the agent has a memory of its own and sees [z, h], whose h is M's: "
                "expected one of both"
            )
        self._agent = agent

    def decide(
        self, latents: Tensor, h: Tensor, c: Tensor, noises: tuple[Tensor, ...]
    ) -> Tensor:
        """The agent's controls at [z, h]."""
        seen = torch.cat((latents, h), 1).numpy()
        controls = [self._agent.act(row, None)[0] for row in seen]
        return torch.from_numpy(np.stack(controls))
