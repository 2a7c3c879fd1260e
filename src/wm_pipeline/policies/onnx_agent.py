"""An agent as an ONNX file."""

import json
from functools import cached_property
from importlib import import_module
from typing import Any

import numpy as np
import torch

from wm_pipeline.common.errors import InputError
from wm_pipeline.environments.actions import Actions
from wm_pipeline.environments.checks import checked_action
from wm_pipeline.models.vae import CHANNELS_FIRST, FRAME_SHAPE

ABOUT = "wm_pipeline"
"""The key of an ONNX file's metadata under which an exported one tells of itself: JSON."""


NUMBERS = {
    "float16": np.float16,
    "float": np.float32,
    "double": np.float64,
    "int8": np.int8,
    "int16": np.int16,
    "int32": np.int32,
    "int64": np.int64,
    "uint8": np.uint8,
}
"""Types of a memory, as onnxruntime names them."""


class OnnxAgent:
    """An agent as an ONNX file; see ``OnnxAgentOptions``.

    Args:
        content: Of the file.
        actions: The action mapping.

    Attributes:
        shape: Of what it sees.
        hold: Steps of the game for which it holds an action, of an exported one.

    Raises:
        InputError: It is no ONNX file, or none of an agent of these actions.
    """

    def __init__(self, content: bytes, actions: Actions) -> None:
        self._arguments = content, actions
        self._actions = actions
        first, *memory = self._session.get_inputs()
        self._memory = {each.name: _zeros(each) for each in memory}
        self._name, self.shape = first.name, tuple(first.shape[1:])
        self._bytes = first.type == "tensor(uint8)"
        metadata = self._session.get_modelmeta().custom_metadata_map
        about = json.loads(metadata[ABOUT]) if ABOUT in metadata else None
        self._takes_game_actions = about is not None
        self.hold: int | None = None
        if about is not None:
            if not {"hold", "environment"} <= about.keys():
                raise InputError(
                    "expected an agent, as agent.onnx of the export stage; found a file "
                    "of ours that does not know its game, as those of the play page"
                )
            self.hold = about["hold"]
            _check_actions(about["environment"]["actions"], actions)
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

    def feed(self, seen: np.ndarray, memory: Any) -> dict[str, np.ndarray]:
        """The inputs of a decision, by name."""
        return {self._name: self._seen(seen)[None], **(memory or {})}

    def act(self, seen: np.ndarray, memory: Any) -> tuple[np.ndarray, Any]:
        """What its first output says."""
        chosen, *after = self._session.run(None, self.feed(seen, memory))
        if self._takes_game_actions:
            control: np.ndarray = self._actions.of_game(chosen[0])
        elif chosen.dtype.kind in "iu":
            number = checked_action(chosen.reshape(-1)[0], self._actions.space)
            control = self._actions.to_controls(number[None])[0]
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


def _check_actions(exported: dict[str, Any], actions: Actions) -> None:
    """Refuse an exported agent of other actions."""
    expected = actions.model_dump(mode="json")
    if exported != expected:
        raise InputError(
            f"the agent was exported with the actions {exported}; expected those of this "
            f"game, {expected}"
        )


def _zeros(memory: Any) -> np.ndarray:
    """The first values of a memory; a free axis is that of the batch."""
    shape = [size if isinstance(size, int) else 1 for size in memory.shape]
    name = memory.type.removeprefix("tensor(").removesuffix(")")
    if name not in NUMBERS:
        raise InputError(
            f"expected of the memory {memory.name!r} numbers, found {memory.type}"
        )
    return np.zeros(shape, NUMBERS[name])
