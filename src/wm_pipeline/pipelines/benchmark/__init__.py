"""The benchmark stage."""

from wm_pipeline.pipelines.benchmark.pipeline import create_pipeline

__all__ = ["create_pipeline"]
