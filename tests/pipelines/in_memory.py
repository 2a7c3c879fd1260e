"""Stages on a catalog in memory, node by node, with the options of conf/."""

import contextlib
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kedro.framework.session import KedroSession
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Node, Pipeline
from kedro.runner import SequentialRunner

from wm_pipeline.datasets import ShardsDataset

ON_DISK = ("episodes", "latents")


def options(project: Path, env: str) -> dict[str, Any]:
    """The options of a conf environment, validated, by stage."""
    with contextlib.chdir(project), KedroSession.create(project, env=env) as session:
        return dict(session.load_context().params)


def catalog_of(options: dict[str, Any], folder: Path) -> DataCatalog:
    """Everything in memory but sets of shards, which are in ``folder``."""
    shards = {name: ShardsDataset(filepath=str(folder / name)) for name in ON_DISK}
    values = {f"params:{stage}": value for stage, value in options.items()}
    memory = {n: MemoryDataset(v, copy_mode="assign") for n, v in values.items()}
    return DataCatalog(shards | memory)


def pipeline_of(stage: str) -> Pipeline:
    module = importlib.import_module(f"wm_pipeline.pipelines.{stage}")
    created: Pipeline = module.create_pipeline()
    return created


def node_of(pipeline: Pipeline, function: Callable[..., Any]) -> Node:
    """The one node that calls ``function``, whatever it is called."""
    (node,) = [node for node in pipeline.nodes if node.func is function]
    return node


def run_node(
    catalog: DataCatalog, stage: str, function: Callable[..., Any]
) -> tuple[Any, ...]:
    """Run one node of a stage; what it left in the catalog."""
    pipeline = pipeline_of(stage)
    node = node_of(pipeline, function)
    for name in node.outputs:
        if name not in ON_DISK:
            catalog[name] = MemoryDataset(copy_mode="assign")
    SequentialRunner().run(pipeline.only_nodes(node.name), catalog)
    return tuple(catalog.load(name) for name in node.outputs)
