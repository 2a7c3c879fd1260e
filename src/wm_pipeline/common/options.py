"""The base of every options model: what a parameters file may say."""

import difflib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from types import UnionType
from typing import Annotated, Any, ClassVar, TypeVar, Union, get_args, get_origin

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from wm_pipeline.common.errors import InputError


class Options(BaseModel):
    """Frozen, validated options; an unknown key is an error, not a surprise.

    Neither are infinities and NaN numbers: every comparison with them says no.

    Attributes:
        indifferent: Options on which no result depends, such as numbers of workers.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    indifferent: ClassVar[frozenset[str]] = frozenset()

    def determining(self) -> dict[str, Any]:
        """All options on which results depend, as JSON values."""
        values = self.model_dump(mode="json", exclude=set(self.indifferent))
        for name, value in self:
            if name in values and isinstance(value, Options):
                values[name] = value.determining()
            elif name in values and isinstance(value, dict):
                values[name] |= {
                    key: inner.determining()
                    for key, inner in value.items()
                    if isinstance(inner, Options)
                }
        return values


AnyOptions = TypeVar("AnyOptions", bound=Options)


def _is_a_file(path: str) -> str:
    # pathlib's raises an OSError where a name is too long.
    if not os.path.isfile(path):
        raise ValueError("expected the path of a file that is there")
    return path


File = Annotated[str, Field(min_length=1), AfterValidator(_is_a_file)]
"""A file that is there."""

Seed = Annotated[int, Field(ge=0, lt=2**63)]
"""A stage's seed; tables hold it as 64 bits."""

Workers = Annotated[int, Field(ge=1, le=256)]
"""Worker processes."""

Rollouts = Annotated[int, Field(ge=1, le=10_000)]
"""Dreams a candidate."""

Population = Annotated[int, Field(ge=2, le=10_000)]
"""Candidates a generation."""

Steps = Annotated[int, Field(ge=1, le=1_000_000)]
"""Steps of a game or a dream."""

Temperature = Annotated[float, Field(ge=1e-3, le=1e3)]
"""Of a dream; beyond, its noise leaves float32."""

Sigma = Annotated[float, Field(ge=1e-6, le=1e3)]
"""A standard deviation of parameters; its square is far from float64's ends."""


def _is_a_range(steps: tuple[int, int]) -> tuple[int, int]:
    if not 1 <= steps[0] <= steps[1]:
        raise ValueError(f"expected 1 <= least <= most, found {list(steps)}")
    return steps


StepRange = Annotated[tuple[Steps, Steps], AfterValidator(_is_a_range)]
"""The least and the most of a number of steps, both 1 or more."""


def option_names(kind: Any, value: Any, path: str) -> Iterator[str]:
    """The dotted names of an option and of all that it consists of.

    Args:
        kind: Its type: an options model, a field's annotation.
        value: What a parameters file says; it has the keys of dictionaries and the
            lengths of lists.
        path: Its dotted name.
    """
    if isinstance(kind, type) and issubclass(kind, Options):
        given = value if isinstance(value, dict) else {}
        for name, field in kind.model_fields.items():
            yield f"{path}.{name}"
            yield from option_names(field.annotation, given.get(name), f"{path}.{name}")
    elif get_origin(kind) in (Annotated, Union, UnionType):
        for part in get_args(kind):
            if not _is_other_kind(part, value):
                yield from option_names(part, value, path)
    elif get_origin(kind) is tuple and isinstance(value, list | tuple):
        for place, item in enumerate(value):
            yield from option_names(get_args(kind)[0], item, f"{path}.{place}")
    elif get_origin(kind) is dict and isinstance(value, dict):
        for key, item in value.items():
            yield f"{path}.{key}"
            yield from option_names(get_args(kind)[1], item, f"{path}.{key}")


def option(options: Options, name: str) -> Any:
    """The value of an option, by its dotted name within ``options``.

    Raises:
        KeyError: There is none of that name.
    """
    value: Any = options
    for part in name.split("."):
        value = _inner(dict(value) if isinstance(value, Options) else value, part)
    return value


def with_options(options: AnyOptions, values: Mapping[str, Any]) -> AnyOptions:
    """The options with some of them changed.

    Args:
        options: All of them.
        values: Of those that change, by their dotted names within ``options``.

    Raises:
        KeyError: There is no option of a name.
        ValidationError: A value is refused.
    """
    tree = options.model_dump()
    for name, value in values.items():
        *path, last = name.split(".")
        inner: Any = tree
        for part in path:
            inner = _inner(inner, part)
        if not isinstance(inner, dict) or last not in inner:
            raise KeyError(name)
        inner[last] = value
    return type(options).model_validate(tree)


def _inner(value: Any, part: str) -> Any:
    """What has a name in a dictionary, or options with a place in a list.

    Raises:
        KeyError: There is none.
    """
    if isinstance(value, list | tuple):
        value = {
            str(n): v for n, v in enumerate(value) if isinstance(v, Options | dict)
        }
    return (value if isinstance(value, dict) else {})[part]


def _is_other_kind(kind: Any, value: Any) -> bool:
    """Whether a value with a ``kind`` is of another one, as action mappings are."""
    if not (isinstance(value, dict) and isinstance(kind, type)):
        return False
    field = getattr(kind, "model_fields", {}).get("kind")
    return field is not None and value.get("kind") not in get_args(field.annotation)


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """``"; did you mean NAME?"`` of the name that comes nearest, or ``""``."""
    known = list(names)
    ends = {each.rsplit(".", 1)[-1]: each for each in known}
    # A last part that is right says more than a path that is long.
    near = difflib.get_close_matches(name, known, 1) or [
        ends[end]
        for end in difflib.get_close_matches(name.rsplit(".", 1)[-1], list(ends), 1)
    ]
    return f"; did you mean {near[0]}?" if near else ""


def leaves(tree: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """The values in nested dictionaries by their dotted names; one that is empty is one.

    Args:
        tree: The outermost dictionary.
        path: Its own dotted name.
    """
    found: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{path}.{key}" if path else str(key)
        is_inner = isinstance(value, dict) and value
        found |= leaves(value, name) if is_inner else {name: value}
    return found


def check_same(what: str, written: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Refuse to resume what was written under other options.

    Args:
        what: It, behind the option that resumes it.
        written: The options it was written under, as JSON values.
        wanted: The present ones.

    Raises:
        InputError: They differ; with every difference.
    """
    theirs, ours = _flat(written), _flat(wanted)
    differing = [
        f"{name}: it has {theirs.get(name)}, the options {ours.get(name)}"
        for name in sorted(ours.keys() | theirs.keys())
        if ours.get(name) != theirs.get(name)
    ]
    if differing:
        raise InputError(
            f"{what} was written under other options. {'; '.join(differing)}"
        )


def _flat(tree: Mapping[str, Any]) -> dict[str, str]:
    """The leaves of nested dictionaries by their dotted names, as JSON texts."""
    found = leaves(tree).items()
    return {name: json.dumps(value) for name, value in found if value != {}}
