"""Wiring of the ablation stage."""

from collections.abc import Callable, Collection, Iterator
from typing import Any

import pandas as pd
from kedro.pipeline import Node, Pipeline

from wm_pipeline.pipelines.ablation.nodes import compare_variants, run_ablation
from wm_pipeline.search.ablation import AblationOptions
from wm_pipeline.search.chain import Chain


def create_pipeline(
    chain: Chain | None = None, reads: Collection[str] = ()
) -> Pipeline:
    """What the variants change, down to C -> their scores in the same games.

    Args:
        chain: The nodes that they change, as ``project/wiring.py`` finds them.
        reads: The names of what these and the judge read.
    """
    changed = chain or Chain()

    def run_variants(
        options: AblationOptions,
        earlier: Callable[[], pd.DataFrame | None],
        **inputs: Any,
    ) -> Iterator[pd.DataFrame]:
        yield from run_ablation(changed, options, earlier, inputs)

    return Pipeline(
        [
            Node(
                run_variants,
                inputs={
                    "options": "params:ablation",
                    "earlier": "earlier_ablation_episodes",
                    **{name: name for name in reads},
                },
                outputs="ablation_episodes",
                name="run_variants",
                tags="timed",
            ),
            Node(
                compare_variants,
                inputs=["ablation_episodes", "params:ablation"],
                outputs=["ablation", "ablation_figure"],
                name="compare_variants",
            ),
        ],
        namespace="ablation",
        prefix_datasets_with_namespace=False,
    )
