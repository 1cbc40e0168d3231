"""Rows of tables as queries: what data frames hold, and the values that they make of whole numbers."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

__all__ = ["is_blank", "plain_value", "rows_in"]

_WHOLE = frozenset({"context_tokens", "max_output_tokens", "priority"})
_LABELS = frozenset({"id", "group"})
_FLAGS = frozenset({"tools", "vision"})
_LISTS = frozenset({"messages", "models", "tools"})


def rows_in(batch: Any) -> Any:
    """Return the rows of a table (pandas, polars, Arrow) as mappings; anything else as it came.

    A data frame iterates over its column names, which would be routed as if they were queries.
    """
    if hasattr(batch, "to_dict") and hasattr(batch, "columns") and hasattr(batch, "iloc"):
        return batch.to_dict("records")
    if hasattr(batch, "to_dicts") and hasattr(batch, "schema"):
        return batch.to_dicts()
    if hasattr(batch, "to_pylist"):
        return batch.to_pylist()
    return batch


def is_blank(value: Any) -> bool:
    """Say whether a value is how a table writes nothing: None, NaN, NaT or pandas' NA."""
    if value is None:
        return True
    if isinstance(value, str | bytes | Mapping | list | tuple):
        return False
    if type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, Real) and value != value  # noqa: PLR0124 - NaN alone differs from itself


def plain_value(name: str, value: Any) -> Any:
    """Return a field of a query as Python has it: 5.0 as 5 where a whole number is wanted, arrays as lists.

    Parameters
    ----------
    name : str
        The field of `Query`.
    value : object
        As a table gave it. What cannot be meant stays as it is, for `Query` to refuse.
    """
    if name in _LISTS and hasattr(value, "tolist") and not isinstance(value, str):
        value = value.tolist()
    if name in _FLAGS and type(value).__name__ in ("bool", "bool_"):
        return bool(value)
    if name not in _WHOLE and name not in _LABELS:
        return value
    if not _is_number(value):
        return value
    number = _whole(value)
    return str(number) if name in _LABELS else number


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and type(value) is not bool  # type: ignore[comparison-overlap]


def _whole(value: Any) -> Any:
    """Return a number as an int where it is whole (numpy's 7, a float 5.0), else as it is."""
    if isinstance(value, Integral):
        return int(value)
    return int(value) if float(value).is_integer() else value
