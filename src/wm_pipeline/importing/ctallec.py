"""Checkpoints of ctallec/world-models: ``best.tar`` of its vae, mdrnn and ctrl.

Its V keeps log sigma where ours keeps log sigma^2. Its M reads the action before z, and
puts out the Gaussians before the logits of their joint mixture; its reward is not scaled.
Its C has no squashing, and its M reads actions uncut: ``squash: none`` of the mapping.
"""

from pathlib import Path

import numpy as np

from wm_pipeline.common.errors import InputError
from wm_pipeline.importing.files import fill, named, network_of, read_arrays, sizes
from wm_pipeline.importing.paper import paper_vae
from wm_pipeline.models.controller import Controller, ControllerOptions
from wm_pipeline.models.mdn_rnn import MDNRNN, MDNRNNOptions
from wm_pipeline.models.vae import ConvVAE
from wm_pipeline.models.world_model import digest

LAYERS = {
    "mean": "encoder.fc_mu",
    "log_variance": "encoder.fc_logsigma",
    "expand.0": "decoder.fc1",
    **{f"encoder.{2 * n}": f"encoder.conv{n + 1}" for n in range(4)},
    **{f"decoder.{2 * n + 1}": f"decoder.deconv{n + 1}" for n in range(4)},
}
SHAPES = {
    "rnn.weight_ih_l0": "gates inputs",
    "rnn.weight_hh_l0": "gates hidden",
    "gmm_linear.weight": "outputs hidden",
    "gmm_linear.bias": "outputs",
}
LSTM = {
    f"lstm.{name}_l0": f"rnn.{name}_l0"
    for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
}


def vae_of(path: str | Path) -> ConvVAE:
    """V of ``vae/best.tar``.

    Raises:
        InputError: It is no such file.
    """
    names = {
        f"{ours}.{part}": f"{theirs}.{part}"
        for ours, theirs in LAYERS.items()
        for part in ("weight", "bias")
    }
    theirs = read_arrays(path)
    arrays = dict(named(theirs, names, path))
    found = sizes(theirs, {"encoder.fc_mu.bias": "latent"}, path)
    with network_of(path):
        vae = ConvVAE(paper_vae(found["latent"], rectified=True))
    for part in ("weight", "bias"):
        arrays[f"log_variance.{part}"] = 2 * arrays[f"log_variance.{part}"]
    arrays["image"] = np.zeros(vae.image.shape, np.float32)
    fill(vae, arrays, path)
    return vae


def mdn_rnn_of(path: str | Path, vae: ConvVAE) -> MDNRNN:
    """M of ``mdrnn/best.tar``, which belongs to a V.

    Raises:
        InputError: It is no such file, or of another length of z.
    """
    names = LSTM | {f"head.{part}": f"gmm_linear.{part}" for part in ("weight", "bias")}
    theirs = read_arrays(path)
    arrays = dict(named(theirs, names, path))
    found = sizes(theirs, SHAPES, path)
    latent, hidden, outputs = vae.latent_size, found["hidden"], found["outputs"]
    mixtures, rest = divmod(outputs - 2, 2 * latent + 1)
    action = found["inputs"] - latent
    if rest or mixtures < 1 or action < 1 or found["gates"] != 4 * hidden:
        raise InputError(
            f"{path}: expected an M of z of {latent}, found {found['inputs']} inputs, "
            f"{found['gates']} gates of {hidden} units and {outputs} outputs"
        )
    with network_of(path):
        options = MDNRNNOptions(hidden_size=hidden, mixtures=mixtures, joint=True)
    mdn_rnn = MDNRNN(options, latent, action, digest(vae))
    arrays["lstm.weight_ih_l0"] = np.roll(arrays["lstm.weight_ih_l0"], -action, axis=1)
    for part in ("weight", "bias"):
        gaussians, logits, others = np.split(
            arrays[f"head.{part}"], [-mixtures - 2, -2]
        )
        arrays[f"head.{part}"] = np.concatenate((logits, gaussians, others))
    fill(mdn_rnn, arrays | _unscaled(mdn_rnn), path)
    return mdn_rnn


def controller_of(path: str | Path, mdn_rnn: MDNRNN) -> Controller:
    """C of ``ctrl/best.tar``.

    Raises:
        InputError: It is no such file, or of another M.
    """
    names = {"weight": "fc.weight", "bias": "fc.bias"}
    theirs = read_arrays(path)
    arrays = named(theirs, names, path)
    if surplus := arrays.keys() - names:
        raise InputError(f"{path}: surplus {', '.join(sorted(surplus))}")
    latent, hidden = mdn_rnn.latent_size, mdn_rnn.hidden_size
    shapes = {"fc.bias": "outputs", "fc.weight": f"outputs {latent + hidden}"}
    outputs = sizes(theirs, shapes, path)["outputs"]
    controller = Controller(ControllerOptions(bias=True), latent, hidden, outputs)
    vector = np.concatenate((arrays["weight"].ravel(), arrays["bias"]))
    fill(controller, {"parameters_vector": vector}, path)
    return controller


def _unscaled(mdn_rnn: MDNRNN) -> dict[str, np.ndarray]:
    """Rewards as they are."""
    names = ("reward_mean", "reward_scale", "reward_range")
    return {name: getattr(mdn_rnn, name).numpy() for name in names}
