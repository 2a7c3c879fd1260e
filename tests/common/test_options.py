"""Options by their dotted names: read, changed, refused."""

import pytest
from pydantic import ValidationError

from wm_pipeline.common.options import Options, Population, option, with_options


class Inner(Options):
    population: Population = 4
    sizes: tuple[int, ...] = (1, 2)


class Outer(Options):
    inner: Inner = Inner()
    named: dict[str, Inner]
    rate: float = 1
    layers: tuple[Inner, ...] = (Inner(), Inner())


OUTER = Outer(named={"a": Inner()})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("rate", 2.5),
        ("inner.population", 7),
        ("inner.sizes", (3,)),
        ("named.a.population", 9),
        ("layers.1.population", 9),
    ],
)
def test_an_option_is_changed_and_the_others_are_not(name: str, value: object) -> None:
    changed = with_options(OUTER, {name: value})
    assert option(changed, name) == value
    assert with_options(changed, {name: option(OUTER, name)}) == OUTER
    assert option(OUTER, name) != value


@pytest.mark.parametrize(
    "name", ["none", "inner.none", "rate.x", "inner.sizes.0", "layers.2.population", ""]
)
def test_what_is_no_option_is_not_made_one(name: str) -> None:
    with pytest.raises(KeyError):
        with_options(OUTER, {name: 1})
    with pytest.raises(KeyError):
        option(OUTER, name)


def test_a_value_out_of_its_range_is_refused() -> None:
    with pytest.raises(ValidationError, match="population"):
        with_options(OUTER, {"inner.population": 1})
