"""What is in latents, by what a small network can tell from them."""

import torch
from torch import Tensor, nn

HIDDEN, STEPS, BATCH, LEARNING_RATE, WEIGHT_DECAY = 64, 1500, 256, 2e-3, 1e-4


def explained(
    latents: Tensor,
    values: Tensor,
    held_latents: Tensor,
    held_values: Tensor,
    random: torch.Generator,
) -> float:
    """The share of a value's variance that a small network tells from z.

    Args:
        latents: To learn from, (frames, latent) float32.
        values: Of them, (frames,) float32.
        held_latents: Of other episodes, likewise.
        held_values: Likewise.
        random: Draws the network's weights and its batches.

    Returns:
        R² on the held-out values, 1 at most; NaN where they are all the same.
    """
    mean, deviation = latents.mean(0), latents.std(0) + 1e-6
    inputs = (latents - mean) / deviation
    targets = (values - values.mean()) / (values.std() + 1e-6)
    first, last = nn.Linear(inputs.shape[1], HIDDEN), nn.Linear(HIDDEN, 1)
    for layer in (first, last):
        nn.init.kaiming_uniform_(layer.weight, a=5**0.5, generator=random)
        nn.init.zeros_(layer.bias)
    network = nn.Sequential(first, nn.ReLU(), last)
    optimiser = torch.optim.Adam(
        network.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY
    )
    for _ in range(STEPS):
        some = torch.randint(len(inputs), (BATCH,), generator=random)
        error = (network(inputs[some])[:, 0] - targets[some]).square().mean()
        optimiser.zero_grad()
        error.backward()
        optimiser.step()
    with torch.inference_mode():
        told = network((held_latents - mean) / deviation)[:, 0]
    told = told * (values.std() + 1e-6) + values.mean()
    unexplained = (held_values - told).square().mean()
    variance = held_values.var(correction=0)
    return float(1 - unexplained / variance) if variance > 0 else float("nan")
