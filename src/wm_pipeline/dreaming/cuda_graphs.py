"""A step's many small operations on a GPU as one CUDA graph.

A step of the dream is some forty small operations, and the host launches each of them.
Recorded once as a CUDA graph, they are launched together.
"""

from collections.abc import Callable

import torch
from torch import Tensor

Step = Callable[..., None]
"""Takes tensors, of the same shapes every time, and changes tensors that it holds; it
never reads a value on the host."""

Recorder = Callable[[Step, tuple[Tensor, ...]], Callable[[], object]]
"""Records a step with these inputs, without doing it; what it returns does it."""


def as_cuda_graph(step: Step, device: torch.device) -> Step:
    """The step, recorded as a CUDA graph where there is a GPU.

    Args:
        step: What to do, the same every time.
        device: Where its tensors are.

    Returns:
        On a CPU the step itself, on a GPU its recording.
    """
    return Recorded(step, cuda_graph) if device.type == "cuda" else step


class Recorded:
    """A step that is recorded at its second call and replayed from then on.

    The first call does the step as it is, which loads what libraries load when they are
    first used: nothing of that may happen while a graph is recorded.

    Args:
        step: What to do.
        record: How to record it.
    """

    def __init__(self, step: Step, record: Recorder) -> None:
        self._step, self._record = step, record
        self._begun = False
        self._replay: Callable[[], object] | None = None
        self._inputs: tuple[Tensor, ...] = ()

    def __call__(self, *inputs: Tensor) -> None:
        """Do the step with these inputs."""
        if not self._begun:
            self._begun = True
            self._step(*inputs)
            return
        if self._replay is None:
            # A recording reads the memory it was made with.
            self._inputs = tuple(each.clone() for each in inputs)
            self._replay = self._record(self._step, self._inputs)
        else:
            for kept, given in zip(self._inputs, inputs, strict=True):
                kept.copy_(given)
        self._replay()


def cuda_graph(step: Step, inputs: tuple[Tensor, ...]) -> Callable[[], object]:
    """A ``Recorder``: the step as a CUDA graph."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step(*inputs)
    return graph.replay


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """The values on that device; on their way to a GPU, nobody waits for them."""
    if device.type != "cuda":
        return values.to(device)
    return values.pin_memory().to(device, non_blocking=True)
