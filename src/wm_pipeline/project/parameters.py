"""Whether the parameters are right: all of them, also those of stages not run."""

import functools
import itertools
from collections.abc import Container, Iterator, Mapping
from importlib import import_module
from typing import Any

import torch
from kedro.validation.type_extractor import TypeExtractor
from pydantic import ValidationError

from wm_pipeline.common.errors import InputError
from wm_pipeline.common.options import (
    did_you_mean,
    option,
    option_names,
    with_options,
)
from wm_pipeline.models.controller import Controller
from wm_pipeline.project.stages import known_stages
from wm_pipeline.search.chain import PARAMS, changed_options, overlap
from wm_pipeline.search.strategies import check_size

SHARED = ("seed",)
"""Parameters that no stage reads, but that others refer to."""


@functools.cache
def option_groups() -> dict[str, Any]:
    """The options models of all stages by the parameter that each is."""
    stages = {
        stage: import_module(f"wm_pipeline.pipelines.{stage}").create_pipeline()
        for stage in known_stages()
    }
    # Kedro types them as any class.
    return TypeExtractor(stages).extract_types_from_pipelines()


def check_parameters(
    parameters: Mapping[str, Any],
    asked: Mapping[str, Any],
    stages: list[str],
    references: Mapping[str, str],
    read: Mapping[str, Container[str]],
) -> None:
    """Refuse parameters that a stage would, or that no stage would ever read.

    Args:
        parameters: As the conf files and ``--params`` have them.
        asked: Those of ``--params``.
        stages: That the conf environment names.
        references: Which parameters take another's value; see ``Chain``.
        read: Of ``tune`` and ``ablation``, as far as they are asked for, the names of
            what they read: in their runs there are no other options.

    Raises:
        InputError: With a sentence for each.
    """
    wrong = list(dict.fromkeys([*_unknown(parameters, asked), *_refused(parameters)]))
    wrong = wrong or list(_refused_in_runs(parameters, references, read))
    if wrong:
        raise InputError("\n".join(wrong))
    _check_together(parameters, stages)


def known_names(parameters: Mapping[str, Any]) -> list[str]:
    """The dotted names of all options; ``parameters`` have the keys and lengths."""
    names = [*SHARED, *option_groups()]
    for group, model in option_groups().items():
        names += option_names(model, parameters.get(group), group)
    return list(dict.fromkeys(names))


def _unknown(parameters: Mapping[str, Any], asked: Mapping[str, Any]) -> Iterator[str]:
    """A sentence for each parameter that belongs to no group of options."""
    for name, value in parameters.items():
        # A conf file may keep values under such a name, for itself to refer to.
        is_for_conf = str(name).startswith("_") and name not in asked
        if name not in {*SHARED, *option_groups()} and not is_for_conf:
            if name in known_names(parameters):
                group, _, rest = name.partition(".")
                yield (
                    f"{name}: expected `{group}` with `{rest}` in it, found a name with "
                    "dots. These are for the command line; a session's runtime_params "
                    "are nested as in the conf files."
                )
            else:
                yield _no_option(_inner(str(name), value), parameters)


def _inner(name: str, value: Any) -> str:
    """What ``--params`` calls it: the path down to where there is more than one."""
    while isinstance(value, dict) and len(value) == 1:
        ((key, value),) = value.items()
        name = f"{name}.{key}"
    return name


def _no_option(name: str, parameters: Mapping[str, Any]) -> str:
    hint = did_you_mean(name, known_names(parameters))
    return f"{name} is no option{hint or '.'}"


def _refused(parameters: Mapping[str, Any]) -> Iterator[str]:
    """A sentence for each option that its model refuses."""
    for group, model in option_groups().items():
        if group not in parameters:
            yield f"{group}: expected these options, found none in the conf files."
            continue
        try:
            model.model_validate(parameters[group])
        except ValidationError as report:
            found_wrong = report.errors(include_url=False)
            for wrong in found_wrong:
                if _of_auto(wrong) and len(found_wrong) > 1:
                    continue  # the game was not asked, as another option is wrong
                name = ".".join((group, *map(str, _place(parameters[group], wrong))))
                if wrong["type"] == "extra_forbidden":
                    yield _no_option(_inner(name, wrong["input"]), parameters)
                    continue
                said = wrong["msg"].removeprefix("Value error, ")
                if said.startswith("environment."):  # what the game said: a sentence
                    yield f"{said}."
                    continue
                rule = _short(said, 300)
                # A rule of several options together names what it found.
                found = f"; found {_short(repr(wrong['input']), 80)}"
                yield f"{name}: {rule}{'' if isinstance(wrong['input'], dict) else found}."


def _of_auto(wrong: Mapping[str, Any]) -> bool:
    """Whether an error is of ``environment.actions: auto``, which the game did not say."""
    is_auto = wrong["loc"] == ("actions",) and wrong["input"] == "auto"
    return is_auto and wrong["type"] != "value_error"


