"""M: one class for sequences and steps, its mixture, its temperature."""

import json
import math
from random import Random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from wm_pipeline.common.randomness import seeded_initialisation
from wm_pipeline.models.mdn_rnn import (
    MDNRNN,
    MDNRNNOptions,
    Prediction,
    mixture_mean,
    mixture_negative_log_likelihood,
    sample_mixture,
)

quick = settings(max_examples=50, deadline=None)


def mixture(logits: Tensor, means: Tensor, log_sigmas: Tensor) -> Prediction:
    nothing = torch.zeros(logits.shape[:-2])
    return Prediction(logits, means, log_sigmas, nothing, nothing)


@st.composite
def one_dimension(draw: st.DrawFn) -> Prediction:
    """A mixture of one dimension, (1, mixtures) float64, on about [-10, 10]."""
    size = draw(st.integers(1, 5))

    def numbers(low: float, high: float) -> Tensor:
        values = st.lists(st.floats(low, high), min_size=size, max_size=size)
        return torch.tensor([draw(values)], dtype=torch.float64)

    return mixture(numbers(-8, 8), numbers(-5, 5), numbers(-2, 0.5))


@pytest.fixture
def random() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture
def apart() -> tuple[Prediction, Tensor, Tensor]:
    """Three Gaussians far apart with weights 0.2, 0.5, 0.3, and their parameters."""
    weights = torch.tensor([0.2, 0.5, 0.3])
    means, sigmas = torch.tensor([-50.0, 0.0, 50.0]), torch.tensor([0.5, 1.0, 2.0])
    prediction = mixture(weights.log()[None], means[None], sigmas.log()[None])
    return prediction, means, sigmas


def test_the_mean_of_a_mixture_weighs_its_gaussians(
    apart: tuple[Prediction, Tensor, Tensor],
) -> None:
    # 0.2 * -50 + 0.5 * 0 + 0.3 * 50; logits need not be normalised.
    prediction, _, _ = apart
    shifted = prediction._replace(logits=prediction.logits + 3)
    for given_ in (prediction, shifted):
        torch.testing.assert_close(mixture_mean(given_), torch.tensor([5.0]))


