"""Agents that were made elsewhere, as policies that play the game.

Of Stable-Baselines3, as ONNX files, or classes of one's own. One sees either frames, or
[z, h] of V and M as in ``wm_pipeline/Dream-v0``, and takes the actions of that environment.
"""

import hashlib
import importlib.util
from collections.abc import Mapping, Sequence
from functools import cached_property
from importlib import import_module
from io import BytesIO
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

import gymnasium
import numpy as np
import torch
from pydantic import AfterValidator, Field
from torch import Tensor

from wm_pipeline.common.errors import InputError
from wm_pipeline.common.options import Options
from wm_pipeline.environments.actions import Actions, control_space
from wm_pipeline.environments.checks import checked_action
from wm_pipeline.models.actor import Actor
from wm_pipeline.models.vae import FRAME_SHAPE
from wm_pipeline.models.world_model import WorldModel
from wm_pipeline.policies.latent_policy import LatentPolicy
from wm_pipeline.policies.policy import Policy

CHANNELS_FIRST = (FRAME_SHAPE[2], *FRAME_SHAPE[:2])


def _is_a_file(path: str) -> str:
    if not Path(path).is_file():
        raise ValueError("expected the path of a file that is there")
    return path


class _AgentOptions(Options):
    hold: int = Field(default=1, ge=1, le=1000)


class _FileOptions(_AgentOptions):
    file: Annotated[str, Field(min_length=1), AfterValidator(_is_a_file)]

    def determining(self) -> dict[str, Any]:
        """The file counts by what is in it."""
        content = Path(self.file).read_bytes()
        return {**super().determining(), "sha256": hashlib.sha256(content).hexdigest()}


class Sb3AgentOptions(_FileOptions):
    """An agent that Stable-Baselines3 has saved. Its file holds pickles: trust it first.

    Attributes:
        file: The zip.
        algorithm: Which of theirs it is.
        hold: Steps of the game for which it holds each control; where it sees [z, h]
            those of one step of M.
    """

    kind: Literal["sb3"]
    algorithm: Literal["A2C", "DDPG", "DQN", "PPO", "SAC", "TD3"] = "PPO"


class OnnxAgentOptions(_FileOptions):
    """An agent as an ONNX file.

    Its first input is what it sees, one row: frames (1, 64, 64, 3) or (1, 3, 64, 64), as
    uint8 or as float32 of 0 to 1; or [z, h], (1, latent + hidden) float32. Its first
    output is either the number of the action, (1,) integers, or what C would put out,
    (1, outputs) float32. Further inputs are its memory: zeros at first, then its further
    outputs, in their order.

    Attributes:
        file: The file.
        hold: As that of the other.
    """

    kind: Literal["onnx"]


class PythonAgentOptions(_AgentOptions):
    """An agent of a class with ``act(frame) -> action``, an instance an episode.

    Frames are (64, 64, 3) uint8. With a method ``reset(seed)``, that is called at first.

    Attributes:
        name: The dotted name of the class; a module in the project's folder is found.
        kwargs: Keywords with which it is made.
        hold: Steps of the game for which it holds each control.
    """

    kind: Literal["python"]
    name: str = Field(pattern=r"^[\w.]+\.\w+$")
    kwargs: dict[str, Any] = Field(default={})


AgentOptions = Annotated[
    Sb3AgentOptions | OnnxAgentOptions | PythonAgentOptions, Field(discriminator="kind")
]
"""Any agent."""


class Agent(Protocol):
    """Chooses the control of one episode, from what it sees and remembers."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of what it sees."""

    def begin(self, seed: int) -> Any:
        """What it remembers at first."""

    def act(self, seen: np.ndarray, memory: Any) -> tuple[np.ndarray, Any]:
        """The control, (size,) float32, and what it remembers from now on."""


