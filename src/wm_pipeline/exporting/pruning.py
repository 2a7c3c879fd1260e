"""An agent with fewer channels in V and fewer units in M, taught what the whole one does.

Whole channels and units go, so that fewer numbers are multiplied, not more zeros. Source:
Li et al. 2017, "Pruning Filters for Efficient ConvNets"; the teaching is that of Hinton,
Vinyals & Dean 2015, "Distilling the Knowledge in a Neural Network".
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from wm_pipeline.common import progress
from wm_pipeline.common.options import Options
from wm_pipeline.common.randomness import seeded_initialisation, stream
from wm_pipeline.models.controller import Controller
from wm_pipeline.models.mdn_rnn import MDNRNN, State
from wm_pipeline.models.training import cosine
from wm_pipeline.models.vae import ConvVAE, to_pixels
from wm_pipeline.models.world_model import WorldModel, digest

LOOKED_AT = 512
"""Frames by which channels are chosen."""

WINDOW = 64
"""Steps of M that are learned from at once."""

_RECURRENT = 1
"""Where among an LSTM's weights those are by which units read each other."""

RIDGE = 1e-4
"""Of the fit of C, in mean squares of what it reads."""


class PruningOptions(Options):
    """What stays, and how it is taught.

    Attributes:
        channels: Share of each convolution's channels, above 0 and at most 1.
        units: Share of M's units.
        games: Of C, from which the smaller agent learns.
        steps: Optimiser steps, of V and of M each.
        batch_size: Frames, or windows of games, in a step.
        learning_rate: Adam's, decayed to zero along a cosine.
    """

    channels: float = Field(default=0.5, gt=0, le=1)
    units: float = Field(default=0.5, gt=0, le=1)
    games: int = Field(default=10, ge=1, le=10_000)
    steps: int = Field(default=1000, ge=1, le=1_000_000)
    batch_size: int = Field(default=64, ge=1, le=10_000)
    learning_rate: float = Field(default=1e-3, gt=0, le=1)


class Game(NamedTuple):
    """What the whole agent saw and did.

    Attributes:
        frames: Of every step, (steps, 64, 64, 3) uint8.
        controls: Of every step, (steps, size) float32.
    """

    frames: np.ndarray
    controls: np.ndarray


def pruned_agent(
    world_model: WorldModel,
    controller: Controller,
    games: Sequence[Game],
    options: PruningOptions,
    seed: int,
) -> tuple[WorldModel, Controller]:
    """A smaller V and M that give C what it needs, and C for them.

    Args:
        world_model: V and M.
        controller: C.
        games: That C has played.
        options: What stays.
        seed: Of the batches.

    Returns:
        The world model, good for the agent only: the decoder knows nothing of it and M's
        predictions are not taught. And the controller, refitted to what these make.
    """
    vae = prune_vision(world_model.vae, games, options, seed)
    whole = [_read(world_model, game) for game in games]
    mdn_rnn = prune_memory(world_model, vae, controller, whole, options, seed)
    small = WorldModel(
        vae, mdn_rnn, world_model.start_means, world_model.start_log_variances
    )
    read = [_read(small, game) for game in games]
    return small.eval(), _refitted(controller, whole, read, mdn_rnn.hidden_size)


def prune_vision(
    vae: ConvVAE, games: Sequence[Game], options: PruningOptions, seed: int
) -> ConvVAE:
    """V with fewer channels in its encoder, taught the means of z.

    A channel stays that gives the next layer much: its mean activation times the sum of
    the weights by which it is read.
    """
    frames = np.concatenate([game.frames for game in games])
    random = stream(seed, "pruning, vision")
    looked_at = to_pixels(frames[random.permutation(len(frames))[:LOOKED_AT]])
    small = _fewer_channels(vae, looked_at, options.channels)
    means, log_variances = (part.clone() for part in vae.encode_frames(frames))
    weights = torch.exp(-log_variances)

    def loss() -> Tensor:
        rows = random.integers(len(frames), size=options.batch_size)
        found, _ = small.encode(to_pixels(frames[rows]))
        chosen = torch.from_numpy(rows)
        return ((found - means[chosen]).square() * weights[chosen]).mean()

    _teach(small, "the smaller V", loss, options)
    return small


