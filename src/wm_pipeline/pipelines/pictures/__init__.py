"""The pictures stage."""

from wm_pipeline.pipelines.pictures.pipeline import create_pipeline

__all__ = ["create_pipeline"]
