"""Search over options: each trial is judged by the C that they give."""

import json
import logging
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import yaml

from wm_pipeline.common.errors import InputError
from wm_pipeline.common.extras import check_installed
from wm_pipeline.common.numbers import rounded
from wm_pipeline.common.options import option, with_options
from wm_pipeline.search.chain import OF_C, PARAMS, Chain, ChainRuns, Judge
from wm_pipeline.search.tuning_options import RangeOptions, TuneOptions

logger = logging.getLogger(__name__)


def tune(
    chain: Chain, options: TuneOptions, storage: Path, inputs: Mapping[str, Any]
) -> tuple[pd.DataFrame, go.Figure, go.Figure, str]:
    """Run the trials that a study lacks.

    Args:
        chain: From the nodes that the tuned options change down to C.
        options: What is tuned.
        storage: Where studies are kept.
        inputs: What the chain and the judge read, by their names in the catalog.

    Returns:
        A row a trial, see ``Study.trials``; figures of the values, one after the other,
        and of how much each option decides on them; the options that won, as a conf file.

    Raises:
        InputError: Optuna is missing, an option changes nothing, or trials fail.
    """
    check_installed("tune: it", "tune", "optuna")
    tuning = import_module("wm_pipeline.search.tuning")
    ranges = _judged(chain, options)
    space = {}
    for name, values in ranges.items():
        group, path = name.split(".", 1)
        changed = with_options(inputs[PARAMS + group], {path: values.values[0]})
        is_whole = isinstance(option(changed, path), int)
        space[name] = tuning.distribution(values, is_whole)
    conditions = chain.conditions(inputs, space)
    study = tuning.Study(storage, options, space, conditions)
    judge = Judge(
        options.seed,
        "validation",
        options.objective.world,
        options.objective.episodes,
        options.sample_latents,
    )
    study.run(inputs[f"{PARAMS}engine"], ChainRuns, chain, inputs, judge)
    number, score, values = study.best()
    value, error = rounded(score["value"], score["error"])
    world = "games" if options.objective.world == "real" else "dreams"
    logger.info(
        "Of %d trials the best is %d: %s ± %s in %d validation %s, with %s",
        *(study.ended, number, value, error, options.objective.episodes, world),
        ", ".join(f"{name}={_short(each)}" for name, each in values.items()),
    )
    said = (
        f"# Trial {number} of {study.ended} of the study {study.name}: C scores {value} ± "
        f"{error} (standard error) in\n# {options.objective.episodes} validation {world}. "
        "It was chosen by them: what it is worth, an evaluation says.\n# Copy this file to "
        "conf/NAME/parameters.yml, and run: kedro run --env NAME. Where another conf\n"
        "# environment was tuned, it belongs into that one's parameters.yml.\n"
    )
    conf = yaml.safe_dump(_as_conf(values), sort_keys=False)
    return study.trials(), study.history(), study.importances(), said + conf


def _judged(chain: Chain, options: TuneOptions) -> dict[str, RangeOptions]:
    """What is tuned: all of the space, but for what makes a C that is not this chain's.

    Raises:
        InputError: A study could not judge it.
    """
    others = {*OF_C} - chain.groups
    ranges = {
        name: values
        for name, values in options.ranges.items()
        if name.split(".")[0] not in others
    }
    if left_out := sorted(options.ranges.keys() - ranges.keys()):
        logger.info(
            "tune.space: %s left out, as another stage makes C", ", ".join(left_out)
        )
    for name in ranges or options.ranges:
        chain.check("tune.space", name)
    if options.objective.world == "dream" and chain.trains_the_world:
        raise InputError(
            "tune.objective.world: expected real, as options of the world model are tuned "
            "(an easier dream would win), found dream"
        )
    return ranges


def _as_conf(values: Mapping[str, Any]) -> dict[str, Any]:
    """Options by their dotted names as the tree that a conf file has."""
    tree: dict[str, Any] = {}
    for name, value in values.items():
        *path, last = name.split(".")
        inner = tree
        for part in path:
            inner = inner.setdefault(part, {})
        inner[last] = value
    return tree


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else json.dumps(value)
