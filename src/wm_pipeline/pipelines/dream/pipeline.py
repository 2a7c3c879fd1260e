"""Wiring of the dream stage."""

from kedro.pipeline import Node, Pipeline

from wm_pipeline.pipelines.dream.nodes import (
    animate_dream,
    check_dream,
    load_world_model,
    measure_dream,
    measure_sweeps,
)


def create_pipeline() -> Pipeline:
    """V, M and latents -> world model, and a look at its dreams."""
    dream_options = ["params:environment", "params:dream", "params:dream_check"]
    return Pipeline(
        [
            Node(
                load_world_model,
                inputs=["vae", "mdn_rnn", "latents", *dream_options[:2]],
                outputs="world_model",
                name="load_world_model",
            ),
            Node(
                check_dream,
                inputs=["world_model", "latents", *dream_options],
                outputs="dream_scores",
                name="check_dream",
            ),
            Node(
                measure_dream,
                inputs=[
                    "world_model",
                    "blind_policies",
                    "params:environment",
                    "params:engine",
                    *dream_options[1:],
                ],
                outputs=["dream_fidelity", "dream_fidelity_figure"],
                name="measure_dream",
            ),
            Node(
                measure_sweeps,
                inputs=["world_model", "blind_policies", *dream_options[1:]],
                outputs=["dream_sweeps", "dream_sweeps_figure"],
                name="measure_sweeps",
            ),
            Node(
                animate_dream,
                inputs=["world_model", *dream_options],
                outputs="dreamed_episode",
                name="animate_dream",
            ),
        ],
        namespace="dream",
        prefix_datasets_with_namespace=False,
    )