def test_a_sequence_equals_its_single_steps(
    mdn_rnn: MDNRNN, random: torch.Generator
) -> None:
    latents = torch.randn(3, 7, 4, generator=random)
    actions = torch.randn(3, 7, 1, generator=random)
    start = (
        torch.randn(3, 8, generator=random),
        torch.randn(3, 8, generator=random),
    )
    with torch.no_grad():
        sequence, last = mdn_rnn(latents, actions, start)
        state = start
        for time in range(7):
            state = mdn_rnn.remember(latents[:, time], actions[:, time], state)
            step = mdn_rnn.predict(state[0])
            for name in Prediction._fields:
                torch.testing.assert_close(
                    getattr(step, name),
                    getattr(sequence, name)[:, time],
                    rtol=0,
                    atol=1e-5,
                )
    for found, expected in zip(state, last, strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert sequence.logits.shape == (3, 7, 4, 3)
    assert sequence.done.shape == (3, 7)


def test_the_state_the_action_and_the_latent_all_matter(
    mdn_rnn: MDNRNN, random: torch.Generator
) -> None:
    inputs = [
        torch.randn(1, 4, generator=random),
        torch.randn(1, 1, generator=random),
        torch.randn(1, 8, generator=random),
        torch.randn(1, 8, generator=random),
    ]

    def remembered(latents: Tensor, actions: Tensor, h: Tensor, c: Tensor) -> Tensor:
        with torch.no_grad():
            return mdn_rnn.remember(latents, actions, (h, c))[0]

    before = remembered(*inputs)
    for number in range(4):
        moved = [x + 1 if i == number else x for i, x in enumerate(inputs)]
        assert (remembered(*moved) - before).abs().max() > 1e-3


def test_the_initial_state_is_zero(mdn_rnn: MDNRNN) -> None:
    for part in mdn_rnn.initial_state(3):
        assert torch.equal(part, torch.zeros(3, 8))


def test_log_sigmas_are_clamped(mdn_rnn: MDNRNN) -> None:
    with torch.no_grad():
        mdn_rnn.head.bias[24:30] = 100
        mdn_rnn.head.bias[30:36] = -100
        log_sigmas = mdn_rnn.predict(torch.zeros(2, 8)).log_sigmas
    assert torch.equal(log_sigmas[:, :2], torch.full((2, 2, 3), 3.0))
    assert torch.equal(log_sigmas[:, 2:], torch.full((2, 2, 3), -7.0))


def test_nll_equals_torchs_mixture(random: torch.Generator) -> None:
    shape = (5, 6, 4, 3)
    logits = 3 * torch.randn(shape, generator=random)
    means = torch.randn(shape, generator=random)
    log_sigmas = torch.randn(shape, generator=random)
    targets = 2 * torch.randn(5, 6, 4, generator=random)
    expected = -torch.distributions.MixtureSameFamily(
        torch.distributions.Categorical(logits=logits),
        torch.distributions.Normal(means, log_sigmas.exp()),
    ).log_prob(targets)
    prediction = mixture(logits, means, log_sigmas)
    found = mixture_negative_log_likelihood(prediction, targets)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_nll_of_a_joint_mixture_equals_torchs(random: torch.Generator) -> None:
    logits = 3 * torch.randn(5, 6, 1, 3, generator=random)
    means = torch.randn(5, 6, 4, 3, generator=random)
    log_sigmas = torch.randn(5, 6, 4, 3, generator=random)
    targets = 2 * torch.randn(5, 6, 4, generator=random)
    gaussians = torch.distributions.Normal(means.mT, log_sigmas.mT.exp())
    expected = -torch.distributions.MixtureSameFamily(
        torch.distributions.Categorical(logits=logits[..., 0, :]),
        torch.distributions.Independent(gaussians, 1),
    ).log_prob(targets)
    prediction = mixture(logits, means, log_sigmas)
    found = mixture_negative_log_likelihood(prediction, targets)
    torch.testing.assert_close(4 * found[..., 0], expected, rtol=1e-5, atol=1e-5)


def test_of_a_joint_mixture_all_dimensions_are_drawn_from_one_gaussian() -> None:
    options = MDNRNNOptions(hidden_size=8, mixtures=5, joint=True)
    with seeded_initialisation(1, "joint"):
        mdn_rnn = MDNRNN(options, 7, 1, "digest")
    with torch.no_grad():
        # Gaussian k is about 100 k in every dimension.
        means = mdn_rnn.head.bias[5 : 5 + 35].view(5, 7)
        means.copy_(100 * torch.arange(5.0)[:, None].expand(5, 7))
        prediction = mdn_rnn.predict(torch.zeros(2000, 8))
    numpy = np.random.default_rng(1)
    gumbel = torch.from_numpy(numpy.gumbel(size=(2000, 1, 5)).astype(np.float32))
    normal = torch.from_numpy(numpy.standard_normal((2000, 7), np.float32))
    drawn = (sample_mixture(prediction, 1.0, gumbel, normal) / 100).round()
    assert torch.equal(drawn, drawn[:, :1].expand(2000, 7))
    shares = torch.bincount(drawn[:, 0].long(), minlength=5) / 2000
    expected = prediction.logits[0, 0].softmax(-1)
    torch.testing.assert_close(shares, expected, rtol=0, atol=0.06)


def test_nll_of_one_gaussian_by_hand() -> None:
    prediction = mixture(
        torch.zeros(1, 1), torch.full((1, 1), 3.0), torch.full((1, 1), math.log(2))
    )
    found = mixture_negative_log_likelihood(prediction, torch.tensor([7.0]))
    expected = 0.5 * 2**2 + math.log(2) + 0.5 * math.log(2 * math.pi)
    assert found.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("log_sigma", [-7.0, 3.0])
@pytest.mark.parametrize("logit", [0.0, 1e4, -1e4])
@pytest.mark.parametrize("target", [0.0, 1e4, -1e4])
def test_nll_and_its_gradient_are_finite_and_right_in_the_extremes(
    log_sigma: float, logit: float, target: float
) -> None:
    parts = [
        torch.tensor([[logit, 0.0]], requires_grad=True),
        torch.tensor([[0.0, 1.0]], requires_grad=True),
        torch.tensor([[log_sigma, log_sigma]], requires_grad=True),
    ]
    nll = mixture_negative_log_likelihood(mixture(*parts), torch.tensor([target]))
    nll.sum().backward()
    assert all(bool(part.grad.isfinite().all()) for part in parts)
    logits, means, log_sigmas = (part.detach().double().numpy()[0] for part in parts)
    log_weights = logits - np.logaddexp.reduce(logits)
    deviations = (target - means) / np.exp(log_sigmas)
    log_densities = -0.5 * deviations**2 - log_sigmas - 0.5 * np.log(2 * np.pi)
    expected = -np.logaddexp.reduce(log_weights + log_densities)
    assert nll.item() == pytest.approx(expected, rel=1e-4, abs=1e-3)


@given(one_dimension())
@quick
def test_density_integrates_to_one(prediction: Prediction) -> None:
    targets = torch.linspace(-20, 20, 8001, dtype=torch.float64)
    nll = mixture_negative_log_likelihood(prediction, targets[:, None])[:, 0]
    assert torch.trapezoid(torch.exp(-nll), targets).item() == pytest.approx(
        1, abs=1e-4
    )


@given(one_dimension(), st.floats(-6, 6), st.floats(-100, 100), st.randoms())
@quick
def test_nll_ignores_the_order_of_the_gaussians_and_a_shift_of_the_logits(
    prediction: Prediction, target: float, shift: float, random: Random
) -> None:
    targets = torch.tensor([target], dtype=torch.float64)
    order = list(range(prediction.logits.shape[-1]))
    random.shuffle(order)
    shuffled = mixture(*(part[..., order] for part in prediction[:3]))
    shifted = prediction._replace(logits=prediction.logits + shift)
    before = mixture_negative_log_likelihood(prediction, targets).item()
    for other in (shuffled, shifted):
        found = mixture_negative_log_likelihood(other, targets).item()
        assert found == pytest.approx(before, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.5])
