"""The functions of ``lstm.c`` and ``training.c``, each with its gradient, for torch's autograd.

Their callers ask ``usable`` first, and let torch do the work where it says no.
"""

import ctypes
import functools
from collections.abc import Sequence
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
    """Whether the functions take a tensor: float32 on a CPU, with a C compiler.

    Where products are to be of bfloat16 (autocast), the processor must have AMX.
    """
    return (
        tensor.device.type == "cpu"
        and tensor.dtype is torch.float32
        and compiled() is not None
        and (not torch.is_autocast_enabled("cpu") or has_tiles())
    )


@functools.cache
def has_tiles() -> bool:
    """Whether there is AMX, which multiplies bfloat16, for ``tiles.h``."""
    library = compiled()
    return library is not None and bool(library.tiles_usable())


def lstm(
    inputs: Tensor, state: tuple[Tensor, Tensor], weights: Sequence[Tensor]
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """One layer of an LSTM over sequences, as ``torch.nn.LSTM`` computes it.

    Gradients go to the weights and to the inputs, not to the state before. Under autocast
    products are of bfloat16, with sums, states and gradients of float32.

    Args:
        inputs: (batch, time, input) float32.
        state: h and c before the first step, each (batch, hidden).
        weights: Of the inputs (4 hidden, input), of h (4 hidden, hidden), and the two
            biases (4 hidden,).

    Returns:
        h after each step, (batch, time, hidden); and the state after the last one.
    """
    half = torch.is_autocast_enabled("cpu")
    hidden, h, c = _LSTM.apply(half, inputs.transpose(0, 1), *state, *weights)
    return hidden.transpose(0, 1), (h, c)


def linear(inputs: Tensor, weights: Tensor, bias: Tensor) -> Tensor:
    """``torch.nn.functional.linear``, with products of bfloat16 under autocast.

    Args:
        inputs: (..., inputs) float32.
        weights: (outputs, inputs).
        bias: (outputs,).

    Returns:
        (..., outputs) float32.
    """
    if not torch.is_autocast_enabled("cpu"):
        return torch.nn.functional.linear(inputs, weights, bias)
    rows = _Linear.apply(inputs.flatten(0, -2), weights, bias)
    return rows.unflatten(0, inputs.shape[:-1])


def mixture_loss(
    outputs: Tensor,
    targets: Tensor,
    mixtures: int,
    joint: bool,
    log_deviations: tuple[float, float],
) -> tuple[Tensor, Tensor]:
    """-log p of targets under mixtures of Gaussians.

    Args:
        outputs: Mixture logits, means and logarithms of deviations, each (latent,
            mixtures) of at most ``MOST_MIXTURES``, and whatever follows, (..., outputs)
            float32. Of a joint mixture, logits (mixtures), the others each (mixtures,
            latent).
        targets: (..., latent) float32.
        mixtures: Gaussians in a mixture.
        joint: Whether there is one mixture of whole latents, rather than one of each
            dimension.
        log_deviations: The least and the most they may be.

    Returns:
        In nats (..., latent), of a joint mixture the mean over the dimensions (..., 1);
        and what follows the mixtures, (..., more).
    """
    return _MixtureLoss.apply(outputs, targets, mixtures, joint, log_deviations)


class SalienceNumbers(NamedTuple):
    """What ``pixel_error`` is told of salience; see ``training.c``.

    Attributes:
        mean: Of the pixels, (64, 64, 3) float32.
        sharpness: What a distance from it is multiplied by, likewise.
        least: Of sharpened distances: where salience begins.
        most: What is above ``least`` is cut to this.
        weight: Shared by the salient pixels around one.
        imagined: Weight of what is salient in a reconstruction.
        together: So many times ``weight`` a frame's salient pixels have at most.
        reach: Pixels from the middle of what is around a pixel to its edge.
    """

    mean: Tensor
    sharpness: Tensor
    least: float
    most: float
    weight: float
    imagined: float
    together: float
    reach: int


def pixel_error(
    frames: Tensor, patches: Tensor, still: Tensor, salience: SalienceNumbers
) -> tuple[Tensor, Tensor]:
    """The weighted squared error of reconstructions.

    Args:
        frames: (batch, 64, 64, 3) uint8.
        patches: Of the reconstructions' logits without the still, (batch, 64 / side,
            64 / side, side, side, 3) float32.
        still: What is added to each, (64, 64, 3) float32.
        salience: By which pixels are weighed.

    Returns:
        The error, summed over frames and pixels, a scalar; and how many pixels are
        salient, how many in the reconstruction, and in both, (3,).
    """
    return _PixelError.apply(frames, patches, still, salience)


class _LSTM(torch.autograd.Function):
    """Time is the first axis, so that a step's rows lie side by side."""

    @staticmethod
    def forward(
        ctx: Any, half: bool, inputs: Tensor, h: Tensor, c: Tensor, *weights: Tensor
    ) -> Any:
        of_inputs, of_hidden, *biases = weights
        inputs = inputs.contiguous()
        time, batch, size = inputs.shape
        hidden = h.shape[1]
        gates = inputs.new_empty(time, batch, 4 * hidden)
        hs, cs = (torch.cat((x[None], x.new_empty(time, *x.shape))) for x in (h, c))
        of_inputs, of_hidden = of_inputs.contiguous(), of_hidden.contiguous()
        bias = biases[0] + biases[1]
        room = torch.empty(_library().lstm_room(half, batch, size, hidden))
        _library().lstm_forward(
            *(half, time, batch, size, hidden),
            address(inputs, (time, batch, size), torch.float32),
            address(of_inputs, (4 * hidden, size), torch.float32),
            address(of_hidden, (4 * hidden, hidden), torch.float32),
            address(bias, (4 * hidden,), torch.float32),
            *(room.data_ptr(), gates.data_ptr()),
            address(hs, (time + 1, batch, hidden), torch.float32),
            address(cs, (time + 1, batch, hidden), torch.float32),
        )
        ctx.save_for_backward(inputs, of_inputs, of_hidden, gates, hs, cs)
        ctx.half = half
        return hs[1:], hs[-1].clone(), cs[-1].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_hidden: Tensor, by_h: Tensor, by_c: Tensor) -> Any:
        inputs, of_inputs, of_hidden, gates, hs, cs = ctx.saved_tensors
        # The gates become their gradients: there is no second time.
        increment_version(gates)
        by_hidden = by_hidden.contiguous()
        by_h, by_c = (
            part.clone(memory_format=torch.contiguous_format) for part in (by_h, by_c)
        )
        time, batch, hidden = by_hidden.shape
        room = torch.empty(_library().lstm_room(ctx.half, batch, 0, hidden))
        _library().lstm_backward(
            *(ctx.half, time, batch, hidden, gates.data_ptr(), cs.data_ptr()),
            address(by_hidden, (time, batch, hidden), torch.float32),
            address(of_hidden, (4 * hidden, hidden), torch.float32),
            room.data_ptr(),
            address(by_h, (batch, hidden), torch.float32),
            address(by_c, (batch, hidden), torch.float32),
        )
        rows = gates.flatten(0, 1)
        by_bias = rows.sum(0)
        read, before = inputs.flatten(0, 1), hs[:-1].flatten(0, 1)
        if ctx.half:
            both = _half_product(rows.t(), torch.cat((read, before), 1))
            by_weights = both.tensor_split([read.shape[1]], 1)
        else:
            by_weights = rows.t() @ read, rows.t() @ before
        by_inputs = None
        if ctx.needs_input_grad[1]:
            by_inputs = (_half_product if ctx.half else torch.mm)(rows, of_inputs)
            by_inputs = by_inputs.view_as(inputs)
        return None, by_inputs, None, None, *by_weights, by_bias, by_bias


