"""The mock stage."""

from wm_pipeline.pipelines.mock.pipeline import create_pipeline

__all__ = ["create_pipeline"]
