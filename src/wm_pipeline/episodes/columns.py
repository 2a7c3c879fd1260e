"""The columns of an episode, as arrays and as Arrow."""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

Steps = Mapping[str, np.ndarray]
"""Columns of one episode; each array's first axis is the step."""


def to_table(steps: Steps) -> pa.Table:
    """Columns of arrays as Arrow: pictures as binary, vectors as fixed-size lists."""
    columns = {}
    for name, values in steps.items():
        flat = np.ascontiguousarray(values).reshape(-1)
        width = int(np.prod(values.shape[1:]))
        if values.ndim == 1:
            columns[name] = pa.array(values)
        elif values.dtype == np.uint8:
            kind = pa.binary(width)
            columns[name] = pa.Array.from_buffers(
                kind, len(values), [None, pa.py_buffer(flat)]
            )
        else:
            columns[name] = pa.FixedSizeListArray.from_arrays(pa.array(flat), width)
    return pa.table(columns)


def to_array(column: pa.ChunkedArray, shape: list[int]) -> np.ndarray:
    """One column of ``to_table`` as an array again.

    Args:
        column: Of the table.
        shape: Of one step's value.

    Returns:
        (steps, *shape), read-only where it needs no copy.
    """
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = array.chunk(0)
    if pa.types.is_fixed_size_binary(array.type):
        start = array.offset * array.type.byte_width
        count = len(array) * array.type.byte_width
        flat = np.frombuffer(array.buffers()[1], np.uint8, count, start)
    elif pa.types.is_fixed_size_list(array.type):
        flat = array.flatten().to_numpy(zero_copy_only=False)
    else:
        flat = array.to_numpy(zero_copy_only=False)
    return flat.reshape(len(array), *shape)