class _Linear(torch.autograd.Function):
    """With products of bfloat16."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weights: Tensor, bias: Tensor) -> Any:
        ctx.save_for_backward(rows, weights)
        return _half_product(rows, weights.t(), bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_outputs: Tensor) -> Any:
        rows, weights = ctx.saved_tensors
        by_rows = _half_product(by_outputs, weights)
        return by_rows, _half_product(by_outputs.t(), rows), by_outputs.sum(0)


class _MixtureLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        outputs: Tensor,
        targets: Tensor,
        mixtures: int,
        joint: bool,
        log_deviations: tuple[float, float],
    ) -> Any:
        outputs, targets = outputs.contiguous(), targets.contiguous()
        *leading, latent = targets.shape
        sizes = targets.numel() // latent, latent, mixtures, outputs.shape[-1]
        choices = 1 if joint else latent
        nll = targets.new_empty(*leading, choices)
        gradient = torch.empty_like(outputs)
        library = _library()
        loss = library.joint_mixture_loss if joint else library.mixture_loss
        loss(
            *sizes,
            address(outputs, (*leading, sizes[3]), torch.float32),
            address(targets, (*leading, latent), torch.float32),
            *(*log_deviations, nll.data_ptr(), gradient.data_ptr()),
        )
        ctx.save_for_backward(gradient)
        ctx.sizes, ctx.joint = sizes, joint
        ctx.others = (choices + 2 * latent) * mixtures
        return nll, outputs[..., ctx.others :].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_nll: Tensor, by_others: Tensor) -> Any:
        (gradient,) = ctx.saved_tensors
        # It is scaled in place: there is no second time.
        increment_version(gradient)
        if ctx.joint:
            gradient.mul_(by_nll)
        else:
            by_nll = by_nll.contiguous()
            _library().mixture_scale(
                *(*ctx.sizes, address(by_nll, tuple(by_nll.shape), torch.float32)),
                gradient.data_ptr(),
            )
        gradient[..., ctx.others :] = by_others
        return gradient, None, None, None, None


class _PixelError(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        frames: Tensor,
        patches: Tensor,
        still: Tensor,
        salience: SalienceNumbers,
    ) -> Any:
        frames, patches = frames.contiguous(), patches.contiguous()
        still = still.contiguous()
        batch, side = len(frames), patches.shape[3]
        count = FRAME[0] // side
        gradient, still_gradient = torch.empty_like(patches), torch.empty_like(still)
        sums = patches.new_empty(batch, 4)
        mean, sharpness, *numbers = salience
        options = SalienceArguments(
            address(mean, FRAME, torch.float32),
            address(sharpness, FRAME, torch.float32),
            *numbers,
        )
        _library().pixel_error(
            batch,
            address(frames, (batch, *FRAME), torch.uint8),
            side,
            address(patches, (batch, count, count, side, side, 3), torch.float32),
            address(still, FRAME, torch.float32),
            *(options, gradient.data_ptr(), still_gradient.data_ptr()),
            sums.data_ptr(),
        )
        ctx.save_for_backward(gradient, still_gradient)
        error, counts = sums[:, 0].sum(), sums[:, 1:].sum(0)
        ctx.mark_non_differentiable(counts)
        return error, counts

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_error: Tensor, _: Tensor) -> Any:
        gradient, still_gradient = ctx.saved_tensors
        increment_version((gradient, still_gradient))
        return None, gradient.mul_(by_error), still_gradient.mul_(by_error), None


def _library() -> ctypes.CDLL:
    library = compiled()
    assert library is not None
    return library


def _half_product(
    values: Tensor, weights: Tensor, biases: Tensor | None = None
) -> Tensor:
    """The product of matrices as of bfloat16 numbers; sums and result are float32."""
    assert values.dtype is weights.dtype is torch.float32, (values, weights)
    rows, inputs, outputs = *values.shape, weights.shape[1]
    room = torch.empty(_library().half_product_room(rows, inputs, outputs))
    product = torch.empty(rows, outputs)
    _library().half_product(
        *(rows, inputs, outputs, values.data_ptr(), *values.stride()),
        *(weights.data_ptr(), *weights.stride()),
        None if biases is None else address(biases, (outputs,), torch.float32),
        *(room.data_ptr(), product.data_ptr()),
    )
    return product
