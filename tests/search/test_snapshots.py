"""The state of a search: a resumed one continues as the first would, to the last bit."""

import copy
import json
from collections import deque
from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wm_pipeline.common.errors import InputError
from wm_pipeline.search.snapshots import Snapshot, restore, take
from wm_pipeline.search.strategies import CMAES, Kind, StrategyOptions

FITNESS = {
    "ellipsoid": lambda x: (
        -(np.square(x - 0.5) @ 10.0 ** np.linspace(0, 4, x.shape[1]))
    ),
    "slope": lambda x: x[:, 0],
    "plain": lambda x: np.zeros(len(x)),
    "steps": lambda x: np.floor(x).sum(1),
}
every_kind = pytest.mark.parametrize("kind", get_args(Kind))


def search(
    kind: Kind,
    size: int = 12,
    population: int = 8,
    seed: int = 1,
    snapshot: Snapshot | None = None,
) -> CMAES:
    options = StrategyOptions(kind=kind, population=population, sigma=0.5)
    return CMAES(options, size, seed, snapshot)


def course(subject: CMAES, generations: int, fitness: str = "ellipsoid") -> list[Any]:
    """Everything that can be seen of some generations."""
    seen: list[Any] = []
    for _ in range(generations):
        candidates = subject.ask()
        subject.tell(candidates, FITNESS[fitness](candidates))
        scalars = (subject.sigma, subject.axis_ratio, sorted(subject.stop()))
        seen.append((candidates.tobytes(), subject.mean.tobytes(), *scalars))
    return seen


def travelled(snapshot: Snapshot) -> Snapshot:
    """The snapshot after a journey through JSON, and with arrays of its own."""
    values = json.loads(json.dumps(snapshot.values))
    return Snapshot(values, [array.copy() for array in snapshot.arrays])


def assert_goes_on(
    kind: Kind, size: int, population: int, generations: int, fitness: str
) -> None:
    subject = search(kind, size, population)
    course(subject, generations, fitness)
    snapshot = travelled(subject.snapshot())
    expected = course(subject, 30, fitness)
    other = search(kind, size, population, 99, snapshot)
    assert course(other, 30, fitness) == expected


@every_kind
@pytest.mark.parametrize("generations", [1, 2, 3, 20])
def test_a_restored_search_goes_on_bit_for_bit(kind: Kind, generations: int) -> None:
    assert_goes_on(kind, 12, 8, generations, "ellipsoid")


@given(
    kind=st.sampled_from(get_args(Kind)),
    size=st.sampled_from([2, 5, 10, 33]),
    population=st.sampled_from([2, 3, 4, 5, 9]),
    generations=st.integers(1, 40),
    fitness=st.sampled_from(sorted(FITNESS)),
)
@settings(max_examples=30, deadline=None)
def test_whatever_the_search_it_goes_on_bit_for_bit(
    kind: Kind, size: int, population: int, generations: int, fitness: str
) -> None:
    size = max(size, 10) if kind == "vd" else size
    population = max(population, 4) if kind in ("vd", "vkd") else population
    assert_goes_on(kind, size, population, generations, fitness)


@pytest.mark.parametrize("kind", sorted({*get_args(Kind)} - {"random"}))
def test_a_search_that_pycma_ended_has_ended_when_it_is_restored(kind: Kind) -> None:
    subject = search(kind)
    while not subject.stop():
        candidates = subject.ask()
        subject.tell(candidates, -np.square(candidates).sum(1))
    restored = search(kind, snapshot=travelled(subject.snapshot()))
    assert restored.stop() == subject.stop()


def test_directions_that_vkd_gains_go_on() -> None:
    subject = search("vkd", 2, 5)
    course(subject, 5)
    assert subject._search.sm.V.shape == (1, 2)  # it begins with none
    assert_goes_on("vkd", 2, 5, 5, "ellipsoid")


@pytest.mark.parametrize("population", [2, 3, 5])
def test_the_mirrored_candidates_of_small_populations_go_on(population: int) -> None:
    # pycma remembers which they were as a range, not a list.
    for generations in (2, 3, 7):
        assert_goes_on("full", 5, population, generations, "steps")


@every_kind
def test_a_snapshot_stays_as_it_is_while_the_search_goes_on(kind: Kind) -> None:
    subject = search(kind)
    course(subject, 5)
    snapshot = subject.snapshot()
    kept = copy.deepcopy(snapshot)
    course(subject, 10)
    other = search(kind, seed=3, snapshot=snapshot)
    course(other, 10)
    assert snapshot.values == kept.values
    assert all(map(np.array_equal, snapshot.arrays, kept.arrays))


@every_kind
def test_taking_a_snapshot_does_not_disturb_the_search(kind: Kind) -> None:
    quiet, watched = search(kind), search(kind)
    for _ in range(8):
        expected = course(quiet, 1)
        assert course(watched, 1) == expected
        watched.snapshot()


@every_kind
def test_a_state_does_not_grow_with_the_search(kind: Kind) -> None:
    subject = search(kind)
    course(subject, 10)
    before = sum(array.size for array in subject.snapshot().arrays)
    course(subject, 50)
    assert sum(array.size for array in subject.snapshot().arrays) < 1.5 * before