def agent_policy(
    options: AgentOptions,
    world_model: WorldModel,
    actions: Actions,
    sample_latents: bool,
) -> Policy:
    """The policy that plays as an agent does.

    Args:
        options: Which agent.
        world_model: V and M, for agents that see [z, h].
        actions: The action mapping.
        sample_latents: As ``LatentPolicy``.

    Raises:
        InputError: There is no such agent, the package that it needs is missing, or what
            it sees or does is not of this game.
    """
    agent: Agent
    if isinstance(options, PythonAgentOptions):
        agent = ClassAgent(options.name, options.kwargs, actions)
    elif isinstance(options, OnnxAgentOptions):
        agent = OnnxAgent(_content(options, "onnxruntime", "onnx"), actions)
    else:
        content = _content(options, "stable_baselines3", "sb3")
        agent = Sb3Agent(content, options.algorithm, actions)
    mdn_rnn = world_model.mdn_rnn
    latents = (mdn_rnn.latent_size + mdn_rnn.hidden_size,)
    if agent.shape == latents:
        return LatentAgentPolicy(agent, world_model, sample_latents)
    if agent.shape not in (FRAME_SHAPE, CHANNELS_FIRST):
        raise InputError(
            f"the agent sees {agent.shape}; expected frames, {FRAME_SHAPE} or "
            f"{CHANNELS_FIRST}, or [z, h] of V and M, {latents}"
        )
    return FrameAgentPolicy(agent, options.hold)


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


class ClassAgent:
    """An agent of somebody's class.

    Args:
        name: Its dotted name.
        kwargs: Keywords with which it is made.
        actions: The action mapping.
    """

    shape = FRAME_SHAPE

    def __init__(self, name: str, kwargs: Mapping[str, Any], actions: Actions) -> None:
        self._kwargs, self._actions = kwargs, actions
        module, _, attribute = name.rpartition(".")
        try:
            self._kind = getattr(import_module(module), attribute)
            made = self._kind(**kwargs)
        except (ImportError, AttributeError, TypeError) as error:
            raise InputError(
                f"{name}: expected a class that {dict(kwargs)} makes an agent of, found "
                f"{type(error).__name__}: {error}"
            ) from error
        if not callable(getattr(made, "act", None)):
            raise InputError(f"{name}: expected a method act(frame), found none")

    def begin(self, seed: int) -> Any:
        """A new instance."""
        agent = self._kind(**self._kwargs)
        if hasattr(agent, "reset"):
            agent.reset(seed)
        return agent

    def act(self, seen: np.ndarray, memory: Any) -> tuple[np.ndarray, Any]:
        """What ``act`` of the instance chooses."""
        chosen = checked_action(memory.act(seen), self._actions.space)
        control: np.ndarray = self._actions.to_controls(chosen[None])[0]
        return control, memory


class ActorAgent:
    """An actor at [z, h], which chooses without chance.

    Args:
        actor: Its outputs are logits where the mapping's actions are discrete, else the
            game's own, which are cut at their bounds.
        actions: The action mapping.

    Raises:
        InputError: The actor has other outputs.
    """

    def __init__(self, actor: Actor, actions: Actions) -> None:
        self._actor, self._actions = actor, actions
        self.shape = (actor.features,)
        space = actions.space
        expected = (
            int(space.n)
            if isinstance(space, gymnasium.spaces.Discrete)
            else len(space.low)
        )
        if actor.outputs != expected:
            raise InputError(
                f"an actor: expected {expected} outputs for {space}, found "
                f"{actor.outputs}"
            )

    def begin(self, seed: int) -> None:
        """It remembers nothing."""

    def act(self, seen: np.ndarray, memory: Any) -> tuple[np.ndarray, None]:
        """The most likely action, or the mean one."""
        outputs = self._actor(torch.from_numpy(seen)).numpy()
        space = self._actions.space
        chosen = (
            outputs.argmax()
            if isinstance(space, gymnasium.spaces.Discrete)
            else outputs.clip(space.low, space.high)
        )
        control: np.ndarray = self._actions.to_controls(chosen[None])[0]
        return control, None


