"""M: an LSTM with a mixture density head that predicts the next latent.

Source: World Models, sec. 2.2 and appendix A.2; Bishop 1994 for the mixture.
"""

import math
from typing import Any, NamedTuple, Self

import torch
from pydantic import Field
from torch import Tensor, nn

from wm_pipeline.common.checkpoints import Loadable
from wm_pipeline.common.options import Options
from wm_pipeline.kernels import training

LOG_SIGMA_RANGE = (-7.0, 3.0)

State = tuple[Tensor, Tensor]
"""h and c of the LSTM, each (batch, hidden)."""


class MDNRNNOptions(Options):
    """The sizes of M.

    Attributes:
        hidden_size: LSTM units.
        mixtures: Gaussians in the mixture.
        joint: Whether the mixture is one of whole latents, its Gaussians diagonal, rather
            than one of each dimension by itself (the paper's). Of a joint one z is drawn
            from one Gaussian: what appears, appears in all dimensions at once.
        frame_skip: Steps of the environment in one step of M; an action is held over
            them, its mean is what M reads.
    """

    hidden_size: int = Field(ge=1, le=8192)
    mixtures: int = Field(ge=1, le=1000)
    joint: bool = False
    frame_skip: int = Field(default=1, ge=1, le=1000)


class Prediction(NamedTuple):
    """What M says of the next step; leading axes (batch, time) or (batch,).

    Attributes:
        logits: Mixture logits, (..., latent, mixtures); of a joint mixture (..., 1,
            mixtures).
        means: Of each Gaussian, (..., latent, mixtures).
        log_sigmas: Log standard deviations, (..., latent, mixtures).
        reward: Scaled expected reward, (...).
        done: Logit of the episode ending in this step, (...).
    """

    logits: Tensor
    means: Tensor
    log_sigmas: Tensor
    reward: Tensor
    done: Tensor


