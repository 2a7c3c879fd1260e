"""The export stage."""

from wm_pipeline.pipelines.export.pipeline import create_pipeline

__all__ = ["create_pipeline"]
