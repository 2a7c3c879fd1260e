"""The controller stage."""

from wm_pipeline.pipelines.controller.pipeline import create_pipeline

__all__ = ["create_pipeline"]
