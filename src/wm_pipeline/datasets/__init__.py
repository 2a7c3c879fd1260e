"""How things persist: Kedro datasets that never leave a half-written file behind."""

from wm_pipeline.datasets.animation import AnimationDataset
from wm_pipeline.datasets.checkpoint import CheckpointDataset
from wm_pipeline.datasets.curves import CurvesDataset
from wm_pipeline.datasets.documents import (
    CSVDataset,
    FigureDataset,
    JSONDataset,
    TableDataset,
    TextDataset,
)
from wm_pipeline.datasets.search_state import EarlierSearchDataset, SearchStateDataset
from wm_pipeline.datasets.shards import ShardsDataset, UnfinishedShardsDataset
from wm_pipeline.datasets.versions import VersionsDataset

__all__ = [
    "AnimationDataset",
    "CSVDataset",
    "CheckpointDataset",
    "CurvesDataset",
    "EarlierSearchDataset",
    "FigureDataset",
    "JSONDataset",
    "SearchStateDataset",
    "ShardsDataset",
    "TableDataset",
    "TextDataset",
    "UnfinishedShardsDataset",
    "VersionsDataset",
]
