"""The suite of trainings: steps of V's and of M's, beside the machine's products."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from wm_pipeline.benchmarks.options import BenchmarkOptions, TrainingSizes
from wm_pipeline.benchmarks.timing import Subject, measured, new_row
from wm_pipeline.common.randomness import seeded_initialisation, stream
from wm_pipeline.models.mdn_rnn import MDNRNN
from wm_pipeline.models.mdn_rnn_training import (
    MDNRNNTrainingOptions,
    TrivialPredictors,
    Window,
    train_mdn_rnn,
)
from wm_pipeline.models.salience import Statistics
from wm_pipeline.models.vae import FRAME_SHAPE, ConvVAE
from wm_pipeline.models.vae_training import VAETrainingOptions, train_vae

SIDE = 1024
"""Of the square matrices whose product is the limit."""


def training_rows(options: BenchmarkOptions) -> list[dict[str, Any]]:
    """V's and M's training at each size, and the rate of one large product.

    The share is that of the training's own products in the machine's rate for such.
    """
    limit = new_row("training", "limit", 0, 1, "operations", units=2 * SIDE**3)
    subjects, operations = [Subject(limit, _large_product())], [1.0]
    for name, sizes in options.trainings.items():
        with seeded_initialisation(options.seed, "benchmark training"):
            vae = ConvVAE(sizes.vision)
            mdn_rnn = MDNRNN(sizes.memory, sizes.vision.latent_size, 1, "")
        parameters = sum(weights.numel() for weights in vae.parameters())
        row = new_row("training", f"V, {name}", parameters, sizes.frames, "frames")
        subjects.append(Subject(row, _vision(vae, sizes, options.seed)))
        operations.append(vision_operations(vae))
        parameters = sum(weights.numel() for weights in mdn_rnn.parameters())
        steps = sizes.sequences * sizes.sequence_length
        row = new_row("training", f"M, {name}", parameters, steps, "steps")
        subjects.append(Subject(row, _memory(mdn_rnn, sizes, options.seed)))
        operations.append(memory_operations(mdn_rnn, sizes.own_samples))
    rows = measured("trainings", subjects, options.repeats)
    rates = [
        row["per_second"] * each for row, each in zip(rows, operations, strict=True)
    ]
    return [
        {**row, "share": rate / rates[0]} for row, rate in zip(rows, rates, strict=True)
    ]


def vision_operations(vae: ConvVAE) -> float:
    """Operations of V's products for one frame of training.

    Forwards, and backwards to the weights and to the inputs but the frame itself.
    """
    forwards: list[int] = []

    def count(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        # A weight meets each place of a convolution's output, of a transposed one's input.
        met = output if isinstance(module, nn.Conv2d) else inputs[0]
        places = met.shape[2:].numel()
        forwards.append(2 * places * module.weight.numel())  # type: ignore[operator]

    kinds = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
    with torch.device("meta"):
        twin = ConvVAE(vae.options)
        for module in twin.modules():
            if isinstance(module, kinds):
                module.register_forward_hook(count)
        mean, _ = twin.encode(torch.empty(1, 3, *FRAME_SHAPE[:2]))
        twin.decoder(twin.expand(mean))
    return 3.0 * sum(forwards) - forwards[0]


def memory_operations(mdn_rnn: MDNRNN, own_samples: float = 0.0) -> float:
    """Operations of M's products for one step of training, counted likewise.

    Args:
        mdn_rnn: M.
        own_samples: As in its training; any need M's prediction once more.
    """
    inputs = 4 * mdn_rnn.hidden_size * (mdn_rnn.latent_size + mdn_rnn.action_size)
    recurrent = 4 * mdn_rnn.hidden_size**2
    head = mdn_rnn.head.weight.numel()
    forwards = inputs + recurrent + head if own_samples else 0
    return 2.0 * (2 * inputs + 3 * recurrent + 3 * head + forwards)


def _large_product() -> Callable[[], float]:
    left, right = torch.ones(SIDE, SIDE), torch.ones(SIDE, SIDE)

    def run() -> float:
        left @ right
        return 2.0 * SIDE**3

    return run


def _vision(vae: ConvVAE, sizes: TrainingSizes, seed: int) -> Callable[[], float]:
    random = stream(seed, "benchmark frames")
    frames = random.integers(256, size=(sizes.frames, *FRAME_SHAPE), dtype=np.uint8)
    statistics = Statistics.of(frames)
    options = VAETrainingOptions(
        steps=sizes.steps,
        batch_size=sizes.frames,
        learning_rate=1e-4,
        validate_every=sizes.steps,
        device="cpu",
        beta=1.0,
        validation_frames=1,
    )

    def batches(_: int) -> Iterator[np.ndarray]:
        while True:
            yield frames

    def run() -> float:
        for _ in train_vae(vae, batches, frames[:1], statistics, options, seed):
            pass
        return sizes.steps * sizes.frames

    return run


def _memory(mdn_rnn: MDNRNN, sizes: TrainingSizes, seed: int) -> Callable[[], float]:
    latent, shape = mdn_rnn.latent_size, (sizes.sequences, sizes.sequence_length)
    random = stream(seed, "benchmark latents")

    def window(sequences: int, length: int) -> Window:
        exists = np.ones((sequences, length), bool)
        return Window(
            means=random.standard_normal((sequences, length + 1, latent), np.float32),
            log_variances=np.zeros((sequences, length + 1, latent), np.float32),
            actions=np.zeros((sequences, length, mdn_rnn.action_size), np.float32),
            rewards=np.ones((sequences, length), np.float32),
            done=~exists,
            valid=exists,
            has_next=exists,
            fresh=exists[:, 0],
        )

    options = MDNRNNTrainingOptions(
        steps=sizes.steps,
        batch_size=sizes.sequences,
        learning_rate=1e-4,
        validate_every=sizes.steps,
        device="cpu",
        sequence_length=sizes.sequence_length,
        clip_norm=1.0,
        done_weight=10.0,
        own_samples=sizes.own_samples,
    )
    ones = torch.ones(latent)
    trivial = TrivialPredictors(mean=0 * ones, sigma=ones, change_sigma=ones)
    whole, short = window(*shape), window(1, 1)

    def batches(_: int) -> Iterator[Window]:
        while True:
            yield whole

    def run() -> float:
        for _ in train_mdn_rnn(mdn_rnn, batches, [short], trivial, options, seed):
            pass
        return float(sizes.steps * whole.valid.size)

    return run
