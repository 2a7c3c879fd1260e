"""Wiring of the tune stage."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from kedro.pipeline import Node, Pipeline

from wm_pipeline.pipelines.tune.nodes import tune
from wm_pipeline.search.chain import Chain
from wm_pipeline.search.tuning_options import TuneOptions


def create_pipeline(
    chain: Chain | None = None, reads: Collection[str] = ()
) -> Pipeline:
    """What the tuned options change, down to C -> the options that win.

    Args:
        chain: The nodes that they change, as ``project/wiring.py`` finds them.
        reads: The names of what these and the judge read.
    """
    changed = chain or Chain()

    def tune_options(
        options: TuneOptions, storage: Path, **inputs: Any
    ) -> tuple[pd.DataFrame, go.Figure, go.Figure, str]:
        return tune(changed, options, storage, inputs)

    return Pipeline(
        [
            Node(
                tune_options,
                inputs={
                    "options": "params:tune",
                    "storage": "tune_storage",
                    **{name: name for name in reads},
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
