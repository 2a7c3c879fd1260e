"""Search over options: each trial is judged by the C that they give."""

import importlib.util
import json
import logging
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import torch
import yaml

from wm_pipeline.common.errors import InputError
from wm_pipeline.common.numbers import rounded
from wm_pipeline.common.options import Options, option, with_options
from wm_pipeline.episodes.shards import EpisodeShards
from wm_pipeline.models.world_model import digest
from wm_pipeline.pipelines.tune.trials import PARAMS, Chain, ChainTrial, alone
from wm_pipeline.search.tuning_options import TuneOptions

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
    if importlib.util.find_spec("optuna") is None:
        raise InputError("tune: it needs Optuna: pip install 'wm-pipeline[tune]'")
    tuning = import_module("wm_pipeline.search.tuning")
    _check(chain, options, inputs)
    space = {}
    for name, values in options.ranges.items():
        group, path = name.split(".", 1)
        changed = with_options(inputs[PARAMS + group], {path: values.values[0]})
        is_whole = isinstance(option(changed, path), int)
        space[name] = tuning.distribution(values, is_whole)
    study = tuning.Study(storage, options, space, _conditions(chain, inputs))
    engine = inputs[f"{PARAMS}engine"]
    study.run(engine, ChainTrial, chain, inputs, options)
    number, report, values = study.best()
    value, error = rounded(report.value, report.error)
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


def _check(chain: Chain, options: TuneOptions, inputs: Mapping[str, Any]) -> None:
    """Refuse what a study could not judge.

    Raises:
        InputError: It is so.
    """
    read = {name for node in chain.nodes for name in node.inputs}
    for name in options.ranges:
        if PARAMS + name.split(".", 1)[0] not in read:
            raise InputError(
                f"tune.space: expected options on which C depends, found {name}: no stage "
                "down to the controller reads it"
            )
    made = {name for node in chain.nodes for name in node.outputs}
    # Joining V and M, which remembers the dream's options, changes no dream.
    trained = {"vae", "mdn_rnn", chain.world_model} - {"world_model"}
    if options.objective.world == "dream" and made & trained:
        raise InputError(
            "tune.objective.world: expected real, as options of the world model are tuned "
            "(an easier dream would win), found dream"
        )


def _conditions(chain: Chain, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """What a trial's value depends on beside the study's own options, as JSON values."""
    conditions: dict[str, Any] = {"nodes": [node.name for node in chain.nodes]}
    for name, value in inputs.items():
        if isinstance(value, Options):
            # What a trial changes by itself does not count.
            conditions[name] = alone(value).determining()
        elif isinstance(value, torch.nn.Module):
            conditions[name] = digest(value)
        elif isinstance(value, EpisodeShards):
            conditions[name] = value.digest
        elif not callable(value):
            conditions[name] = value
    return conditions


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
