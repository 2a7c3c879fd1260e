"""JSON files of hardmaru/WorldModelsExperiments: vae, rnn and the controller's.

Arrays in the order in which TensorFlow made them, times 10,000 as whole numbers. Images
are (height, width, channels), the LSTM's gates input, new, forget (with a bias of 1.0),
output, and its kernel is of z, the action and h. Its M has no reward; that of Doom begins
its outputs with the logit of the end, and reads a flag that is 1 at an episode's first step
only, which is left out here.
"""

from pathlib import Path

import numpy as np

from wm_pipeline.common.errors import InputError
from wm_pipeline.importing.files import fill, network_of, read_lists, sizes
from wm_pipeline.importing.paper import paper_vae
from wm_pipeline.models.controller import Controller, ControllerOptions
from wm_pipeline.models.mdn_rnn import MDNRNN, MDNRNNOptions
from wm_pipeline.models.vae import ConvVAE
from wm_pipeline.models.world_model import digest

SCALE = 10_000
FORGET_BIAS = 1.0
NEVER = -1e4
"""The logit of an end that M does not predict."""

VAE_LAYERS = (
    *(f"encoder.{2 * n}" for n in range(4)),
    *("mean", "log_variance", "expand.0"),
    *(f"decoder.{2 * n}" for n in range(4)),
)
CELL = {
    "kernel": "rows gates",
    "bias": "gates",
    "output": "hidden outputs",
    "output bias": "outputs",
}


def vae_of(path: str | Path) -> ConvVAE:
    """V of ``vae.json``.

    Raises:
        InputError: It is no such file.
    """
    lists = [each / SCALE for each in read_lists(path)]
    if len(lists) != 2 * len(VAE_LAYERS):
        raise InputError(
            f"{path}: expected {2 * len(VAE_LAYERS)} arrays of a V, found {len(lists)}"
        )
    by_number = {f"array {n}": array for n, array in enumerate(lists, 1)}
    found = sizes(
        by_number, {"array 9": "1024 latent", "array 11": "1024 latent"}, path
    )
    arrays: dict[str, np.ndarray] = {}
    for name, weight, bias in zip(VAE_LAYERS, lists[::2], lists[1::2], strict=True):
        # (height, width, inputs, outputs), or transposed (height, width, outputs, inputs)
        arrays[f"{name}.weight"] = (
            weight.transpose(3, 2, 0, 1) if weight.ndim == 4 else weight.T  # noqa: PLR2004
        )
        arrays[f"{name}.bias"] = bias
    for name in ("mean", "log_variance"):
        arrays[f"{name}.weight"] = _channels_first(arrays[f"{name}.weight"])
    with network_of(path):
        vae = ConvVAE(paper_vae(found["latent"], rectified=False))
    arrays["image"] = np.zeros(vae.image.shape)
    fill(vae, arrays, path)
    return vae


def mdn_rnn_of(path: str | Path, vae: ConvVAE) -> MDNRNN:
    """M of ``rnn.json``, which belongs to a V.

    CarRacing's is of three actions, of which M reads the gas from 0 to 1 where our
    control is from -1 to 1; Doom's of one.

    Raises:
        InputError: It is no such file, or of another length of z.
    """
    lists = [each / SCALE for each in read_lists(path)]
    if len(lists) != len(CELL) or any(each.ndim != 2 for each in lists[::2]):  # noqa: PLR2004
        raise InputError(
            f"{path}: expected kernel and bias of a cell and of an output, found arrays "
            f"of {[each.shape for each in lists]}"
        )
    # CarRacing's output was made before its cell, whose kernel has more rows.
    if len(lists[0]) > len(lists[2]):
        kernel, bias, output, output_bias = lists
    else:
        output, output_bias, kernel, bias = lists
    arrays = dict(zip(CELL, (kernel, bias, output, output_bias), strict=True))
    found = sizes(arrays, CELL, path)
    latent, hidden, outputs = vae.latent_size, found["hidden"], found["outputs"]
    inputs = found["rows"] - hidden
    knows_end = outputs % 3 == 1
    mixtures, rest = divmod(outputs - knows_end, 3 * latent)
    # Doom's flag of an episode's first step is its last input.
    action = inputs - latent - knows_end
    if rest or mixtures < 1 or action < 1 or found["gates"] != 4 * hidden:
        raise InputError(
            f"{path}: expected an M of z of {latent}, found arrays of "
            f"{[each.shape for each in lists]}"
        )
    with network_of(path):
        options = MDNRNNOptions(hidden_size=hidden, mixtures=mixtures)
    mdn_rnn = MDNRNN(options, latent, action, digest(vae))
    seen = kernel[: latent + action]
    if action == 3:  # noqa: PLR2004  steering wheel, gas, brake
        gas = seen[latent + 1].copy()
        bias = bias + gas / 2
        seen = np.concatenate((seen[: latent + 1], gas[None] / 2, seen[latent + 2 :]))
    cells = {
        "lstm.weight_ih_l0": _gates(seen.T),
        "lstm.weight_hh_l0": _gates(kernel[inputs:].T),
        "lstm.bias_ih_l0": _gates(bias) + _forgetting(hidden),
        "lstm.bias_hh_l0": np.zeros(4 * hidden),
    }
    heads = {
        "head.weight": _head(output.T, latent, mixtures, knows_end, 0.0),
        "head.bias": _head(output_bias, latent, mixtures, knows_end, NEVER),
    }
    # Doom pays 1 a step, CarRacing's M knows of no reward.
    paid = np.float64(1.0 if knows_end else 0.0)
    rewards = {
        "reward_mean": paid,
        "reward_scale": np.ones(()),
        "reward_range": np.array([paid, paid]),
    }
    fill(mdn_rnn, cells | heads | {n: np.asarray(a) for n, a in rewards.items()}, path)
    return mdn_rnn


