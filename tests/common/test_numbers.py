import numpy as np
import pytest

from wm_pipeline.common.numbers import deviation, rounded


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ((763.4, 433.6), ("763", "434")),
        ((1043.9, 8.25), ("1044", "8")),
        ((38.24, 8.06), ("38.2", "8.1")),
        ((0.374, 0.048), ("0.37", "0.05")),
        ((-13.04, 2.5), ("-13.0", "2.5")),
        ((99.6,), ("100",)),
        ((0.0,), ("0.00",)),
        ((0.094, -0.02), ("0.094", "-0.020")),
        ((0.1, 0.02), ("0.10", "0.02")),
        ((2.1e-6, 3e-7), ("0.0000021", "0.0000003")),
    ],
)
def test_decimals_are_as_many_as_the_largest_needs(
    values: tuple[float, ...], told: tuple[str, ...]
) -> None:
    assert rounded(*values) == told


def test_the_sign_is_said() -> None:
    assert rounded(306.2, -3.1, sign="+") == ("+306", "-3")


def test_the_deviation_is_that_of_a_sample() -> None:
    assert deviation(np.array([100.0, 300.0])) == pytest.approx(100 * np.sqrt(2))
    assert deviation(np.array([7.0])) == 0
