"""The rounds: play with C, train M on, train C on."""

from wm_pipeline.pipelines.rounds.pipeline import create_pipeline

__all__ = ["create_pipeline"]
