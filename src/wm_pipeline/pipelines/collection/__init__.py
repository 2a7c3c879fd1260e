"""The collection stage."""

from wm_pipeline.pipelines.collection.pipeline import create_pipeline

__all__ = ["create_pipeline"]
