"""All runs of a task side by side."""

from wm_pipeline.pipelines.runs.pipeline import create_pipeline

__all__ = ["create_pipeline"]
