"""The compare stage."""

from wm_pipeline.pipelines.compare.pipeline import create_pipeline

__all__ = ["create_pipeline"]
