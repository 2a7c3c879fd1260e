import numpy as np
import pytest
import torch

from wm_pipeline.common.randomness import stream
from wm_pipeline.models.noise import DeviceNoise, HostNoise, Noise, noise_of

CPU = torch.device("cpu")
SHAPE = (40, 50, 60)


def noises(index: int = 0) -> list[Noise]:
    """Of both kinds; what draws on a GPU draws here, too."""
    return [
        HostNoise(stream(1, "test", index)),
        DeviceNoise(stream(1, "test", index), CPU),
    ]


@pytest.mark.parametrize("kind", [0, 1])
def test_samples_have_the_means_and_the_variances(kind: int) -> None:
    means = np.full(SHAPE, 3, np.float32)
    log_variances = np.full(SHAPE, np.log(4), np.float32)
    samples = noises()[kind].samples(means, log_variances)
    assert samples.dtype == torch.float32
    assert samples.mean() == pytest.approx(3, abs=0.03)
    assert samples.std() == pytest.approx(2, abs=0.03)
    # What was given is left as it was.
    assert (means == 3).all()
    assert (log_variances == np.float32(np.log(4))).all()


@pytest.mark.parametrize("kind", [0, 1])
def test_the_share_of_places_is_chosen(kind: int) -> None:
    chosen = noises()[kind].chosen(SHAPE, 0.3)
    assert chosen.dtype == torch.float32
    assert set(chosen.unique().tolist()) == {0, 1}
    assert chosen.mean() == pytest.approx(0.3, abs=0.01)


@pytest.mark.parametrize("kind", [0, 1])
def test_gumbel_noise_is_standard(kind: int) -> None:
    gumbel = noises()[kind].gumbel(SHAPE)
    assert gumbel.mean() == pytest.approx(0.5772, abs=0.02)
    assert gumbel.var() == pytest.approx(np.pi**2 / 6, abs=0.05)


@pytest.mark.parametrize("kind", [0, 1])
def test_noise_is_fresh_in_each_draw_and_repeats_with_its_stream(kind: int) -> None:
    noise, again, other = noises()[kind], noises()[kind], noises(1)[kind]
    first, second = noise.normal(SHAPE), noise.normal(SHAPE)
    assert not torch.equal(first, second)
    assert torch.equal(again.normal(SHAPE), first)
    assert not torch.equal(other.normal(SHAPE), first)


def test_a_gpu_draws_its_own() -> None:
    assert isinstance(noise_of(stream(1, "test"), CPU), HostNoise)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_nothing_is_drawn_by_the_host() -> None:
    noise = noise_of(stream(1, "test"), torch.device("cuda"))
    assert isinstance(noise, DeviceNoise)
    drawn = [
        noise.samples(np.zeros(SHAPE, np.float32), np.zeros(SHAPE, np.float32)),
        noise.chosen(SHAPE, 0.5),
        noise.gumbel(SHAPE),
        noise.normal(SHAPE),
    ]
    assert {each.device.type for each in drawn} == {"cuda"}
