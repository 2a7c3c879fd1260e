"""How things persist: Kedro datasets that never leave a half-written file behind."""

from wm_pipeline.datasets.animation import AnimationDataset
from wm_pipeline.datasets.checkpoint import CheckpointDataset
from wm_pipeline.datasets.documents import FigureDataset, JSONDataset, TableDataset
from wm_pipeline.datasets.shards import ShardsDataset

__all__ = [
    "AnimationDataset",
    "CheckpointDataset",
    "FigureDataset",
    "JSONDataset",
    "ShardsDataset",
    "TableDataset",
]
