"""Agents that were made elsewhere, as policies that play the game.

Of Stable-Baselines3, as ONNX files, or classes of one's own. One sees either frames, or
[z, h] of V and M as in ``wm_pipeline/Dream-v0``, and takes the actions of that environment.
"""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, field_validator

from wm_pipeline.common.errors import InputError
from wm_pipeline.common.extras import check_installed
from wm_pipeline.common.files import sha256
from wm_pipeline.common.options import File, Options
from wm_pipeline.environments.actions import Actions, control_space
from wm_pipeline.environments.checks import checked_action
from wm_pipeline.models.vae import CHANNELS_FIRST, FRAME_SHAPE
from wm_pipeline.models.world_model import WorldModel
from wm_pipeline.policies.agent_policy import (
    Agent,
    FrameAgentPolicy,
    LatentAgentPolicy,
    NamedAgent,
    deciding,
)
from wm_pipeline.policies.class_agent import ClassAgent, class_of
from wm_pipeline.policies.onnx_agent import OnnxAgent
from wm_pipeline.policies.policy import Policy
from wm_pipeline.policies.sb3_agent import Sb3Agent


class _AgentOptions(Options):
    hold: Annotated[int, Field(ge=1, le=1000)] | None = None


class _FileOptions(_AgentOptions):
    file: File

    def determining(self) -> dict[str, Any]:
        """The file counts by what is in it."""
        return {**super().determining(), "sha256": sha256(Path(self.file))}


class Sb3AgentOptions(_FileOptions):
    """An agent that Stable-Baselines3 has saved. Its file holds pickles: trust it first.

    Attributes:
        file: The zip.
        algorithm: Which of theirs it is.
        hold: Steps of the game for which it holds each control, else 1; where it sees
            [z, h] those of one step of M.
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
        hold: As that of the other; null also for what the file says, if the export stage
            has written it, whose action is the game's own.
    """

    kind: Literal["onnx"]


class PythonAgentOptions(_AgentOptions):
    """An agent of a class with ``act(frame) -> action``, an instance an episode.

    Frames are (64, 64, 3) uint8. With a method ``reset(seed)``, that is called at first.

    Attributes:
        name: The dotted name of the class; a module in the project's folder is found.
        kwargs: Keywords with which it is made.
        hold: Steps of the game for which it holds each control, else 1.
    """

    kind: Literal["python"]
    name: str = Field(pattern=r"^[\w.]+\.\w+$")
    kwargs: dict[str, Any] = Field(default={})

    def determining(self) -> dict[str, Any]:
        """The class counts by the file that it is in."""
        module = import_module(self.name.rpartition(".")[0])
        file = getattr(module, "__file__", None)  # a notebook has none
        sums = {} if file is None else {"sha256": sha256(Path(file))}
        return {**super().determining(), **sums}

    @field_validator("name")
    @classmethod
    def _check_name(cls, name: str) -> str:
        class_of(name)
        return name


AgentOptions = Annotated[
    Sb3AgentOptions | OnnxAgentOptions | PythonAgentOptions, Field(discriminator="kind")
]
"""Any agent."""


def agent_policies(
    options: Mapping[str, AgentOptions],
    actions: Actions,
    setting: str,
    world_model: WorldModel | None = None,
    sample_latents: bool = False,
) -> dict[str, Policy]:
    """The policies that play as some agents do, by their names.

    Args:
        options: Which agents.
        actions: The action mapping.
        setting: The option that names them, for errors.
        world_model: V and M, for agents that see [z, h]; None where there are none yet.
        sample_latents: As ``LatentPolicy``.

    Raises:
        InputError: There is no such agent, the package that it needs is missing, what it
            sees or does is not of this game, or it fails in its first decision, which
            each takes here at zeros.
    """
    policies = {}
    for key, agent in options.items():
        name = f"{setting}.{key}"
        try:
            policies[key] = _agent_policy(
                agent, name, actions, world_model, sample_latents
            )
        except InputError as error:
            raise InputError(f"{name}: {error}") from error
    return policies


def _agent_policy(
    options: AgentOptions,
    name: str,
    actions: Actions,
    world_model: WorldModel | None,
    sample_latents: bool,
) -> Policy:
    agent: Agent
    hold = options.hold
    if isinstance(options, PythonAgentOptions):
        agent = ClassAgent(options.name, options.kwargs, actions)
    elif isinstance(options, OnnxAgentOptions):
        agent = OnnxAgent(_content(options, "onnxruntime", "onnx"), actions)
        hold = hold or agent.hold
    else:
        content = _content(options, "stable_baselines3", "sb3")
        agent = Sb3Agent(content, options.algorithm, actions)
    if agent.shape in (FRAME_SHAPE, CHANNELS_FIRST):
        _check_decides(agent, np.zeros(FRAME_SHAPE, np.uint8), actions)
        return FrameAgentPolicy(NamedAgent(agent, name), hold or 1)
    expected = f"frames, {FRAME_SHAPE} or {CHANNELS_FIRST}"
    if world_model is not None:
        mdn_rnn = world_model.mdn_rnn
        latents = (mdn_rnn.latent_size + mdn_rnn.hidden_size,)
        if agent.shape == latents:
            named = NamedAgent(agent, name)
            policy = LatentAgentPolicy(named, world_model, sample_latents)
            _check_decides(agent, np.zeros(latents, np.float32), actions)
            return policy
        expected += f", or [z, h] of V and M, {latents}"
    raise InputError(f"the agent sees {agent.shape}; expected {expected}")


def _check_decides(agent: Agent, seen: np.ndarray, actions: Actions) -> None:
    """Refuse an agent whose first decision fails, or is none of the game's."""
    with deciding():
        control, _ = agent.act(seen, agent.begin(0))
        checked_action(control, control_space(actions))


def _content(
    options: Sb3AgentOptions | OnnxAgentOptions, package: str, extra: str
) -> bytes:
    """Of the agent's file, if what reads it is there."""
    check_installed(f"an agent of kind {options.kind}", extra, package)
    return Path(options.file).read_bytes()