def prune_memory(
    world_model: WorldModel,
    vae: ConvVAE,
    controller: Controller,
    whole: Sequence["_Read"],
    options: PruningOptions,
    seed: int,
) -> MDNRNN:
    """M with fewer units, taught the state of those that stay.

    A unit stays that C or the other units read much: its mean size times the sum of these
    weights.
    """
    mdn_rnn = world_model.mdn_rnn
    kept = _kept_units(mdn_rnn, controller, whole, options.units)
    small = _fewer_units(mdn_rnn, vae, kept)
    inputs, states = [], []
    for read in whole:
        latents = vae.encode_frames(read.frames)[0].clone()
        inputs.append(torch.cat((latents, read.controls), 1))
        states.append((read.h[:, kept], read.c[:, kept]))
    random = stream(seed, "pruning, memory")
    lengths = np.array([len(each) for each in inputs])

    def loss() -> Tensor:
        # As many windows of a game as it is long.
        rows = random.choice(len(inputs), options.batch_size, p=lengths / lengths.sum())
        window = min(WINDOW, int(lengths[rows].min()))
        firsts = [int(random.integers(lengths[row] - window + 1)) for row in rows]
        places = list(zip(rows, firsts, strict=True))
        given = torch.stack([inputs[r][f : f + window] for r, f in places])
        h, c = (
            torch.stack([states[r][part][f] for r, f in places])[None]
            for part in (0, 1)
        )
        # The state before the first step is given, that after each is learned.
        wanted = torch.stack([states[r][0][f + 1 : f + 1 + window] for r, f in places])
        found, _ = small.lstm(given, (h, c))
        return (found - wanted).square().mean()

    _teach(small.lstm, "the smaller M", loss, options)
    return small


class _Read(NamedTuple):
    """What C reads at its decisions in a game.

    Attributes:
        frames: At these, (decisions, 64, 64, 3) uint8.
        latents: The means of z, (decisions, latent).
        controls: What it answered, (decisions, size).
        h: Before each decision and after the last, (decisions + 1, hidden).
        c: The same.
    """

    frames: np.ndarray
    latents: Tensor
    controls: Tensor
    h: Tensor
    c: Tensor

    def features(self, memory: str) -> Tensor:
        """[z, h] or [z, h, c], (decisions, features) float64."""
        state = {"h": self.h[:-1], "c": self.c[:-1]}
        parts = (self.latents, *(state[name] for name in memory))
        return torch.cat(parts, 1).double()


@torch.no_grad()
def _read(world_model: WorldModel, game: Game) -> _Read:
    """A game as an agent reads it who does in it what the whole one did."""
    mdn_rnn = world_model.mdn_rnn
    frames = game.frames[:: mdn_rnn.frame_skip]
    controls = torch.from_numpy(game.controls[:: mdn_rnn.frame_skip])
    latents, _ = world_model.vae.encode_frames(frames)
    states: list[State] = [mdn_rnn.initial_state(1)]
    for z, control in zip(latents.split(1), controls.split(1), strict=True):
        states.append(mdn_rnn.remember(z, control, states[-1]))
    h, c = (torch.cat(parts).clone() for parts in zip(*states, strict=True))
    return _Read(frames, latents.clone(), controls, h, c)


def _fewer_channels(vae: ConvVAE, pixels: Tensor, share: float) -> ConvVAE:
    """V without the channels of its encoder that say least."""
    layers = tuple(
        layer.model_copy(update={"channels": _count(layer.channels, share)})
        for layer in vae.options.encoder
    )
    small = ConvVAE(vae.options.model_copy(update={"encoder": layers}))
    ours = [layer for layer in small.encoder if isinstance(layer, nn.Conv2d)]
    theirs = [layer for layer in vae.encoder if isinstance(layer, nn.Conv2d)]
    before = torch.arange(theirs[0].in_channels)
    values = pixels
    with torch.no_grad():
        for number, (mine, whole) in enumerate(zip(ours, theirs, strict=True)):
            values = torch.relu(whole(values))
            if number + 1 < len(theirs):
                weights = theirs[number + 1].weight.abs().sum((0, 2, 3))
            else:
                weights = _by_channel(vae.mean.weight, values).abs().sum((0, 2))
            kept = _largest(values.mean((0, 2, 3)) * weights, mine.out_channels)
            mine.weight.copy_(whole.weight[kept][:, before])
            if whole.bias is not None and mine.bias is not None:
                mine.bias.copy_(whole.bias[kept])
            before = kept
        for head, whole_head in (
            (small.mean, vae.mean),
            (small.log_variance, vae.log_variance),
        ):
            by_channel = _by_channel(whole_head.weight, values)
            head.weight.copy_(by_channel[:, before].flatten(1))
            head.bias.copy_(whole_head.bias)
        for name in ("expand", "decoder"):
            part: nn.Module = getattr(small, name)
            part.load_state_dict(getattr(vae, name).state_dict())
        small.image.copy_(vae.image)
    return small


