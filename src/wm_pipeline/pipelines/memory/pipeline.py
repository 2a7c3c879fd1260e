"""Wiring of the memory stage."""

from kedro.pipeline import Node, Pipeline

from wm_pipeline.pipelines.memory.nodes import train_memory


def create_pipeline() -> Pipeline:
    """Latents -> M."""
    return Pipeline(
        [
            Node(
                train_memory,
                inputs=["latents", "vae", "params:environment", "params:memory"],
                outputs=["mdn_rnn", "mdn_rnn_history", "mdn_rnn_scores"],
                name="train_memory",
            )
        ],
        namespace="memory",
        prefix_datasets_with_namespace=False,
    )
