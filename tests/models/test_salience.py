"""Which pixels matter, by rules that know the game and by one that does not."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wm_pipeline.models.salience import (
    ColourOptions,
    Salience,
    SalienceOptions,
    Statistics,
    SurpriseOptions,
)

GREY = Statistics(torch.full((64, 64, 3), 0.5), torch.full((64, 64, 3), 0.1))


def frame(value: float = 0.5) -> torch.Tensor:
    return torch.full((1, 64, 64, 3), value)


def surprise(**options: float) -> Salience:
    rule = SurpriseOptions(deviations=1.0, most_deviations=4.0, least_deviation=0.05)
    return Salience(SalienceOptions(rule=rule, **options), GREY)


def test_statistics_are_those_of_each_pixel() -> None:
    frames = np.random.default_rng(0).integers(256, size=(9, 64, 64, 3), dtype=np.uint8)
    mean, deviation = Statistics.of(frames)
    assert mean.shape == deviation.shape == (64, 64, 3)
    assert mean.dtype == deviation.dtype == torch.float32
    scaled = frames[:, 3, 5, 1] / 255
    assert mean[3, 5, 1] == pytest.approx(scaled.mean(), rel=1e-5)
    assert deviation[3, 5, 1] == pytest.approx(scaled.std(), rel=1e-5)


@pytest.mark.parametrize(
    ("value", "degree"),
    [
        (0.5, 0),
        (0.59, 0),
        (0.71, 1.21),
        (0.29, 1.21),
        (0.69, 0.81),
        (0.99, 9),
        (0.01, 9),
    ],
)
@pytest.mark.parametrize("channel", [0, 1, 2])
def test_surprise_is_the_square_of_deviations_beyond_the_first(
    value: float, degree: float, channel: int
) -> None:
    pixels = frame()
    pixels[0, 7, 8, channel] = value
    found = surprise().degree(pixels)
    assert found[0, 7, 8] == pytest.approx(degree, abs=1e-4)
    assert found.sum() == found[0, 7, 8]
    assert surprise().seen(pixels).sum() == (degree >= 1)


def test_a_still_pixel_has_the_least_deviation() -> None:
    still = Statistics(GREY.mean, torch.zeros(64, 64, 3))
    rule = SurpriseOptions(deviations=1.0, most_deviations=9.0, least_deviation=0.05)
    pixels = frame(0.65)
    degree = Salience(SalienceOptions(rule=rule), still).degree(pixels)
    assert degree[0, 0, 0] == pytest.approx(4, rel=1e-3)


@pytest.mark.parametrize("channel", [0, 1, 2])
def test_a_colour_is_bright_or_not(channel: int) -> None:
    rule = ColourOptions(kind="colour", channel=channel, threshold=0.6)
    pixels = frame(0.9)
    pixels[..., channel] = 0.59
    pixels[0, 1, 2, channel] = 0.61
    found = Salience(SalienceOptions(rule=rule), GREY).degree(pixels)
    assert found[0, 1, 2] == 1
    assert found.sum() == 1


@given(
    size=st.integers(1, 9),
    row=st.integers(0, 54),
    column=st.integers(0, 54),
)
def test_a_small_thing_weighs_as_much_as_a_large_one(
    size: int, row: int, column: int
) -> None:
    pixels = frame()
    pixels[0, row : row + size, column : column + size] = 0.7
    weights = surprise(weight=100.0, around=19).weights(pixels, frame())[0]
    # Each pixel of the thing shares with all the others.
    assert weights.sum() - 64 * 64 == pytest.approx(100, rel=1e-3)
    assert weights.max() - 1 == pytest.approx(100 / size**2, rel=1e-3)


def test_things_apart_do_not_share() -> None:
    pixels = frame()
    pixels[0, 10, 10] = pixels[0, 10, 15] = 0.7
    near = surprise(weight=100.0, around=11).weights(pixels, frame())[0]
    assert near[10, 10] == near[10, 15] == pytest.approx(51, rel=1e-3)
    far = surprise(weight=100.0, around=9).weights(pixels, frame())[0]
    assert far[10, 10] == far[10, 15] == pytest.approx(101, rel=1e-3)


@pytest.mark.parametrize("together", [1.0, 16.0])
def test_a_frame_unlike_all_others_does_not_have_the_loss_to_itself(
    together: float,
) -> None:
    pixels = torch.cat([frame(0.9), frame()])
    pixels[1, 10, 10] = 0.7
    weights = surprise(weight=100.0, together=together).weights(
        pixels, frame().expand_as(pixels)
    )
    all_of_them, lonely = (weights.sum((1, 2)) - 64 * 64).tolist()
    assert all_of_them == pytest.approx(100 * together, rel=1e-3)
    assert lonely == pytest.approx(100, rel=1e-3)


def test_what_is_only_imagined_weighs_too() -> None:
    decoded = frame()
    decoded[0, 20, 30] = 0.99
    weights = surprise(weight=100.0, imagined_weight=7.0).weights(frame(), decoded)[0]
    assert weights[20, 30] == pytest.approx(8)
    assert weights.sum() == pytest.approx(64 * 64 + 7)


def test_where_frames_are_salient() -> None:
    frames = np.full((251, 64, 64, 3), 128, np.uint8)
    frames[250, 3, 4] = 255
    found = surprise().seen_in(frames)
    assert found.dtype == bool
    assert np.argwhere(found).tolist() == [[250, 3, 4]]


def test_a_range_in_which_nothing_is_seen_is_refused() -> None:
    frames = np.zeros((2, 64, 64, 3), np.uint8)
    frames[1] = 255
    options = SalienceOptions(rule=SurpriseOptions(deviations=3.0, most_deviations=4.1))
    assert Salience(options, GREY).seen_in(frames).any()
    with pytest.raises(ValueError, match=r"most_deviations.*deviations \+ 1 \(4\)"):
        SurpriseOptions(deviations=3.0, most_deviations=3.9)


def test_a_square_has_a_middle() -> None:
    with pytest.raises(ValueError, match=r"around.*odd number, found 4"):
        SalienceOptions(around=4)
