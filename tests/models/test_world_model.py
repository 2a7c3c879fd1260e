"""V and M together: where dreams begin, one step, and who belongs to whom."""

import json

import pytest
import torch

from wm_pipeline.common.randomness import seeded_initialisation
from wm_pipeline.models.mdn_rnn import MDNRNN, MDNRNNOptions, sample_mixture
from wm_pipeline.models.vae import ConvVAE
from wm_pipeline.models.world_model import WorldModel, build_world_model, digest

STARTS = torch.zeros(2, 4)


def test_the_digest_follows_the_weights_and_nothing_else(vae: ConvVAE) -> None:
    before = digest(vae)
    assert len(before) == 16
    assert int(before, 16) >= 0
    twin = ConvVAE.from_config(vae.config())
    assert digest(twin) != before
    twin.load_state_dict(vae.state_dict())
    twin.train().requires_grad_(False)
    assert digest(twin) == before
    with torch.no_grad():
        twin.mean.bias[0] = torch.nextafter(twin.mean.bias[0], torch.tensor(9.0))
    assert digest(twin) != before


def test_the_digest_covers_buffers(mdn_rnn: MDNRNN) -> None:
    before = digest(mdn_rnn)
    mdn_rnn.reward_range.copy_(torch.tensor([0.0, 4.0]))
    assert digest(mdn_rnn) != before


def test_v_and_m_that_belong_together_are_joined(vae: ConvVAE, mdn_rnn: MDNRNN) -> None:
    joined = build_world_model(vae, mdn_rnn, STARTS, STARTS - 1)
    assert joined.vae is vae
    assert joined.mdn_rnn is mdn_rnn
    assert torch.equal(joined.start_means, STARTS)
    assert torch.equal(joined.start_log_variances, STARTS - 1)


def test_an_m_of_another_v_is_refused_with_both_digests(
    vae: ConvVAE, mdn_rnn: MDNRNN
) -> None:
    trained_on = digest(vae)
    with seeded_initialisation(2, "another vae"):
        other = ConvVAE(vae.options)
    with pytest.raises(ValueError, match=trained_on) as refused:
        build_world_model(other, mdn_rnn, STARTS, STARTS)
    assert digest(other) in str(refused.value)


def test_an_m_of_another_latent_size_is_refused(vae: ConvVAE) -> None:
    options = MDNRNNOptions(hidden_size=2, mixtures=1, frame_skip=1)
    with pytest.raises(ValueError, match="latents of 5, V makes 4"):
        WorldModel(vae, MDNRNN(options, 5, 1, digest(vae)), STARTS, STARTS)


def test_dreams_start_in_samples_of_the_chosen_latents(world_model: WorldModel) -> None:
    choices, normal = torch.tensor([3, 0, 3]), torch.ones(3, 4)
    normal[2] = -2
    found = world_model.start(choices, normal)
    deviation = torch.exp(torch.tensor(-2.0))
    expected = world_model.start_means[choices] + deviation * normal
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    assert found[0, 0].item() == pytest.approx(1.2 + 0.1353, abs=1e-4)


def test_a_step_is_remember_predict_and_sample(world_model: WorldModel) -> None:
    mdn_rnn, random = world_model.mdn_rnn, torch.Generator().manual_seed(0)
    latents = torch.randn(6, 4, generator=random)
    actions = torch.randn(6, 1, generator=random)
    h, c = torch.randn(2, 6, 8, generator=random)
    gumbel = torch.randn(6, 4, 3, generator=random)
    normal = torch.randn(6, 4, generator=random)
    with torch.no_grad():
        # Logits of the end on both sides of zero, all close to it.
        mdn_rnn.head.weight[-2:] *= 3
        mdn_rnn.reward_scale.fill_(3)
        mdn_rnn.reward_mean.fill_(1)
        mdn_rnn.reward_range.copy_(torch.tensor([0.5, 1.5]))
        following, reward, done, state = world_model.step(
            latents, actions, (h, c), 0.7, gumbel, normal
        )
        expected_state = mdn_rnn.remember(latents, actions, (h, c))
        prediction = mdn_rnn.predict(expected_state[0])
    assert torch.equal(state[0], expected_state[0])
    assert torch.equal(state[1], expected_state[1])
    assert torch.equal(following, sample_mixture(prediction, 0.7, gumbel, normal))
    expected_reward = (1 + 3 * prediction.reward).clamp(0.5, 1.5)
    torch.testing.assert_close(reward, expected_reward)
    assert len(reward.unique()) > 2
    assert torch.equal(done, torch.sigmoid(prediction.done) > 0.5)
    assert 0 < done.sum() < 6
    assert 0 < prediction.done[done].max() < 1


def test_config_rebuilds_the_world_model(world_model: WorldModel) -> None:
    twin = WorldModel.from_config(json.loads(json.dumps(world_model.config())))
    assert digest(twin) != digest(world_model)
    twin.load_state_dict(world_model.state_dict())
    assert digest(twin) == digest(world_model)
    assert twin.config() == world_model.config()
    assert twin.mdn_rnn.vae_digest == digest(twin.vae)
