"""The functions of ``training.c``, each with its gradient, for torch's autograd.

Their callers ask ``usable`` first, and let torch do the work where it says no.
"""

import ctypes
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.autograd.graph import increment_version

from wm_pipeline.kernels.native import SalienceArguments, address, compiled

MOST_MIXTURES = 64
"""As in ``training.c``."""

FRAME = (64, 64, 3)
"""As in ``training.c``."""


def usable(tensor: Tensor) -> bool:
    """Whether the functions take a tensor: float32 on a CPU, with a C compiler."""
    return (
        tensor.device.type == "cpu"
        and tensor.dtype is torch.float32
        and not torch.is_autocast_enabled("cpu")
        and compiled() is not None
    )


def lstm(
    inputs: Tensor, state: tuple[Tensor, Tensor], weights: Sequence[Tensor]
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """One layer of an LSTM over sequences, as ``torch.nn.LSTM`` computes it.

    Gradients go to the weights and to the inputs, not to the state before.

    Args:
        inputs: (batch, time, input) float32.
        state: h and c before the first step, each (batch, hidden).
        weights: Of the inputs (4 hidden, input), of h (4 hidden, hidden), and the two
            biases (4 hidden,).

    Returns:
        h after each step, (batch, time, hidden); and the state after the last one.
    """
    hidden, h, c = _LSTM.apply(inputs.transpose(0, 1), *state, *weights)
    return hidden.transpose(0, 1), (h, c)


def mixture_loss(
    outputs: Tensor,
    targets: Tensor,
    mixtures: int,
    log_deviations: tuple[float, float],
) -> Tensor:
    """-log p of targets under mixtures of Gaussians.

    Args:
        outputs: Mixture logits, means and logarithms of deviations, each (latent,
            mixtures) of at most ``MOST_MIXTURES``, and whatever follows, (...,
            3 latent mixtures + more) float32.
        targets: (..., latent) float32.
        mixtures: Gaussians in a mixture.
        log_deviations: The least and the most they may be.

    Returns:
        (..., latent) in nats.
    """
    return _MixtureLoss.apply(outputs, targets, mixtures, log_deviations)


class SalienceNumbers(NamedTuple):
    """What ``pixel_error`` is told of salience; see ``training.c``.

    Attributes:
        mean: Of the pixels, (64, 64, 3) float32.
        sharpness: What a distance from it is multiplied by, likewise.
        least: Of sharpened distances: where salience begins.
        most: What is above ``least`` is cut to this.
        weight: Shared by the salient pixels around one.
        imagined: Weight of what is salient in a reconstruction.
        reach: Pixels from the middle of what is around a pixel to its edge.
    """

    mean: Tensor
    sharpness: Tensor
    least: float
    most: float
    weight: float
    imagined: float
    reach: int


def pixel_error(
    frames: Tensor, logits: Tensor, salience: SalienceNumbers
) -> tuple[Tensor, Tensor]:
    """The weighted squared error of reconstructions.

    Args:
        frames: (batch, 64, 64, 3) uint8.
        logits: Of the reconstructions, (batch, 64, 64, 3) float32.
        salience: By which pixels are weighed.

    Returns:
        The error of each frame, summed over pixels, (batch,); and how many of its
        pixels are salient, how many in the reconstruction, and in both, (batch, 3).
    """
    return _PixelError.apply(frames, logits, salience)


class _LSTM(torch.autograd.Function):
    """Time is the first axis, so that a step's rows lie side by side."""

    @staticmethod
    def forward(
        ctx: Any, inputs: Tensor, h: Tensor, c: Tensor, *weights: Tensor
    ) -> Any:
        of_inputs, of_hidden, *biases = weights
        inputs = inputs.contiguous()
        time, batch, _ = inputs.shape
        hidden = h.shape[1]
        gates = torch.addmm(biases[0] + biases[1], inputs.flatten(0, 1), of_inputs.t())
        gates = gates.view(time, batch, 4 * hidden)
        hs, cs = (torch.cat((x[None], x.new_empty(time, *x.shape))) for x in (h, c))
        at_gates, at_h, at_c = (_steps(x) for x in (gates, hs, cs))
        for step in range(time):
            gates[step].addmm_(hs[step], of_hidden.t())
            _library().lstm_forward(
                *(batch, hidden, at_gates(step)),
                *(at_c(step), at_c(step + 1), at_h(step + 1)),
            )
        ctx.save_for_backward(inputs, of_inputs, of_hidden, gates, hs, cs)
        return hs[1:], hs[-1].clone(), cs[-1].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_hidden: Tensor, by_h: Tensor, by_c: Tensor) -> Any:
        inputs, of_inputs, of_hidden, gates, hs, cs = ctx.saved_tensors
        # The gates become their gradients: there is no second time.
        increment_version(gates)
        by_hidden = by_hidden.contiguous()
        by_h, by_c = (
            by_h.contiguous(),
            by_c.clone(memory_format=torch.contiguous_format),
        )
        time, batch, _ = gates.shape
        at_gates, at_hidden, at_c = (_steps(x) for x in (gates, by_hidden, cs))
        for step in reversed(range(time)):
            _library().lstm_backward(
                *(batch, hs.shape[2], at_gates(step), at_c(step), at_c(step + 1)),
                *(at_hidden(step), by_h.data_ptr(), by_c.data_ptr()),
            )
            by_h = gates[step] @ of_hidden
        rows = gates.flatten(0, 1)
        by_bias = rows.sum(0)
        return (
            (rows @ of_inputs).view_as(inputs) if ctx.needs_input_grad[0] else None,
            None,
            None,
            rows.t() @ inputs.flatten(0, 1),
            rows.t() @ hs[:-1].flatten(0, 1),
            by_bias,
            by_bias,
        )