def test_temperature_divides_logits_and_multiplies_variances(
    apart: tuple[Prediction, Tensor, Tensor], temperature: float
) -> None:
    prediction, means, sigmas = apart
    draws, numpy = 200_000, np.random.default_rng(1)
    gumbel = torch.from_numpy(numpy.gumbel(size=(draws, 1, 3)).astype(np.float32))
    normal = torch.from_numpy(numpy.standard_normal((draws, 1), np.float32))
    many = mixture(*(part.expand(draws, 1, 3) for part in prediction[:3]))
    samples = sample_mixture(many, temperature, gumbel, normal)[:, 0]
    weights = torch.softmax(prediction.logits[0] / temperature, 0)
    chosen = (samples[:, None] - means).abs().argmin(1)
    for number in range(3):
        mine = samples[chosen == number]
        # Five standard errors of each estimate.
        weight, variance = weights[number].item(), sigmas[number].item() ** 2
        variance *= temperature
        share_error = math.sqrt(weight * (1 - weight) / draws)
        assert len(mine) / draws == pytest.approx(weight, abs=5 * share_error)
        assert mine.mean().item() == pytest.approx(
            means[number].item(), abs=5 * math.sqrt(variance / len(mine))
        )
        assert mine.var().item() == pytest.approx(
            variance, rel=5 * math.sqrt(2 / len(mine))
        )


@given(one_dimension(), st.floats(0.01, 10), st.floats(-3, 3), st.integers(0, 4))
@quick
def test_overwhelming_gumbel_noise_picks_that_gaussian(
    prediction: Prediction, temperature: float, normal: float, chosen: int
) -> None:
    chosen %= prediction.logits.shape[-1]
    gumbel = torch.zeros_like(prediction.logits)
    gumbel[0, chosen] = 1e4
    found = sample_mixture(
        prediction, temperature, gumbel, torch.tensor([normal], dtype=torch.float64)
    )
    sigma = prediction.log_sigmas[0, chosen].exp().item()
    expected = prediction.means[0, chosen].item()
    expected += sigma * math.sqrt(temperature) * normal
    assert found.item() == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_reward_is_scaled_back_and_clamped_to_the_range_seen(mdn_rnn: MDNRNN) -> None:
    scaled = torch.tensor([-100.0, -1.0, 0.0, 1.0, 100.0])
    mdn_rnn.reward_mean.fill_(4)
    mdn_rnn.reward_scale.fill_(2)
    assert mdn_rnn.reward(scaled).tolist() == [-196, 2, 4, 6, 204]
    mdn_rnn.reward_range.copy_(torch.tensor([3.0, 7.0]))
    assert mdn_rnn.reward(scaled).tolist() == [3, 3, 4, 6, 7]


def test_config_and_state_rebuild_m(mdn_rnn: MDNRNN) -> None:
    mdn_rnn.reward_range.copy_(torch.tensor([0.0, 4.0]))
    twin = MDNRNN.from_config(json.loads(json.dumps(mdn_rnn.config())))
    twin.load_state_dict(mdn_rnn.state_dict())
    assert twin.config() == mdn_rnn.config()
    assert (twin.frame_skip, twin.hidden_size) == (2, 8)
    assert twin.vae_digest == mdn_rnn.vae_digest
    assert twin.reward_range.tolist() == [0, 4]
    inputs = torch.ones(1, 4), torch.ones(1, 1), mdn_rnn.initial_state(1)
    for found, expected in zip(
        twin.remember(*inputs), mdn_rnn.remember(*inputs), strict=True
    ):
        assert torch.equal(found, expected)


@pytest.mark.parametrize("name", ["hidden_size", "mixtures", "frame_skip"])
def test_sizes_below_one_are_refused_by_name(name: str) -> None:
    document = {"hidden_size": 1, "mixtures": 1, "frame_skip": 1, name: 0}
    with pytest.raises(ValueError, match=name):
        MDNRNNOptions.model_validate(document)
