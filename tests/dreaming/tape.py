"""A recorder of torch's operations for the CPU, in place of a CUDA graph."""

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from wm_pipeline.dreaming.cuda_graphs import Step


class Call(NamedTuple):
    """An operation that was done."""

    function: Any
    args: Any
    kwargs: Any
    found: Any

    def tensors(self) -> list[Tensor]:
        """All that it read or made."""
        leaves = tree_leaves((self.args, self.kwargs, self.found))
        return [leaf for leaf in leaves if isinstance(leaf, Tensor)]


class Tape(TorchDispatchMode):
    """Does operations and notes them, with the very tensors they were done with."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Call] = []

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        found = function(*args, **(kwargs or {}))
        self.calls.append(Call(function, args, kwargs or {}, found))
        return found

    def replay(self) -> None:
        """The same operations again; what they made then is made anew."""
        made: dict[int, Tensor] = {}

        def now(value: Any) -> Any:
            return made.get(id(value), value)

        for function, args, kwargs, found in self.calls:
            again = function(*tree_map(now, args), **tree_map(now, kwargs))
            for before, after in zip(
                tree_leaves(found), tree_leaves(again), strict=True
            ):
                if isinstance(before, Tensor):
                    made[id(before)] = after


def tape(step: Step, inputs: tuple[Tensor, ...]) -> Callable[[], object]:
    """A ``Recorder``. A CUDA graph is not done while it is recorded; a tape is, so its
    first replay does nothing.
    """
    with Tape() as recorded:
        step(*inputs)
    replays = iter([lambda: None])

    def replay() -> None:
        next(replays, recorded.replay)()

    return replay
