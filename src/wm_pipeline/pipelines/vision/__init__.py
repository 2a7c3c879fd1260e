"""The vision stage."""

from wm_pipeline.pipelines.vision.pipeline import create_pipeline

__all__ = ["create_pipeline"]
