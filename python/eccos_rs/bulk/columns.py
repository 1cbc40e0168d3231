"""A row's own columns beside what routing adds to it."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["arrow_columns", "as_text", "merged", "plain_json"]

GIVEN = "given_"
"""Put before a column of the input whose name the output takes for something else."""


def merged(own: Mapping[str, Any], routed: Mapping[str, Any]) -> dict[str, Any]:
    """Return the routed columns and behind them the row's own, none of them lost.

    A column of one's own under a name that routing uses comes as `given_NAME`, unless it says the same.
    """
    row = dict(routed)
    for name, value in own.items():
        if name not in routed:
            row[name] = value
        elif not _same(value, routed[name]):
            row[f"{GIVEN}{name}"] = value
    return row


def _same(value: Any, routed: Any) -> bool:
    return value is None or value == routed or (isinstance(value, int | float) and str(value) == routed)


def plain_json(value: Any) -> Any:
    """Return a value as JSON can hold it: NaN and infinity as null; dates, decimals, bytes as texts."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): plain_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_json(item) for item in value]
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return str(value)


def as_text(value: Any) -> str | None:
    """Return a value as a text, one that is no text as JSON; None stays."""
    if value is None or isinstance(value, str):
        return value
    return json.dumps(plain_json(value), ensure_ascii=False)


def arrow_columns(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, Any]:
    """Return columns as Arrow arrays; one whose values are not of one type as JSON texts."""
    import pyarrow as pa

    columns = {}
    for name in names:
        values = [row.get(name) for row in rows]
        try:
            columns[name] = pa.array(values)
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError):
            columns[name] = pa.array([as_text(value) for value in values], type=pa.string())
    return columns
