"""Values at and beyond the ends of every option's range, made from the options models.

Tests give them to a run, one at a time: each is refused with a sentence or works.
"""

import math
import random
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import yaml

from tests.kedro_runs import ROOT
from wm_pipeline.project.conf import ConfLoader
from wm_pipeline.project.parameters import option_groups

JUNK = (
    *("text", "", [1, "x"], [], None, {"a": 1}, True),
    *(10**30, -(10**30), -1, 0, 0.5, math.inf, -math.inf, math.nan, "1" * 5000),
)
"""Given to every option; for some it is right."""

NOT_FINITE = (math.inf, -math.inf, math.nan)


class Case(NamedTuple):
    """A value for an option.

    Attributes:
        name: The option's dotted name.
        value: It.
        within: Whether the option's own range has it; None where that is not said.
    """

    name: str
    value: Any
    within: bool | None

    @property
    def text(self) -> str:
        """The value as a conf file takes it, on one line.

        ``--params`` does, too, where it has no comma, at which Kedro cuts.
        """
        said = yaml.safe_dump(self.value, default_flow_style=True, width=math.inf)
        return said.removesuffix("\n...\n").strip()


def option_cases(seed: int) -> list[Case]:
    """Cases of all options of ``conf/base``, in an order of their own.

    Args:
        seed: Of the order.
    """
    cases = list(all_cases(base_parameters()))
    random.Random(seed).shuffle(cases)
    return cases


def base_parameters() -> dict[str, Any]:
    """The parameters of ``conf/base``."""
    return ConfLoader(str(ROOT / "conf"), "base", base_env="base")["parameters"]


def all_cases(parameters: Mapping[str, Any]) -> Iterator[Case]:
    """The cases of all options, stage by stage; of like ones in a group, the first."""
    seen = set()
    for group, model in option_groups().items():
        schema = model.model_json_schema()
        found = _Walk(schema.get("$defs", {}))
        for name, value, within in found.cases(group, schema, parameters[group]):
            if (name, repr(value)) not in seen:
                seen.add((name, repr(value)))
                yield Case(name, value, within)


class _Walk:
    """Through a JSON schema, and the values that a parameters file has."""

    def __init__(self, definitions: Mapping[str, Any]) -> None:
        self._definitions = definitions

    def cases(
        self, name: str, schema: Mapping[str, Any], value: Any
    ) -> Iterator[tuple[str, Any, bool | None]]:
        """The cases of an option and of all that it consists of."""
        parts = self._parts(schema, value)
        for junk in JUNK:
            refused = isinstance(junk, float) and not math.isfinite(junk)
            yield name, junk, False if refused and not _is_free(parts) else None
        for part in parts:
            yield from ((name, v, within) for v, within in _ends(part))
            if part.get("type") == "array":
                yield from self._items(name, part, value)
            elif "properties" in part:
                given = value if isinstance(value, dict) else {}
                for key, inner in part["properties"].items():
                    yield from self.cases(f"{name}.{key}", inner, given.get(key))
            elif value and isinstance(part.get("additionalProperties"), dict):
                key, item = next(iter(value.items()))
                inner = part["additionalProperties"]
                yield from self.cases(f"{name}.{key}", inner, item)

    def _parts(self, schema: Mapping[str, Any], value: Any) -> list[Mapping[str, Any]]:
        """What a schema is a choice between, references looked up."""
        if "$ref" in schema:
            name = schema["$ref"].rsplit("/", 1)[-1]
            return self._parts(self._definitions[name], value)
        if "oneOf" in schema:  # told apart by their kind
            inner = schema["discriminator"]["mapping"][value["kind"]]
            return self._parts({"$ref": inner}, value)
        if "anyOf" in schema:
            return [p for inner in schema["anyOf"] for p in self._parts(inner, value)]
        return [schema]

    def _items(
        self, name: str, schema: Mapping[str, Any], value: Any
    ) -> Iterator[tuple[str, Any, bool | None]]:
        """Lists with another first item: ``--params`` replaces lists as a whole."""
        item = schema["items"] if "items" in schema else schema["prefixItems"][0]
        first = {} if "$ref" in item else [1, 1] if item.get("type") == "array" else 1
        given = list(value or [first])
        for inner, other, within in self.cases("", item, given[0]):
            changed = _changed(given[0], inner.split(".")[1:], other)
            # An item at its end may not go with the others.
            yield name, [changed, *given[1:]], False if within is False else None
        if "maxItems" in schema:
            yield name, given[:1] * (schema["maxItems"] + 1), False


def _changed(value: Any, path: list[str], other: Any) -> Any:
    if not path:
        return other
    inner = _changed(value.get(path[0]), path[1:], other)
    return {**value, path[0]: inner}


def _is_free(parts: list[Mapping[str, Any]]) -> bool:
    """Whether an option takes anything, as keywords for a game do."""
    return any(part.get("additionalProperties") is True for part in parts)


def _ends(part: Mapping[str, Any]) -> Iterator[tuple[Any, bool]]:
    """The ends of a range, and what is just beyond."""
    if "enum" in part or "const" in part:
        yield from ((value, True) for value in part.get("enum", [part.get("const")]))
    elif part.get("type") in ("integer", "number"):
        up, down = _next(part["type"], 1), _next(part["type"], -1)
        for end, inwards, outwards in (("inimum", up, down), ("aximum", down, up)):
            if (last := part.get(f"m{end}")) is not None:
                yield from ((last, True), (outwards(last), False))
            elif (beyond := part.get(f"exclusiveM{end}")) is not None:
                yield from ((inwards(beyond), True), (beyond, False))
    elif part.get("type") == "boolean":
        yield from ((True, True), (False, True))


def _next(kind: str, sign: int) -> Any:
    """To the next number in a direction."""
    if kind == "integer":
        return lambda value: int(value) + sign
    return lambda value: math.nextafter(value, sign * math.inf)
