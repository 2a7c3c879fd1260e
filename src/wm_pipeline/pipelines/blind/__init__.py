"""The blind stage."""

from wm_pipeline.pipelines.blind.pipeline import create_pipeline

__all__ = ["create_pipeline"]