def controller_of(path: str | Path, mdn_rnn: MDNRNN) -> Controller:
    """C of a controller's JSON, whose first list is a flat vector.

    CarRacing's has its biases first, then weights by input; Doom's has no biases and one
    output. Where it reads the cell, that is before h.

    Raises:
        InputError: It is no such file, or of another M.
    """
    vector = read_lists(path)[0].ravel()
    latent, hidden = mdn_rnn.latent_size, mdn_rnn.hidden_size
    for inputs, features in (("zh", latent + hidden), ("zhc", latent + 2 * hidden)):
        for bias in (True, False):
            outputs, rest = divmod(len(vector), features + bias)
            if rest or outputs not in (1, mdn_rnn.action_size):
                continue
            first = outputs if bias else 0
            weight = vector[first:].reshape(features, outputs)
            if inputs == "zhc":
                z, c, h = np.split(weight, [latent, latent + hidden])
                weight = np.concatenate((z, h, c))
            options = ControllerOptions.model_validate({"inputs": inputs, "bias": bias})
            controller = Controller(options, latent, hidden, outputs)
            parameters = np.concatenate((weight.T.ravel(), vector[:first]))
            fill(controller, {"parameters_vector": parameters}, path)
            return controller
    raise InputError(
        f"{path}: expected a linear controller of z of {latent} and h of {hidden}, found "
        f"{len(vector)} parameters"
    )


def starts_of(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Means and log-variances of first latents, (starts, latent), of ``initial_z.json``.

    Raises:
        InputError: It is no such file.
    """
    lists = [each / SCALE for each in read_lists(path)]
    if len(lists) != 2 or lists[0].shape != lists[1].shape or lists[0].ndim != 2:  # noqa: PLR2004
        raise InputError(
            f"{path}: expected means and log-variances of first latents, found arrays of "
            f"{[each.shape for each in lists]}"
        )
    return lists[0].astype(np.float32), lists[1].astype(np.float32)


def _channels_first(weight: np.ndarray) -> np.ndarray:
    """Of the encoder's 2 x 2 x 256 numbers in their order, those in ours."""
    return weight.reshape(-1, 2, 2, 256).transpose(0, 3, 1, 2).reshape(len(weight), -1)


def _gates(rows: np.ndarray) -> np.ndarray:
    """Rows of input, new, forget, output as torch's: input, forget, new, output."""
    i, j, f, o = np.split(rows, 4)
    return np.concatenate((i, f, j, o))


def _forgetting(hidden: int) -> np.ndarray:
    bias = np.zeros(4 * hidden)
    bias[hidden : 2 * hidden] = FORGET_BIAS
    return bias


def _head(
    rows: np.ndarray, latent: int, mixtures: int, knows_end: bool, never: float
) -> np.ndarray:
    """The rows of our head, of theirs: logits, means and log sigmas a latent."""
    rest = rows.shape[1:]
    end = rows[:1] if knows_end else np.full((1, *rest), never)
    parts = rows[1 if knows_end else 0 :].reshape(latent, 3, mixtures, *rest)
    ours = parts.swapaxes(0, 1).reshape(3 * latent * mixtures, *rest)
    return np.concatenate((ours, np.zeros((1, *rest)), end))
