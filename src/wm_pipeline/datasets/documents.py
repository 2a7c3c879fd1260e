"""Tables, metrics and figures: kedro-datasets' own, never half-written.

kedro-datasets writes straight to the final name; a full disk or a killed process would
leave a truncated file there that looks like a finished one.
"""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from kedro_datasets._typing import HTMLPreview, JSONPreview
from kedro_datasets.json import JSONDataset as KedroJSONDataset
from kedro_datasets.pandas import CSVDataset as KedroCSVDataset
from kedro_datasets.pandas import ParquetDataset
from kedro_datasets.plotly import JSONDataset as KedroPlotlyDataset
from kedro_datasets.text import TextDataset as KedroTextDataset
from pyarrow import ArrowInvalid
from pyarrow.parquet import read_schema

from wm_pipeline.common.errors import InputError
from wm_pipeline.common.files import UNFINISHED
from wm_pipeline.datasets.local_file import LocalFile


class TableDataset(LocalFile, ParquetDataset):
    """A pandas data frame as Parquet, on a local path.

    One whose ``attrs`` have ``UNFINISHED`` counts as missing, so that Kedro's
    ``--only-missing-outputs`` does not take interrupted work for finished.

    Example:
        .. code-block:: yaml

            vae_history:
              type: wm_pipeline.datasets.TableDataset
              filepath: data/07_model_output/doom/vae_history.parquet
              versioned: true
    """

    def load(self) -> pd.DataFrame:
        """Read the frame.

        The file is opened once: a log that grows is replaced meanwhile, and pandas
        would read the end of one file and the pages of another.

        Raises:
            InputError: The file is damaged or has no rows.
        """
        return self._read(Path(self._get_load_path()))

    def _read(self, path: Path) -> pd.DataFrame:
        with path.open("rb") as file:
            try:
                frame = pd.read_parquet(file, **self._load_args)
            except ArrowInvalid as error:
                raise InputError(
                    f"{path}: expected a whole Parquet file, found {error}."
                ) from error
        if frame.empty:
            raise InputError(f"{path}: expected rows, found an empty table.")
        return frame

    def write(self, path: Path, data: pd.DataFrame) -> None:
        """Write the frame; its index is not kept."""
        data.to_parquet(path, index=False)

    def _exists(self) -> bool:
        if not super()._exists():
            return False
        try:
            about = read_schema(self._get_load_path()).metadata or {}
        except ArrowInvalid:
            return True  # a damaged one is named when it is read
        return UNFINISHED not in json.loads(about.get(b"PANDAS_ATTRS", "{}"))


class CSVDataset(LocalFile, KedroCSVDataset):
    """A pandas data frame as CSV, on a local path."""

    def write(self, path: Path, data: pd.DataFrame) -> None:
        """Write the frame; its index is not kept."""
        data.to_csv(path, index=False)


class JSONDataset(LocalFile, KedroJSONDataset):
    """JSON values, indented, on a local path; a run may save them more than once.

    NaN, which JSON does not have, stands for a score that there is not: null.
    """

    def load(self) -> Any:
        """Read the values; InputError if the file is damaged."""
        path = Path(self._get_load_path())
        try:
            return json.loads(path.read_text())
        except ValueError as error:
            raise InputError(
                f"{path}: expected JSON, found {path.stat().st_size} bytes that are "
                f"not: {error}."
            ) from error

    def write(self, path: Path, data: Any) -> None:
        """Write the values.

        Raises:
            InputError: A number is infinite.
        """
        try:
            text = json.dumps(_null_for_nan(data), indent=2, allow_nan=False)
        except ValueError as error:
            raise InputError(
                f"{path.name.split('.')[1]}: expected finite numbers, found "
                f"{', '.join(_not_finite(data))}"
            ) from error
        path.write_text(text + "\n")

    def preview(self) -> JSONPreview:
        """The values, for kedro-viz."""
        return JSONPreview(Path(self._get_load_path()).read_text())


def _null_for_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _null_for_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_null_for_nan(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _not_finite(value: Any, name: str = "") -> Iterator[str]:
    """The places of numbers that are not finite, and which they are."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _not_finite(item, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list | tuple):
        for place, item in enumerate(value):
            yield from _not_finite(item, f"{name}.{place}")
    elif isinstance(value, float) and math.isinf(value):
        yield f"{name} = {value}"


class TextDataset(LocalFile, KedroTextDataset):
    """Text, on a local path."""

    def write(self, path: Path, data: str) -> None:
        """Write the text."""
        path.write_text(data, encoding="utf-8")

    def preview(self) -> HTMLPreview:
        """The text, for kedro-viz, which sets Markdown."""
        return HTMLPreview(Path(self._get_load_path()).read_text(encoding="utf-8"))


class FigureDataset(LocalFile, KedroPlotlyDataset):
    """A plotly figure as JSON, on a local path; kedro-viz draws it."""

    def write(self, path: Path, data: go.Figure) -> None:
        """Write the figure, in ASCII: Kedro reads it in the locale's encoding."""
        path.write_text(json.dumps(json.loads(data.to_json())), encoding="ascii")
