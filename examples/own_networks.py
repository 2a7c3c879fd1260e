"""A dream of two files, V's and M's, and a controller in it, without Kedro.

``python examples/own_networks.py vae.safetensors mdn_rnn.safetensors``
With ``box`` behind the files the game's actions are continuous.
"""

import sys

import gymnasium
import torch

import wm_pipeline.environments  # noqa: F401  registers the dream
from wm_pipeline.environments.actions import (
    Actions,
    BoxActions,
    DiscreteActions,
    ThresholdActions,
)
from wm_pipeline.models import MDNRNN, Controller, ControllerOptions, ConvVAE

vae = ConvVAE.load_checkpoint(sys.argv[1])
mdn_rnn = MDNRNN.load_checkpoint(sys.argv[2])
# M's file does not say what its numbers mean. The paper's left, stay and right are one of
# them; a choice among actions is one-hot.
size = mdn_rnn.action_size
actions: Actions
if sys.argv[3:] == ["box"]:
    actions = BoxActions(kind="box", low=(-1,) * size, high=(1,) * size)
elif size == 1:
    actions = ThresholdActions(kind="threshold", low=0, middle=1, high=2)
else:
    actions = DiscreteActions(kind="discrete", count=size)
print(f"M's actions are of size {size}, and taken for {actions.kind}")
controller = Controller(
    ControllerOptions(), vae.latent_size, mdn_rnn.hidden_size, actions.outputs
)
controller.set_parameters(torch.randn(controller.size))

# Of two files nobody knows how episodes begin: dreams do at a standard normal.
env = gymnasium.make(
    "wm_pipeline/Dream-v0",
    render_mode="rgb_array",
    vae=sys.argv[1],
    mdn_rnn=sys.argv[2],
    actions=actions,
    temperature=1.0,
    max_steps=100,
)
observation, info = env.reset(seed=1)
over, score = False, 0.0
while not over:
    z, h = torch.from_numpy(observation)[None].split(
        (vae.latent_size, mdn_rnn.hidden_size), 1
    )
    (control,) = actions.decide(controller(z, h)).numpy()  # of zh: it reads no c
    observation, reward, terminated, truncated, info = env.step(
        actions.to_game(control)
    )
    over, score = terminated or truncated, score + float(reward)
mean, log_variance = vae.encode(env.render()[None])
away = (mean - z).abs().mean().item()
print(f"it scores {score:g}; the last frame's z is {away:.2f} away")