class Sb3Agent:
    """An agent of Stable-Baselines3, which chooses without chance.

    Args:
        content: Of its zip.
        algorithm: Of theirs.
        actions: The action mapping; the agent's actions are those of
            ``wm_pipeline/Dream-v0``, or controls, as those of ``wm_pipeline/Real-v0``.
    """

    def __init__(self, content: bytes, algorithm: str, actions: Actions) -> None:
        self._arguments = content, algorithm, actions
        self._actions = actions
        found = self._model.action_space
        if found not in (actions.space, control_space(actions)):
            raise InputError(
                f"the agent's actions are {found}; expected {actions.space}, or the "
                f"controls {control_space(actions)}"
            )
        self._takes_controls = found != actions.space

    def __reduce__(self) -> tuple[Any, ...]:
        """It is opened anew in each process that plays."""
        return Sb3Agent, self._arguments

    @cached_property
    def _model(self) -> Any:
        content, algorithm, _ = self._arguments
        kind = getattr(import_module("stable_baselines3"), algorithm)
        try:
            return kind.load(BytesIO(content), device="cpu")
        except Exception as error:  # their errors, torch's and those of pickles
            raise InputError(
                f"expected the zip of an agent by {algorithm}, found "
                f"{type(error).__name__}: {error}"
            ) from error

    @property
    def shape(self) -> tuple[int, ...]:
        """Of what it sees."""
        shape: tuple[int, ...] = self._model.observation_space.shape
        return shape

    def begin(self, seed: int) -> None:
        """It remembers nothing."""

    def act(self, seen: np.ndarray, memory: Any) -> tuple[np.ndarray, None]:
        """What its policy's mode chooses."""
        chosen, _ = self._model.predict(seen, deterministic=True)
        if self._takes_controls:
            return np.asarray(chosen, np.float32), None
        control: np.ndarray = self._actions.to_controls(np.asarray(chosen)[None])[0]
        return control, None


class OnnxAgent:
    """An agent as an ONNX file; see ``OnnxAgentOptions``.

    Args:
        content: Of the file.
        actions: The action mapping.
    """

    def __init__(self, content: bytes, actions: Actions) -> None:
        self._arguments = content, actions
        self._actions = actions
        first, *memory = self._session.get_inputs()
        self._memory = {each.name: _zeros(each) for each in memory}
        self._name, self.shape = first.name, tuple(first.shape[1:])
        self._bytes = first.type == "tensor(uint8)"
        if len(self._session.get_outputs()) != 1 + len(memory):
            raise InputError(
                f"expected of an agent with {len(memory)} inputs of memory as many "
                f"outputs of memory, behind the action; found "
                f"{[each.name for each in self._session.get_outputs()]}"
            )

    shape: tuple[int, ...]

    def __reduce__(self) -> tuple[Any, ...]:
        """It is opened anew in each process that plays."""
        return OnnxAgent, self._arguments

    @cached_property
    def _session(self) -> Any:
        runtime = import_module("onnxruntime")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = 1  # the games are side by side already
        try:
            return runtime.InferenceSession(
                self._arguments[0], options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # theirs have no common class
            raise InputError(f"expected an ONNX file, found {error}") from error

    def begin(self, seed: int) -> dict[str, np.ndarray] | None:
        """Zeros; None of an agent without a memory."""
        return self._memory or None

    def act(self, seen: np.ndarray, memory: Any) -> tuple[np.ndarray, Any]:
        """What its first output says."""
        chosen, *after = self._session.run(
            None, {self._name: self._seen(seen)[None], **(memory or {})}
        )
        if chosen.dtype.kind in "iu":
            number = checked_action(chosen.reshape(-1)[0], self._actions.space)
            control: np.ndarray = self._actions.to_controls(number[None])[0]
        else:
            if chosen.size != self._actions.outputs:
                raise InputError(
                    f"the agent puts out {chosen.shape}; expected the number of an action, "
                    f"as integers, or C's outputs, (1, {self._actions.outputs})"
                )
            outputs = torch.from_numpy(chosen.reshape(1, -1).astype(np.float32))
            control = self._actions.decide(outputs)[0].numpy()
        return control, dict(zip(self._memory, after, strict=True)) or None

    def _seen(self, seen: np.ndarray) -> np.ndarray:
        if seen.shape == FRAME_SHAPE and self.shape == CHANNELS_FIRST:
            seen = seen.transpose(2, 0, 1)
        if seen.dtype == np.uint8 and not self._bytes:
            seen = seen.astype(np.float32) / 255
        return np.ascontiguousarray(seen)


def _zeros(memory: Any) -> np.ndarray:
    """The first values of a memory; a free axis is that of the batch."""
    shape = [size if isinstance(size, int) else 1 for size in memory.shape]
    return np.zeros(shape, np.float32)


def _content(
    options: Sb3AgentOptions | OnnxAgentOptions, package: str, extra: str
) -> bytes:
    """Of the agent's file, if what reads it is there."""
    if importlib.util.find_spec(package) is None:
        raise InputError(
            f"an agent of kind {options.kind} needs {package}: "
            f"pip install 'wm-pipeline[{extra}]'"
        )
    return Path(options.file).read_bytes()
