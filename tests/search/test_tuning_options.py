"""What a study may search over: ranges, trees of names, and what is refused."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from wm_pipeline.search.tuning_options import RangeOptions, TuneOptions


def tuned(space: Any, **changes: Any) -> TuneOptions:
    return TuneOptions.model_validate(
        {"seed": 1, "trials": 4, "space": space, **changes}
    )


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"low": 2, "high": 1}, "expected low below high, found 2 and 1"),
        ({"low": 1.0, "high": 1.0}, "expected low below high, found 1.0 and 1.0"),
        ({"low": 0, "high": 1, "log": True}, "expected low above 0, as log is true, found 0"),
        ({"low": -1, "high": 1, "log": True}, "expected low above 0"),
        ({"low": 1}, "expected low and high, or choices"),
        ({}, "expected low and high, or choices"),
        ({"low": 1, "high": 2, "choices": [1, 2]}, "or choices, found both"),
        ({"log": True, "choices": [1, 2]}, "or choices, found both"),
        ({"choices": [[1], [2], [1]]}, "choices: expected each once, found [[1], [2], [1]]"),
        ({"choices": [1]}, "at least 2 items"),
        ({"from": 1, "to": 2}, "Extra inputs"),
    ],
)  # fmt: skip
def test_a_bad_range_is_refused(values: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValidationError) as refused:
        RangeOptions.model_validate(values)
    assert expected in str(refused.value)


def test_a_study_is_of_some_option() -> None:
    with pytest.raises(ValidationError, match="expected options to tune, found none"):
        tuned({"a.b": None})


def test_pruning_looks_at_no_more_episodes_than_the_objective() -> None:
    with pytest.raises(ValidationError, match="at most the objective's 10, found 11"):
        tuned(
            {"a.b": {"low": 1, "high": 2}},
            objective={"episodes": 10},
            pruning={"episodes": 11},
        )


def test_the_command_line_changes_a_range_of_the_conf_files() -> None:
    space = {
        "a.low": {"low": 1, "high": 2, "log": True},
        "c.d": {"choices": [1, 2]},
        "a": {"low": {"high": 3}},
        "c": {"d": None},
    }
    assert tuned(space).ranges == {"a.low": RangeOptions(low=1, high=3, log=True)}


names = st.sampled_from(["a", "b", "low", "log"])


@given(st.sets(st.lists(names, min_size=1, max_size=3).map(tuple), min_size=1))
def test_a_tree_of_names_is_the_same_space_as_dotted_names(
    paths: set[tuple[str, ...]],
) -> None:
    # No option is both a value and a group of others.
    leaves = {p for p in paths if not any(q[: len(p)] == p and q != p for q in paths)}
    one = {"low": 1, "high": 2}
    tree: dict[str, Any] = {}
    for path in leaves:
        inner = tree
        for part in path[:-1]:
            inner = inner.setdefault(part, {})
        inner[path[-1]] = one
    dotted = {".".join(path): one for path in leaves}
    assert tuned(tree).ranges == tuned(dotted).ranges