class MDNRNN(Loadable, nn.Module):
    """M, for whole sequences in training and for single steps in the dream.

    Args:
        options: The sizes.
        latent_size: Length of z.
        action_size: Length of the control vector.
        vae_digest: Digest of the V whose latents it learned from.
    """

    def __init__(
        self,
        options: MDNRNNOptions,
        latent_size: int,
        action_size: int,
        vae_digest: str,
    ) -> None:
        super().__init__()
        self.options = options
        self.latent_size, self.action_size = latent_size, action_size
        self.vae_digest = vae_digest
        self.lstm = nn.LSTM(
            latent_size + action_size, options.hidden_size, batch_first=True
        )
        gaussians = 2 * latent_size * options.mixtures
        outputs = self.choices * options.mixtures + gaussians + 2
        self.head = nn.Linear(options.hidden_size, outputs)
        # Rewards are learned scaled and paid within the range ever seen; weights that are
        # not finite are damage, so no range is one that limits nothing.
        most = torch.finfo(torch.float32).max
        self.register_buffer("reward_mean", torch.zeros(()))
        self.register_buffer("reward_scale", torch.ones(()))
        self.register_buffer("reward_range", torch.tensor([-most, most]))

    reward_mean: Tensor
    reward_scale: Tensor
    reward_range: Tensor

    @property
    def frame_skip(self) -> int:
        """Steps of the environment in one step of M."""
        return self.options.frame_skip

    @property
    def hidden_size(self) -> int:
        """LSTM units."""
        return self.options.hidden_size

    @property
    def choices(self) -> int:
        """How many Gaussians are chosen in a draw of z: one, or one a dimension."""
        return 1 if self.options.joint else self.latent_size

    def config(self) -> dict[str, Any]:
        """What ``from_config`` needs to build this module again, as JSON values."""
        return {
            "options": self.options.model_dump(mode="json"),
            "latent_size": self.latent_size,
            "action_size": self.action_size,
            "vae_digest": self.vae_digest,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """The module of a config, with fresh weights."""
        options = MDNRNNOptions.model_validate(config["options"])
        return cls(
            options, config["latent_size"], config["action_size"], config["vae_digest"]
        )

    def initial_state(self, batch: int) -> State:
        """The zero state in which every episode begins."""
        zeros = self.head.weight.new_zeros(batch, self.hidden_size)
        return zeros, zeros

    def forward(
        self, latents: Tensor, actions: Tensor, state: State
    ) -> tuple[Prediction, State]:
        """Predict the step after each of a batch of sequences' steps.

        Args:
            latents: (batch, time, latent) float32.
            actions: (batch, time, action) float32, taken at those latents.
            state: The LSTM's state before the first step.

        Returns:
            The prediction, leading axes (batch, time), and the state after the last
            step.
        """
        outputs, state = self.outputs(latents, actions, state)
        return self.prediction(outputs), state

    def outputs(
        self, latents: Tensor, actions: Tensor, state: State
    ) -> tuple[Tensor, State]:
        """Like ``forward``, with the head's outputs in place of the prediction."""
        inputs = torch.cat((latents, actions), -1)
        if training.usable(inputs):
            weights = self.lstm.all_weights[0]
            hidden, state = training.lstm(inputs, state, weights)
            return training.linear(hidden, self.head.weight, self.head.bias), state
        hidden, (h, c) = self.lstm(inputs, (state[0][None], state[1][None]))
        return self.head(hidden), (h[0], c[0])

    def remember(self, latents: Tensor, actions: Tensor, state: State) -> State:
        """The state after one step: z (batch, latent), action (batch, action)."""
        inputs = torch.cat((latents, actions), -1)
        h, c = torch.lstm_cell(inputs, state, *self.lstm.all_weights[0])
        return h, c

    def predict(self, hidden: Tensor) -> Prediction:
        """The prediction from h, (..., hidden)."""
        return self.prediction(self.head(hidden))

    def prediction(self, outputs: Tensor) -> Prediction:
        """The prediction that the head's outputs say, (..., outputs).

        First the logits (choices, mixtures); then the Gaussians, all means and all log
        deviations, each (latent, mixtures), of a joint mixture (mixtures, latent); last
        the reward and the end.
        """
        latent, mixtures = self.latent_size, self.options.mixtures
        first = self.choices * mixtures
        logits = outputs[..., :first].unflatten(-1, (self.choices, mixtures))
        gaussians = outputs[..., first:-2]
        if self.options.joint:
            parts = gaussians.unflatten(-1, (2, mixtures, latent)).transpose(-1, -2)
        else:
            parts = gaussians.unflatten(-1, (2, latent, mixtures))
        means, log_sigmas = parts.unbind(-3)
        return Prediction(
            logits,
            means,
            log_sigmas.clamp(*LOG_SIGMA_RANGE),
            outputs[..., -2],
            outputs[..., -1],
        )

    def compare(
        self, outputs: Tensor, targets: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The head's outputs beside what came next.

        Args:
            outputs: As in ``prediction``.
            targets: The next latents, (..., latent).

        Returns:
            ``mixture_negative_log_likelihood`` (..., choices), and as in ``Prediction``
            the scaled reward and the logit of the end.
        """
        mixtures = self.options.mixtures
        if training.usable(outputs) and mixtures <= training.MOST_MIXTURES:
            nll, others = training.mixture_loss(
                outputs, targets, mixtures, self.options.joint, LOG_SIGMA_RANGE
            )
            return nll, others[..., 0], others[..., 1]
        prediction = self.prediction(outputs)
        nll = mixture_negative_log_likelihood(prediction, targets)
        return nll, prediction.reward, prediction.done

    def reward(self, scaled: Tensor) -> Tensor:
        """The reward of a predicted step, within the range ever seen in training."""
        reward = self.reward_mean + self.reward_scale * scaled
        return reward.clamp(self.reward_range[0], self.reward_range[1])


def mixture_negative_log_likelihood(prediction: Prediction, targets: Tensor) -> Tensor:
    """-log p of the next latents under their mixture of Gaussians.

    Args:
        prediction: With leading axes (...).
        targets: The next latents, (..., latent).

    Returns:
        That of each dimension, (..., latent) in nats; of a joint mixture its mean over
        the dimensions, (..., 1).

    Source: Bishop 1994, eq. 29, by logsumexp; World Models, sec. 2.2.
    """
    deviations = (targets[..., None] - prediction.means) * torch.exp(
        -prediction.log_sigmas
    )
    log_densities = (
        -0.5 * deviations.square() - prediction.log_sigmas - 0.5 * math.log(2 * math.pi)
    )
    log_weights = torch.log_softmax(prediction.logits, -1)
    if log_weights.shape[-2] < targets.shape[-1]:
        together = log_weights + log_densities.sum(-2, keepdim=True)
        return -torch.logsumexp(together, -1) / targets.shape[-1]
    return -torch.logsumexp(log_weights + log_densities, -1)


def mixture_mean(prediction: Prediction) -> Tensor:
    """The expected next latent, (..., latent), of a prediction with leading axes (...)."""
    return (prediction.logits.softmax(-1) * prediction.means).sum(-1)


def sample_mixture(
    prediction: Prediction, temperature: float, gumbel: Tensor, normal: Tensor
) -> Tensor:
    """Draw the next latent from the mixture, at a temperature, from given noise.

    Args:
        prediction: With leading axes (...).
        temperature: Divides the logits and multiplies the variances, above 0.
        gumbel: Standard Gumbel noise that chooses the Gaussian, of the logits' shape.
        normal: Standard normal noise, (..., latent).

    Returns:
        z, (..., latent).

    Source: World Models, sec. 4 (temperature); Gumbel-max for the choice.
    """
    chosen = (prediction.logits / temperature + gumbel).argmax(-1, keepdim=True)
    chosen = chosen.expand(*prediction.means.shape[:-1], 1)
    means = prediction.means.gather(-1, chosen)[..., 0]
    sigmas = prediction.log_sigmas.gather(-1, chosen)[..., 0].exp()
    return means + sigmas * math.sqrt(temperature) * normal
