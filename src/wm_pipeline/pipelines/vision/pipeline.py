"""Wiring of the vision stage."""

from kedro.pipeline import Node, Pipeline

from wm_pipeline.pipelines.vision.nodes import (
    encode_episodes,
    score_vision,
    select_vision,
    train_vision,
)


def create_pipeline() -> Pipeline:
    """Episodes -> V and latents."""
    return Pipeline(
        [
            Node(
                train_vision,
                inputs=["episodes", "params:vision", "earlier_vae_training"],
                outputs=["vae_history", "vae_training"],
                name="train_vision",
            ),
            Node(
                select_vision,
                inputs="vae_training",
                outputs="vae",
                name="select_vision",
            ),
            Node(
                encode_episodes,
                inputs=["episodes", "vae", "params:vision"],
                outputs="latents",
                name="encode_episodes",
            ),
            Node(
                score_vision,
                inputs=["episodes", "latents", "vae", "params:vision"],
                outputs=["vae_scores", "vae_recall", "reconstructions"],
                name="score_vision",
            ),
        ],
        namespace="vision",
        prefix_datasets_with_namespace=False,
    )
