"""The dream stage."""

from wm_pipeline.pipelines.dream.pipeline import create_pipeline

__all__ = ["create_pipeline"]
