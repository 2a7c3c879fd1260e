"""C trained on in the game itself, by its gradient."""

from wm_pipeline.pipelines.finetune.pipeline import create_pipeline

__all__ = ["create_pipeline"]
