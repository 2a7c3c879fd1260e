"""Wiring of the memory stage."""

from kedro.pipeline import Node, Pipeline

from wm_pipeline.pipelines.memory.nodes import (
    score_memory,
    select_memory,
    train_memory,
)


def create_pipeline() -> Pipeline:
    """Latents -> M."""
    return Pipeline(
        [
            Node(
                train_memory,
                inputs=[
                    "latents",
                    "vae",
                    "params:environment",
                    "params:memory",
                    "earlier_mdn_rnn_training",
                ],
                outputs=["mdn_rnn_history", "mdn_rnn_training"],
                name="train_memory",
            ),
            Node(
                select_memory,
                inputs="mdn_rnn_training",
                outputs="mdn_rnn",
                name="select_memory",
            ),
            Node(
                score_memory,
                inputs=["latents", "mdn_rnn", "params:memory"],
                outputs="mdn_rnn_scores",
                name="score_memory",
            ),
        ],
        namespace="memory",
        prefix_datasets_with_namespace=False,
    )
