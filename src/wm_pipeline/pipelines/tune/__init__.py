"""The tune stage."""

from wm_pipeline.pipelines.tune.pipeline import create_pipeline

__all__ = ["create_pipeline"]
