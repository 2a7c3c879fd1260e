"""The world model: V and M together, with the latents in which real episodes begin."""

import hashlib
from typing import Any, Self

import torch
from torch import Tensor, nn

from wm_pipeline.common.checkpoints import Loadable
from wm_pipeline.common.errors import InputError
from wm_pipeline.models.mdn_rnn import MDNRNN, State, sample_mixture
from wm_pipeline.models.vae import ConvVAE, reparameterise


class WorldModel(Loadable, nn.Module):
    """V, M, and where dreams begin.

    Args:
        vae: V.
        mdn_rnn: M, trained on the latents of that V.
        start_means: Means of the first latents of real episodes, (starts, latent).
        start_log_variances: Their log-variances, (starts, latent).

    Attributes:
        dream: What the dream environment takes where it is not told, as JSON values:
            ``actions``, ``temperature`` and ``max_steps`` (of M). A checkpoint has it.

    Raises:
        ValueError: M expects latents of another length than V makes.
    """

    def __init__(
        self,
        vae: ConvVAE,
        mdn_rnn: MDNRNN,
        start_means: Tensor,
        start_log_variances: Tensor,
    ) -> None:
        super().__init__()
        if mdn_rnn.latent_size != vae.latent_size:
            raise InputError(
                f"M expects latents of {mdn_rnn.latent_size}, V makes {vae.latent_size}"
            )
        self.vae, self.mdn_rnn = vae, mdn_rnn
        self.dream: dict[str, Any] = {}
        self.register_buffer("start_means", start_means)
        self.register_buffer("start_log_variances", start_log_variances)

    start_means: Tensor
    start_log_variances: Tensor

    def config(self) -> dict[str, Any]:
        """What ``from_config`` needs to build this module again, as JSON values."""
        return {
            "vae": self.vae.config(),
            "mdn_rnn": self.mdn_rnn.config(),
            "starts": len(self.start_means),
            "dream": self.dream,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """The world model of a config, with fresh weights."""
        vae = ConvVAE.from_config(config["vae"])
        starts = torch.zeros(config["starts"], vae.latent_size)
        mdn_rnn = MDNRNN.from_config(config["mdn_rnn"])
        world_model = cls(vae, mdn_rnn, starts, starts.clone())
        world_model.dream = dict(config["dream"])
        return world_model

    def start(self, choices: Tensor, normal: Tensor) -> Tensor:
        """Sample first latents.

        Args:
            choices: Which of the starts, (batch,) int64.
            normal: Standard normal noise, (batch, latent).

        Returns:
            z, (batch, latent).
        """
        means = self.start_means[choices]
        return reparameterise(means, self.start_log_variances[choices], normal)

    def step(
        self,
        latents: Tensor,
        actions: Tensor,
        state: State,
        temperature: float,
        gumbel: Tensor,
        normal: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, State]:
        """Dream one step.

        Args:
            latents: z, (batch, latent).
            actions: Controls, (batch, action).
            state: M's state.
            temperature: Of the dream, above 0.
            gumbel: Noise, (batch, choices, mixtures).
            normal: Noise, (batch, latent).

        Returns:
            The next z, the reward (batch,), whether the episode ended (batch,) bool
            (its logit is positive: World Models, sec. 4), and M's next state.
        """
        state = self.mdn_rnn.remember(latents, actions, state)
        prediction = self.mdn_rnn.predict(state[0])
        following = sample_mixture(prediction, temperature, gumbel, normal)
        reward = self.mdn_rnn.reward(prediction.reward)
        return following, reward, prediction.done > 0, state


def digest(module: nn.Module) -> str:
    """A fingerprint of a module's weights: 16 hexadecimal digits of their SHA-256."""
    state = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        state.update(name.encode())
        state.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return state.hexdigest()[:16]


def build_world_model(
    vae: ConvVAE, mdn_rnn: MDNRNN, start_means: Tensor, start_log_variances: Tensor
) -> WorldModel:
    """Join V and M, after checking that they belong together.

    Args:
        vae: V.
        mdn_rnn: M.
        start_means: (starts, latent), from ``vae``.
        start_log_variances: (starts, latent), from ``vae``.

    Raises:
        ValueError: M was trained on latents of another V.
    """
    found = digest(vae)
    if mdn_rnn.vae_digest != found:
        raise InputError(
            f"the MDN-RNN was trained on latents of the VAE {mdn_rnn.vae_digest}, but "
            f"the VAE loaded is {found}. Run the vision and memory stages again, or "
            "load the versions that belong together"
        )
    return WorldModel(vae, mdn_rnn, start_means, start_log_variances)