def _by_channel(weight: Tensor, values: Tensor) -> Tensor:
    """A head's weights (latent, channels, pixels), for the encoder's last values."""
    return weight.unflatten(1, (values.shape[1], -1))


def _kept_units(
    mdn_rnn: MDNRNN, controller: Controller, whole: Sequence[_Read], share: float
) -> Tensor:
    """The units of M that stay, in their order."""
    size = torch.cat([read.h for read in whole]).abs().mean(0)
    recurrent = mdn_rnn.lstm.all_weights[0][_RECURRENT].detach().abs().sum(0)
    (weights, _), *_ = controller.unpack(controller.parameters_vector[None])
    first = controller.latent_size
    of_memory = weights[0, :, first:].abs().sum(0)
    by_c = of_memory.unflatten(0, (len(controller.memory), -1)).sum(0)
    # By C and by M, each as a share of all that it reads.
    said = torch.stack([size * recurrent, size * by_c])
    shares = said / said.sum(1, keepdim=True).clamp(min=1e-12)
    return _largest(shares.sum(0), _count(mdn_rnn.hidden_size, share))


def _fewer_units(mdn_rnn: MDNRNN, vae: ConvVAE, kept: Tensor) -> MDNRNN:
    """M with some of its units."""
    options = mdn_rnn.options.model_copy(update={"hidden_size": len(kept)})
    with seeded_initialisation(0, "pruning"):
        small = MDNRNN(options, mdn_rnn.latent_size, mdn_rnn.action_size, digest(vae))
    rows = torch.cat([kept + gate * mdn_rnn.hidden_size for gate in range(4)])
    ours, theirs = small.lstm.all_weights[0], mdn_rnn.lstm.all_weights[0]
    with torch.no_grad():
        for place, (mine, whole) in enumerate(zip(ours, theirs, strict=True)):
            of_units = whole[rows]
            mine.copy_(of_units[:, kept] if place == _RECURRENT else of_units)
        small.head.weight.copy_(mdn_rnn.head.weight[:, kept])
        small.head.bias.copy_(mdn_rnn.head.bias)
    return small


def _refitted(
    controller: Controller,
    whole: Sequence[_Read],
    read: Sequence[_Read],
    hidden_size: int,
) -> Controller:
    """C whose first layer says of the smaller agent's features what it said before."""
    small = Controller(
        controller.options, controller.latent_size, hidden_size, controller.outputs
    )
    (weights, biases), *others = controller.unpack(controller.parameters_vector[None])
    theirs = torch.cat([each.features(controller.memory) for each in whole])
    ours = torch.cat([each.features(controller.memory) for each in read])
    said = theirs @ weights[0].double().T
    # Features whose part C can take over are fitted; its bias stays what it is.
    ridge = RIDGE * ours.square().mean() * len(ours)
    gram = ours.T @ ours + ridge * torch.eye(ours.shape[1], dtype=ours.dtype)
    fitted = torch.linalg.solve(gram, ours.T @ said).T.float()
    small.set_parameters(small.pack([(fitted[None], biases), *others]))
    return small


def _teach(
    module: nn.Module, name: str, loss: Callable[[], Tensor], options: PruningOptions
) -> None:
    """Adam, with a rate that falls to zero."""
    optimiser = torch.optim.Adam(module.parameters(), options.learning_rate)
    with progress.task(f"Teaching {name}", options.steps, "steps") as task:
        for step in range(options.steps):
            for group in optimiser.param_groups:
                group["lr"] = cosine(options.learning_rate, step, options.steps)
            optimiser.zero_grad()
            found = loss()
            found.backward()
            optimiser.step()
            task.advance(note=f"loss {found.item():.2g}")


def _count(whole: int, share: float) -> int:
    """How many of ``whole`` a share is, 1 or more."""
    return max(1, math.ceil(whole * share))


def _largest(scores: Tensor, count: int) -> Tensor:
    """The places of the largest scores, in their order, (count,) int64."""
    return scores.topk(count).indices.sort().values
