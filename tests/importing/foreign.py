"""Networks as others build them, in torch and in NumPy, with random weights."""

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

LATENT, HIDDEN, MIXTURES, ACTIONS = 32, 256, 5, 3


# In the manner of ctallec/world-models


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        widths = (3, 32, 64, 128, 256)
        for n in range(4):
            layer = nn.Conv2d(widths[n], widths[n + 1], 4, stride=2)
            setattr(self, f"conv{n + 1}", layer)
        self.fc_mu = nn.Linear(1024, LATENT)
        self.fc_logsigma = nn.Linear(1024, LATENT)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        for n in range(4):
            x = torch.relu(getattr(self, f"conv{n + 1}")(x))
        features = x.flatten(1)
        return self.fc_mu(features), self.fc_logsigma(features)


class Decoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(LATENT, 1024)
        sizes = ((1024, 128, 5), (128, 64, 5), (64, 32, 6), (32, 3, 6))
        for n, (before, after, kernel) in enumerate(sizes, 1):
            layer = nn.ConvTranspose2d(before, after, kernel, stride=2)
            setattr(self, f"deconv{n}", layer)

    def forward(self, z: Tensor) -> Tensor:
        x = torch.relu(self.fc1(z))[..., None, None]
        for n in range(1, 4):
            x = torch.relu(getattr(self, f"deconv{n}")(x))
        return torch.sigmoid(self.deconv4(x))


class VAE(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = Encoder(), Decoder()


class MDRNN(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(ACTIONS + LATENT, HIDDEN)
        self.gmm_linear = nn.Linear(HIDDEN, (2 * LATENT + 1) * MIXTURES + 2)

    def forward(self, action: Tensor, z: Tensor, state: Any) -> dict[str, Any]:
        """One step of a batch: what comes next, and the state."""
        inputs = torch.cat((action, z), 1)[None]
        h, c = state
        outputs, (h, c) = self.rnn(inputs, (h[None], c[None]))
        found = self.gmm_linear(outputs[0])
        each = MIXTURES * LATENT
        return {
            "means": found[:, :each].unflatten(1, (MIXTURES, LATENT)),
            "log_sigmas": found[:, each : 2 * each].unflatten(1, (MIXTURES, LATENT)),
            "logits": found[:, 2 * each : 2 * each + MIXTURES],
            "reward": found[:, -2],
            "end": found[:, -1],
            "state": (h[0], c[0]),
        }


class Linear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(LATENT + HIDDEN, ACTIONS)


def save_best(path: Path, module: nn.Module) -> Path:
    """As a training of theirs leaves it."""
    optimizer = torch.optim.Adam(module.parameters())
    state = {
        "epoch": 3,
        "precision": 1.5,
        "reward": np.mean([900.5, 901.5]),  # of C's only, a number of NumPy's
        "state_dict": module.state_dict(),
        "optimizer": optimizer.state_dict(),
    }
    torch.save(state, path)
    return path


# In the manner of hardmaru/WorldModelsExperiments


def rounded(arrays: list[np.ndarray]) -> list[np.ndarray]:
    return [np.round(array * 10_000) / 10_000 for array in arrays]


def save_json(path: Path, arrays: list[np.ndarray]) -> Path:
    whole = [np.round(array * 10_000).astype(int).tolist() for array in arrays]
    path.write_text(json.dumps(whole))
    return path


def vae_arrays(random: np.random.Generator) -> list[np.ndarray]:
    """Convolutions (height, width, in, out), dense (in, out), transposed (.., out, in)."""
    widths = (3, 32, 64, 128, 256)
    shapes: list[tuple[int, ...]] = []
    for before, after in itertools.pairwise(widths):
        shapes += [(4, 4, before, after), (after,)]
    shapes += [(1024, LATENT), (LATENT,)] * 2 + [(LATENT, 1024), (1024,)]
    for before, after, side in ((1024, 128, 5), (128, 64, 5), (64, 32, 6), (32, 3, 6)):
        shapes += [(side, side, after, before), (after,)]
    return rounded([random.normal(0, 0.05, shape) for shape in shapes])


def convolved(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """A convolution of stride 2, (height, width, channels), then a ReLU."""
    side = len(weight)
    size = (len(x) - side) // 2 + 1
    out = np.zeros((size, size, weight.shape[3]))
    for row in range(size):
        for column in range(size):
            patch = x[2 * row : 2 * row + side, 2 * column : 2 * column + side]
            out[row, column] = np.tensordot(patch, weight, 3) + bias
    return np.maximum(out, 0)


def deconvolved(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """A transposed convolution of stride 2, (height, width, channels)."""
    side = len(weight)
    size = (len(x) - 1) * 2 + side
    out = np.zeros((size, size, weight.shape[2])) + bias
    for row in range(len(x)):
        for column in range(len(x)):
            patch = np.tensordot(weight, x[row, column], (3, 0))
            out[2 * row : 2 * row + side, 2 * column : 2 * column + side] += patch
    return out


def encoded(arrays: list[np.ndarray], frame: np.ndarray) -> tuple[np.ndarray, ...]:
    """Mean and log-variance of a frame (64, 64, 3) in [0, 1]."""
    x = frame
    for n in range(4):
        x = convolved(x, *arrays[2 * n : 2 * n + 2])
    features = x.reshape(-1)
    return tuple(features @ arrays[n] + arrays[n + 1] for n in (8, 10))


def decoded(arrays: list[np.ndarray], z: np.ndarray) -> np.ndarray:
    """The frame of z, (64, 64, 3) in [0, 1]."""
    x = (z @ arrays[12] + arrays[13]).reshape(1, 1, 1024)
    for n in (14, 16, 18):
        x = np.maximum(deconvolved(x, *arrays[n : n + 2]), 0)
    return 1 / (1 + np.exp(-deconvolved(x, *arrays[20:22])))


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def remembered(
    kernel: np.ndarray,
    bias: np.ndarray,
    inputs: np.ndarray,
    h: np.ndarray,
    c: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """TensorFlow's basic LSTM: gates input, new, forget, output."""
    i, j, f, o = np.split(np.concatenate((inputs, h)) @ kernel + bias, 4)
    c = c * sigmoid(f + 1.0) + sigmoid(i) * np.tanh(j)
    return np.tanh(c) * sigmoid(o), c
