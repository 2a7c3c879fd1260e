"""Wiring of the vision stage."""

from kedro.pipeline import Node, Pipeline

from wm_pipeline.pipelines.vision.nodes import (
    encode_episodes,
    score_vision,
    train_vision,
)


def create_pipeline() -> Pipeline:
    """Episodes -> V and latents."""
    return Pipeline(
        [
            Node(
                train_vision,
                inputs=["episodes", "params:vision"],
                outputs=["vae", "vae_history"],
                name="train_vision",
            ),
            Node(
                score_vision,
                inputs=["episodes", "vae", "params:vision"],
                outputs=["vae_scores", "reconstructions"],
                name="score_vision",
            ),
            Node(
                encode_episodes,
                inputs=["episodes", "vae"],
                outputs="latents",
                name="encode_episodes",
            ),
        ],
        namespace="vision",
        prefix_datasets_with_namespace=False,
    )
