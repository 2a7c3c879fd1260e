"""The play stage."""

from wm_pipeline.pipelines.play.pipeline import create_pipeline

__all__ = ["create_pipeline"]
