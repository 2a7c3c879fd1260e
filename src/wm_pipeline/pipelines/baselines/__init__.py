"""The baselines stage."""

from wm_pipeline.pipelines.baselines.pipeline import create_pipeline

__all__ = ["create_pipeline"]
