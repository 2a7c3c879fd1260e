"""The dream as a jitted JAX scan: a baseline of the benchmark, if JAX is installed."""

from collections.abc import Callable
from typing import Any

from wm_pipeline.models.mdn_rnn import LOG_SIGMA_RANGE
from wm_pipeline.models.world_model import WorldModel


def jax_dreams(
    world_model: WorldModel, population: int, rollouts: int, steps: int
) -> Callable[[], float] | None:
    """Linear controllers dreaming in JAX, to be measured.

    The same step as ``dreaming.loop``: one product for input and recurrent weights,
    noise shared by the candidates, and no dream ends.

    Returns:
        What runs the dreams and returns their steps, or None without JAX.
    """
    try:
        import jax  # noqa: PLC0415  an optional extra
        import jax.numpy as jnp  # noqa: PLC0415
    except ImportError:
        return None
    mdn_rnn = world_model.mdn_rnn
    latent, hidden = mdn_rnn.latent_size, mdn_rnn.hidden_size
    mixtures, size = mdn_rnn.options.mixtures, mdn_rnn.action_size
    dreams = population * rollouts
    inputs, recurrent, bias, more_bias = (
        jnp.asarray(weights.detach().numpy()) for weights in mdn_rnn.lstm.all_weights[0]
    )
    cell = jnp.concatenate((inputs.T, recurrent.T))
    head = jnp.asarray(mdn_rnn.head.weight.detach().numpy().T)
    head_bias = jnp.asarray(mdn_rnn.head.bias.detach().numpy())
    controllers = jnp.zeros((population, latent + hidden, size))

    def step(state: Any, key: Any) -> Any:
        z, h, c, returns = state
        features = jnp.concatenate((z, h), 1).reshape(population, rollouts, -1)
        action = jnp.tanh(features @ controllers).reshape(dreams, size)
        gates = jnp.concatenate((z, action, h), 1) @ cell + bias + more_bias
        input_gate, forget_gate, cell_gate, output_gate = jnp.split(gates, 4, 1)
        c = jax.nn.sigmoid(forget_gate) * c + jax.nn.sigmoid(input_gate) * jnp.tanh(
            cell_gate
        )
        h = jax.nn.sigmoid(output_gate) * jnp.tanh(c)
        outputs = h @ head + head_bias
        first = mdn_rnn.choices * mixtures
        logits = outputs[:, :first].reshape(population, rollouts, -1, mixtures)
        gaussians = outputs[:, first:-2]
        if mdn_rnn.options.joint:
            parts = gaussians.reshape(population, rollouts, 2, mixtures, latent)
            parts = parts.swapaxes(-1, -2)
        else:
            parts = gaussians.reshape(population, rollouts, 2, latent, mixtures)
        means, log_sigmas = parts[:, :, 0], parts[:, :, 1]
        one, other = jax.random.split(key)
        gumbel = jax.random.gumbel(one, (rollouts, mdn_rnn.choices, mixtures))
        chosen = jnp.argmax(logits + gumbel, -1, keepdims=True)
        chosen = jnp.broadcast_to(chosen, (*means.shape[:-1], 1))
        mean = jnp.take_along_axis(means, chosen, -1)[..., 0]
        sigma = jnp.take_along_axis(log_sigmas, chosen, -1)[..., 0]
        noise = jax.random.normal(other, (rollouts, latent))
        z = mean + jnp.exp(jnp.clip(sigma, *LOG_SIGMA_RANGE)) * noise
        return (z.reshape(dreams, latent), h, c, returns + outputs[:, -2]), None

    def dream(key: Any) -> Any:
        zeros = jnp.zeros
        state = (
            zeros((dreams, latent)),
            zeros((dreams, hidden)),
            zeros((dreams, hidden)),
            zeros(dreams),
        )
        return jax.lax.scan(step, state, jax.random.split(key, steps))[0][3]

    scan = jax.jit(dream)

    def run() -> float:
        scan(jax.random.key(1)).block_until_ready()
        return float(dreams * steps)

    return run
