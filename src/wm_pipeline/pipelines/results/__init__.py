"""The page of results."""

from wm_pipeline.pipelines.results.pipeline import create_pipeline

__all__ = ["create_pipeline"]