def _refused_in_runs(
    parameters: Mapping[str, Any],
    references: Mapping[str, str],
    read: Mapping[str, Container[str]],
) -> Iterator[str]:
    """A sentence for each value that a trial or a variant would set and may not."""
    groups = {name: option_groups()[name] for name in ("tune", "ablation")}
    tuned, compared = (
        model.model_validate(parameters[name]) for name, model in groups.items()
    )
    reached = {
        stage: {
            group: model.model_validate(parameters[group])
            for group, model in option_groups().items()
            if PARAMS + group in read.get(stage, ())
        }
        for stage in groups
    }
    untuned = {
        name: other
        for name, other in references.items()
        if not any(overlap(name, each) for each in tuned.ranges)
    }
    for name, values in tuned.ranges.items():
        for value in values.values:
            wrong = _refused_changes(
                "tune.space", {name: value}, parameters, reached["tune"], untuned
            )
            yield from wrong
            if wrong:
                break
        else:
            group, path = name.split(".", 1)
            options = option_groups()[group].model_validate(parameters[group])
            found = option(options, path)
            if values.choices is None and isinstance(found, bool | str):
                yield f"tune.space.{name}: expected choices, found two ends."
            for each in itertools.accumulate(path.split(".")[:-1], "{}.{}".format):
                if isinstance(option(options, each), list | tuple):
                    yield (
                        f"tune.space.{name}: expected choices of the whole list "
                        f"{group}.{each}, as conf files have no parts of one."
                    )
    for variant, changes in compared.variants.items():
        where = f"ablation.variants.{variant}"
        yield from _refused_changes(
            where, changes, parameters, reached["ablation"], references
        )


def _refused_changes(
    where: str,
    values: Mapping[str, Any],
    parameters: Mapping[str, Any],
    reached: Mapping[str, Any],
    references: Mapping[str, str],
) -> list[str]:
    """A sentence for each of some options that is refused, or is where another takes it."""
    wrong = list(_refused_values(where, values, parameters))
    if not wrong:
        try:
            changed_options(reached, values, references)
        except InputError as error:
            wrong.append(f"{where}: {error}.")
    return wrong


def _refused_values(
    where: str, values: Mapping[str, Any], parameters: Mapping[str, Any]
) -> Iterator[str]:
    """A sentence for each of some options, set together, that is none or refused."""
    by_group: dict[str, dict[str, Any]] = {}
    for name, value in values.items():
        group, _, path = name.partition(".")
        if not path:
            yield (
                f"{where}: expected options of stages, such as controller.seed, found "
                f"{name}."
            )
            continue
        try:
            options = option_groups()[group].model_validate(parameters[group])
            option(options, path)
        except KeyError:
            yield f"{where}: {_no_option(name, parameters)}"
        else:
            by_group.setdefault(group, {})[path] = value
    for group, changes in by_group.items():
        options = option_groups()[group].model_validate(parameters[group])
        try:
            with_options(options, changes)
        except ValidationError as report:
            for wrong in report.errors(include_url=False):
                name = ".".join((group, *map(str, wrong["loc"])))
                rule = _short(wrong["msg"].removeprefix("Value error, "), 300)
                found = _short(repr(list(changes.values())), 80)
                yield f"{where}.{name}: {rule}; found {found}."


def _place(value: Any, wrong: Mapping[str, Any]) -> Iterator[Any]:
    """Where an option is; pydantic's paths hold the kind of a union's member, too."""
    for step in wrong["loc"]:
        if isinstance(value, dict) and step not in value:
            if step == value.get("kind"):
                continue
            value = None
        elif isinstance(value, dict) or (
            isinstance(value, list | tuple)
            and isinstance(step, int)
            and step < len(value)
        ):
            value = value[step]
        yield step


def _short(said: str, most: int) -> str:
    """At a length that a sentence bears."""
    return said if len(said) <= most else f"{said[: most - 3]}..."


def _check_together(parameters: Mapping[str, Any], stages: list[str]) -> None:
    """Refuse what is right alone but not together, where a run makes V, M and C.

    Elsewhere the sizes are those of the checkpoints, and the stages look at them.
    """
    if {"collection", "memory"} <= set(stages):
        environment, memory = (
            option_groups()[group].model_validate(parameters[group])
            for group in ("environment", "memory")
        )
        if memory.model.frame_skip >= environment.max_steps:
            raise InputError(
                "memory.model.frame_skip: expected less than the steps of the longest "
                f"episode (environment.max_steps, {environment.max_steps}), found "
                f"{memory.model.frame_skip}."
            )
    if not {"vision", "memory", "controller"} <= set(stages):
        return
    names = ("environment", "vision", "memory", "dream", "controller")
    environment, vision, memory, dream, controller = (
        option_groups()[name].model_validate(parameters[name]) for name in names
    )
    dream.steps(memory.model.frame_skip)
    with torch.device("meta"):  # it takes no memory there
        size = Controller(
            controller.model,
            vision.model.latent_size,
            memory.model.hidden_size,
            environment.actions.outputs,
        ).size
    check_size(controller.evolution.strategy.kind, size)
