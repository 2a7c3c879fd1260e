"""Which stages there are."""

import pkgutil

from kedro.pipeline import Node

import wm_pipeline.pipelines

LOOKING_BACK = {"runs", "results"}
"""Stages that only read what runs have left; they leave no record of their own."""


def known_stages() -> list[str]:
    """The names of all stages, sorted."""
    return sorted(m.name for m in pkgutil.iter_modules(wm_pipeline.pipelines.__path__))


def stage_of(node: Node) -> str:
    """The stage that a node belongs to: the first part of its namespace."""
    return (node.namespace or node.name).split(".")[0]
