"""Matrix products with weights that stay the same over many steps.

On a CPU by oneDNN, which torch brings along: its weights are laid out once, and at M's
sizes it is up to a third faster than ``torch.addmm``. What torch offers of it publicly
converts every input, so this calls the operator that its own compiler uses.
"""

from collections.abc import Callable

import torch
from torch import Tensor

CHUNK = 512
"""Rows a thread in a product, at most: what comes of them stays in the cache."""

Product = Callable[[Tensor], Tensor]
"""From rows (rows, inputs) to (rows, outputs)."""


def product(weights: Tensor, bias: Tensor) -> Product:
    """Rows times weights, plus bias.

    Args:
        weights: (inputs, outputs) float32, on any device.
        bias: (outputs,) float32.

    Returns:
        The product; a row's result does not depend on the others.
    """
    if weights.device.type == "cpu" and _has_onednn():
        pack = torch.ops.mkldnn._reorder_linear_weight  # noqa: SLF001
        multiply = torch.ops.mkldnn._linear_pointwise  # noqa: SLF001
        packed = pack(weights.T.contiguous(), CHUNK)

        def by_onednn(rows: Tensor) -> Tensor:
            found: Tensor = multiply(rows, packed, bias, "none", [], "")
            return found

        return by_onednn
    return lambda rows: torch.addmm(bias, rows, weights)


def chunk_bounds(rows: int) -> list[int]:
    """Where rows are cut for the CPU's products, both ends included."""
    count = -(-rows // (CHUNK * torch.get_num_threads()))
    return [rows * number // count for number in range(count + 1)]


def _has_onednn() -> bool:
    """Whether this torch was built with oneDNN and has the operators."""
    return torch.backends.mkldnn.is_available() and all(
        hasattr(torch.ops.mkldnn, name)
        for name in ("_reorder_linear_weight", "_linear_pointwise")
    )
