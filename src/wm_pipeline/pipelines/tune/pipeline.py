"""Wiring of the tune stage."""

from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from kedro.pipeline import Node, Pipeline

from wm_pipeline.pipelines.tune.nodes import tune
from wm_pipeline.pipelines.tune.trials import PARAMS, Chain
from wm_pipeline.search.tuning_options import TuneOptions

ALWAYS = ("params:environment", "params:engine", "params:dream", "params:controller")
"""What a trial or its judge reads in any case."""


def create_pipeline(
    stages: Pipeline | None = None,
    groups: frozenset[str] = frozenset(),
    world_model: str = "world_model",
    controller: str = "controller",
) -> Pipeline:
    """What the tuned options change, down to C -> the options that win.

    Args:
        stages: Those that make C.
        groups: The parameters to which the tuned options belong.
        world_model: The name of the world model of which C is.
        controller: C's name.
    """
    changed = _between(stages or Pipeline([]), groups, controller)
    chain = Chain(tuple(changed.nodes), world_model, controller)
    names = {*changed.inputs(), *ALWAYS, world_model}

    def tune_options(
        options: TuneOptions, storage: Path, **inputs: Any
    ) -> tuple[pd.DataFrame, go.Figure, go.Figure, str]:
        return tune(chain, options, storage, inputs)

    return Pipeline(
        [
            Node(
                tune_options,
                inputs={
                    "options": "params:tune",
                    "storage": "tune_storage",
                    **{name: name for name in sorted(names)},
                },
                outputs=[
                    "tune_trials",
                    "tune_history",
                    "tune_importances",
                    "tuned_parameters",
                ],
                name="tune_options",
                tags="timed",
            )
        ],
        namespace="tune",
        prefix_datasets_with_namespace=False,
    )


def _between(stages: Pipeline, groups: frozenset[str], controller: str) -> Pipeline:
    """The nodes that the options change, down to C."""
    if controller not in stages.all_outputs():
        return Pipeline([])
    down = stages.to_outputs(controller)
    reading = [
        node.name
        for node in down.nodes
        if any(PARAMS + group in node.inputs for group in groups)
    ]
    return down.from_nodes(*reading) if reading else Pipeline([])
