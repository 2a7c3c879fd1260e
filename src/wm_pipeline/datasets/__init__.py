"""How things persist: Kedro datasets that never leave a half-written file behind.

A dataset is imported when it is asked for: some need torch, and most runs few of them.
"""

from importlib import import_module
from typing import Any

_MODULES = {
    "AnimationDataset": "animation",
    "CSVDataset": "documents",
    "CheckpointDataset": "checkpoint",
    "CurvesDataset": "curves",
    "EarlierCheckpointDataset": "earlier",
    "EarlierStateDataset": "earlier",
    "EarlierTableDataset": "earlier",
    "FigureDataset": "documents",
    "FolderDataset": "folder",
    "JSONDataset": "documents",
    "OnnxDataset": "onnx_file",
    "PathDataset": "path",
    "ShardsDataset": "shards",
    "StateDataset": "states",
    "TableDataset": "documents",
    "TextDataset": "documents",
    "UnfinishedShardsDataset": "shards",
    "VersionsDataset": "versions",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"wm_pipeline.datasets has no {name}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