class _MixtureLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        outputs: Tensor,
        targets: Tensor,
        mixtures: int,
        log_deviations: tuple[float, float],
    ) -> Tensor:
        outputs, targets = outputs.contiguous(), targets.contiguous()
        *leading, latent = targets.shape
        rows, stride = targets.numel() // latent, outputs.shape[-1]
        nll, gradient = torch.empty_like(targets), torch.empty_like(outputs)
        gradient[..., 3 * latent * mixtures :] = 0
        _library().mixture_loss(
            *(rows, latent, mixtures, stride),
            address(outputs, (*leading, stride), torch.float32),
            address(targets, (*leading, latent), torch.float32),
            *(*log_deviations, nll.data_ptr(), gradient.data_ptr()),
        )
        ctx.save_for_backward(gradient)
        ctx.shape = (*leading, 3, latent, mixtures)
        return nll

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_nll: Tensor) -> Any:
        (gradient,) = ctx.saved_tensors
        latent, mixtures = ctx.shape[-2:]
        mixture = gradient[..., : 3 * latent * mixtures].unflatten(-1, ctx.shape[-3:])
        mixture.mul_(by_nll[..., None, :, None])
        return gradient, None, None, None


class _PixelError(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, frames: Tensor, logits: Tensor, salience: SalienceNumbers
    ) -> Any:
        frames, logits = frames.contiguous(), logits.contiguous()
        batch = len(frames)
        gradient, sums = torch.empty_like(logits), logits.new_empty(batch, 4)
        mean, sharpness, *numbers = salience
        options = SalienceArguments(
            address(mean, FRAME, torch.float32),
            address(sharpness, FRAME, torch.float32),
            *numbers,
        )
        _library().pixel_error(
            batch,
            address(frames, (batch, *FRAME), torch.uint8),
            address(logits, (batch, *FRAME), torch.float32),
            *(options, gradient.data_ptr(), sums.data_ptr()),
        )
        ctx.save_for_backward(gradient)
        error, counts = sums[:, 0].clone(), sums[:, 1:].clone()
        ctx.mark_non_differentiable(counts)
        return error, counts

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_error: Tensor, _: Tensor) -> Any:
        (gradient,) = ctx.saved_tensors
        return None, gradient.mul_(by_error[:, None, None, None]), None


def _library() -> ctypes.CDLL:
    library = compiled()
    assert library is not None
    return library


def _steps(rows: Tensor) -> Callable[[int], int]:
    """Where each step's numbers begin, in (time, batch, size) float32."""
    start = address(rows, tuple(rows.shape), torch.float32)
    size = 4 * rows[0].numel()
    return lambda step: start + step * size
