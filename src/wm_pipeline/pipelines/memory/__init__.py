"""The memory stage."""

from wm_pipeline.pipelines.memory.pipeline import create_pipeline

__all__ = ["create_pipeline"]
