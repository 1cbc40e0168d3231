"""The routed columns of a part beside the rows' own, as a table, and the table as a file."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from eccos_rs.bulk.columns import GIVEN, plain_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from eccos_rs.bulk.source import Part

__all__ = ["routed_table", "write_table"]


def routed_table(
    part: Part, names: Sequence[str], model: NDArray[np.int64], predicted: Mapping[str, NDArray[Any]]
) -> Any:
    """Return a part with its choices.

    Parameters
    ----------
    part : Part
    names : sequence of str
        Of the models.
    model : ndarray of int64
        The column of each row, -1 where none may take it.
    predicted : mapping
        Arrays of the part: cost, quality, output_tokens, input_tokens.

    Returns
    -------
    pyarrow.Table
        ``file`` and ``row`` of the input (from 1), ``id``, the query where it was a line of text, ``model``,
        ``quality``, ``input_tokens``, ``output_tokens``, ``cost``, then the rows' own columns.
    """
    import pyarrow as pa

    at, none = np.arange(len(model)), model < 0
    index = pa.array(np.where(none, 0, model), mask=none)

    def chosen(name: str) -> Any:
        return pa.array(predicted[name][at, model].astype(np.float64), mask=none)

    columns: dict[str, Any] = {
        "file": pa.array([part.file.name] * len(model), type=pa.string()),
        "row": pa.array(part.first + 1 + at),
        "id": pa.array([query.id for query in part.queries], type=pa.string()),
    }
    if part.own is None:
        columns["query"] = pa.array([query.prompt for query in part.queries], type=pa.string())
    columns["model"] = pa.array(list(names), type=pa.string()).take(index)
    columns["quality"] = chosen("quality")
    columns["input_tokens"] = pa.array(predicted["input_tokens"])
    columns["output_tokens"] = chosen("output_tokens")
    columns["cost"] = chosen("cost")
    if part.own is not None:
        for name in part.own.column_names:
            if name != "id":
                columns[f"{GIVEN}{name}" if name in columns else name] = part.own.column(name)
    return pa.table(columns)


def write_table(path: Path, table: Any, form: str) -> None:
    """Write a table as Parquet or JSON lines."""
    if form == "parquet":
        import pyarrow.parquet as pq

        pq.write_table(table, path, compression="zstd")
        return
    with path.open("wb") as stream:
        for batch in table.to_batches(max_chunksize=4096):
            for row in batch.to_pylist():
                stream.write(
                    json.dumps(plain_json(row), ensure_ascii=False).encode("utf-8", "replace") + b"\n"
                )