@every_kind
def test_a_snapshot_holds_json_and_plain_arrays_only(kind: Kind) -> None:
    subject = search(kind)
    course(subject, 5)
    snapshot = subject.snapshot()
    assert json.loads(json.dumps(snapshot.values)) == snapshot.values
    assert {array.dtype.kind for array in snapshot.arrays} <= set("biuf")
    assert all(array.flags.c_contiguous for array in snapshot.arrays)


def attributes(snapshot: Snapshot, *path: str) -> dict[str, Any]:
    """The attributes of an object of a snapshot, by the names that lead to it."""
    found: dict[str, Any] = snapshot.values["search"]["object"][1]
    for name in path:
        found = found[name]["object"][1]
    return found


@pytest.fixture
def snapshot() -> Snapshot:
    subject = search("full")
    course(subject, 3)
    return travelled(subject.snapshot())


@pytest.mark.parametrize(
    ("name", "said"),
    [("pycma", "names no version"), ("search", "'search'"), ("random", "'random'")],
)
def test_a_snapshot_without_one_of_its_parts_is_refused(
    snapshot: Snapshot, name: str, said: str
) -> None:
    del snapshot.values[name]
    with pytest.raises(InputError, match=f"search state: expected .*{said}"):
        search("full", snapshot=snapshot)


@pytest.mark.parametrize("path", [("sigma",), ("sm", "C")])
def test_a_missing_attribute_is_refused_by_name(
    snapshot: Snapshot, path: tuple[str, ...]
) -> None:
    del attributes(snapshot, *path[:-1])[path[-1]]
    with pytest.raises(InputError, match=f"search state: .* lacks {path[-1]}"):
        search("full", snapshot=snapshot)


def test_an_array_that_is_missing_is_refused(snapshot: Snapshot) -> None:
    snapshot.arrays.pop()
    with pytest.raises(InputError, match=r"search state: .* range"):
        search("full", snapshot=snapshot)


@pytest.mark.parametrize("path", [("mean",), ("pc",), ("sm", "C")])
def test_an_array_of_another_shape_is_refused(
    snapshot: Snapshot, path: tuple[str, ...]
) -> None:
    ((_, number),) = attributes(snapshot, *path[:-1])[path[-1]].items()
    snapshot.arrays[number] = np.zeros(99)
    with pytest.raises(InputError, match=r"search state: .* \(99,\) in place of \(12"):
        search("full", snapshot=snapshot)


def test_messages_name_the_file_of_a_snapshot(snapshot: Snapshot) -> None:
    snapshot.values["pycma"] = "3"
    with pytest.raises(InputError, match=r"^the search state x\.y: expected"):
        search("full", snapshot=replace(snapshot, source="the search state x.y"))


def test_a_snapshot_of_another_pycma_is_refused(snapshot: Snapshot) -> None:
    snapshot.values["pycma"] = "3.2.1"
    with pytest.raises(InputError, match=r"pycma .*, found 3\.2\.1"):
        search("full", snapshot=snapshot)


@pytest.mark.parametrize("name", ["os.system", "pathlib.Path", "cma.no.such"])
def test_only_pycmas_own_classes_are_made(snapshot: Snapshot, name: str) -> None:
    attributes(snapshot)["strange"] = {"object": [name, {}]}
    with pytest.raises(InputError, match=rf"search state: .*{name}, which is none"):
        search("full", snapshot=snapshot)


def test_a_snapshot_of_another_kind_is_refused(snapshot: Snapshot) -> None:
    with pytest.raises(InputError, match="GaussFullSampler in place of"):
        search("separable", snapshot=snapshot)


class Thing:
    """Has state of every sort that a snapshot can hold."""

    def __init__(self, shared: np.ndarray) -> None:
        self.countiter = 3
        self.first = self.second = shared
        self.columns = np.asfortranarray(np.arange(6.0).reshape(2, 3))
        self.scalar = np.float32(0.1)
        self.nothing: float | None = None
        self.infinite = float("inf")
        self.nested: Any = {1: [np.int64(2), (3.5, "four")], "five": deque([6, 7])}
        self.mirrors = range(2, 9, 3)
        self.call = self.__init__  # no state
        self.part: Any = None


Thing.__module__ = "cma"  # as if it were one of pycma's


def test_sorts_of_values_come_back_as_they_were() -> None:
    thing, random = Thing(np.arange(3)), np.random.RandomState(1)
    subject = search("full")
    subject.ask()
    thing.part = subject._search.timer  # another of pycma's, which the other lacks
    thing.part.whole = thing  # met before
    snapshot = travelled(take(thing, random))
    other, other_random = Thing(np.ones(3)), np.random.RandomState(2)
    other.columns, other.nested, other.mirrors = np.zeros((2, 3)), {}, range(0)
    restore(other, other_random, snapshot)
    assert other.first is other.second
    assert other.first.tolist() == [0, 1, 2]
    assert other.columns.flags.f_contiguous
    assert np.array_equal(other.columns, thing.columns)
    assert other.scalar == thing.scalar
    assert type(other.scalar) is np.float32
    assert other.nothing is None
    assert other.infinite == float("inf")
    assert other.nested == thing.nested
    assert type(other.nested[1][0]) is np.int64
    assert type(other.nested[1][1]) is tuple
    assert type(other.nested["five"]) is deque
    assert other.mirrors == thing.mirrors
    assert type(other.part) is type(thing.part)
    assert other.part is not thing.part
    assert other_random.rand() == random.rand()
