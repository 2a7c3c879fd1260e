"""A batch's gradient by parts of its rows, one thread each."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

LEAST_ROWS = 8
"""Of a part: the products of fewer are slow."""

Carried = tuple[Tensor, ...]
"""What one step hands to the next, each with the batch's rows first."""

Loss = Callable[[Any, Carried], tuple[Tensor, dict[str, Tensor], Carried]]
"""Of some rows of a batch and what the step before handed on: their share of the batch's
loss, a scalar with gradients; likewise its parts by name; and what is handed on. The
shares add up to what the whole batch gives."""


class Found(NamedTuple):
    """What a batch gives, beside the gradients.

    Attributes:
        loss: A scalar.
        parts: Its parts, scalars by name.
        carried: What is handed to the next step.
    """

    loss: Tensor
    parts: dict[str, Tensor]
    carried: Carried


class PartedGradients:
    """Computes gradients of a loss; a context, which has torch's threads to itself.

    On a CPU each thread takes some rows from the first product to the last gradient.
    Threads that share every product wait for one another some hundred times a step, and
    where another process has one of their cores all of them stand still.

    Args:
        loss: Of some rows.
        parameters: By which it is derived; their ``grad`` is set.
        batch_size: Rows of a batch.
        device: Where they are; on a GPU there is one part.
        half: Whether products are bfloat16.
    """

    def __init__(
        self,
        loss: Loss,
        parameters: Sequence[Tensor],
        batch_size: int,
        device: torch.device,
        half: bool = False,
    ) -> None:
        self._loss, self._parameters = loss, parameters
        self._device, self._half = device, half
        self._threads = torch.get_num_threads()
        most = batch_size // LEAST_ROWS if device.type == "cpu" else 1
        self.count = max(1, min(self._threads, most))
        self._pool: ThreadPoolExecutor | None = None

    def __enter__(self) -> Self:
        if self.count > 1:
            self._pool = ThreadPoolExecutor(self.count, "part of a batch")
            torch.set_num_threads(self._threads // self.count)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown()
            torch.set_num_threads(self._threads)

    def __call__(self, batch: Any, carried: Carried) -> Found:
        """Set the gradients for a batch, a named tuple of tensors with its rows first."""
        if self._pool is None:
            results = [self._part(batch, carried)]
        else:
            batches = [type(batch)(*rows) for rows in self._split(batch)]
            results = list(self._pool.map(self._part, batches, self._split(carried)))
        founds, gradients = zip(*results, strict=True)
        with torch.no_grad():
            for parameter, *own in zip(self._parameters, *gradients, strict=True):
                # In the parameter's own layout of memory, as the optimiser reads it.
                parameter.grad = torch.empty_like(parameter).copy_(own[0])
                for gradient in own[1:]:
                    parameter.grad += gradient
        return Found(
            torch.stack([found.loss for found in founds]).sum(),
            {
                name: torch.stack([found.parts[name] for found in founds]).sum()
                for name in founds[0].parts
            },
            tuple(
                torch.cat(rows)
                for rows in zip(*(found.carried for found in founds), strict=True)
            ),
        )

    def _split(self, tensors: Sequence[Tensor]) -> list[tuple[Tensor, ...]]:
        """Their rows, in as many parts as there are threads."""
        parts = [tensor.tensor_split(self.count) for tensor in tensors]
        return list(zip(*parts, strict=True)) or [()] * self.count

    def _part(self, batch: Any, carried: Carried) -> tuple[Found, tuple[Tensor, ...]]:
        # Autocast is a thread's own. Its cache would hand weights that were cast without
        # gradients, for M's own samples, to what is differentiated (torch 2.8 and 2.9).
        with torch.autocast(
            self._device.type, torch.bfloat16, enabled=self._half, cache_enabled=False
        ):
            loss, parts, carried = self._loss(batch, carried)
        gradients = torch.autograd.grad(loss, self._parameters)
        detached = {name: part.detach() for name, part in parts.items()}
        return Found(loss.detach(), detached, carried), gradients
