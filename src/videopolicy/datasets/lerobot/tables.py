"""The parquet tables of a LeRobotDataset v3.0, as the writer makes them."""

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from videopolicy.datasets.lerobot import spec

# Rows that a reader must read at once to have one of them.
_ROWS = 500


def of_rows(columns: dict[str, np.ndarray]) -> pa.Table:
    """Rows of a data file: columns of shape (N,), or (N, D) for vectors, which are plain numbers if D is 1."""
    return pa.table(
        {
            name: pa.FixedSizeListArray.from_arrays(values.ravel(), values.shape[1])
            if values.ndim == 2 and values.shape[1] > 1
            else pa.array(values.ravel())
            for name, values in columns.items()
        }
    )


def to_bytes(table: pa.Table) -> memoryview:
    """A table as the bytes of a parquet file."""
    # By way of memory: on a full disk, pyarrow's own files complain a second time when they are collected.
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, row_group_size=_ROWS, write_page_checksum=True)
    return memoryview(sink.getvalue())


def of_episodes(rows: list[dict[str, Any]]) -> pa.Table:
    """The table of episodes, from one dictionary an episode."""
    table = pa.Table.from_pylist(rows)
    own = {
        spec.EPISODE_TASK: pa.string(),
        spec.EPISODE_SUCCESS: pa.bool_(),
        spec.EPISODE_SEED: pa.int64(),
        spec.EPISODE_LABELLED_BY: pa.string(),
        spec.EPISODE_CONFIDENCE: pa.float64(),
    }
    # A column of nulls alone would get no type.
    schema = pa.schema([pa.field(f.name, own.get(f.name, f.type)) for f in table.schema])
    return table.cast(schema)


def of_tasks(tasks: list[str]) -> pa.Table:
    """The table of instructions, whose position is their task_index."""
    table = pa.table({"task_index": pa.array(range(len(tasks)), pa.int64()), "task": pa.array(tasks, pa.string())})
    # The format is read with pandas, which must find the instruction as the index.
    column = {"field_name": "task", "name": "task", "pandas_type": "unicode", "numpy_type": "object", "metadata": None}
    index = {"field_name": "task_index", "name": "task_index", "pandas_type": "int64", "numpy_type": "int64"}
    pandas = {"index_columns": ["task"], "column_indexes": [], "columns": [index | {"metadata": None}, column]}
    return table.replace_schema_metadata({"pandas": json.dumps(pandas | {"pandas_version": "2.2.0"})})
