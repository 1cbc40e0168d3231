"""Rows of a dataclass, such as those of a plan, as a table of another library: pandas, Arrow, Polars."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

from eccos_rs.errors import MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pandas as pd
    import polars as pl
    import pyarrow as pa

__all__ = ["rows_to_arrow", "rows_to_pandas", "rows_to_polars"]


def rows_to_pandas(rows: Iterable[Any], row: type) -> pd.DataFrame:
    """Return rows as a data frame of pandas; `row` names the columns also where there are no rows."""
    try:
        import pandas as pd
    except ImportError:
        raise MissingExtraError("to_pandas needs pandas: pip install pandas") from None
    return pd.DataFrame(_columns(rows, row))


def rows_to_arrow(rows: Iterable[Any], row: type) -> pa.Table:
    """Return rows as a table of Arrow."""
    try:
        import pyarrow as pa
    except ImportError:
        raise MissingExtraError("to_arrow needs pyarrow: pip install 'eccos-rs[parquet]'") from None
    types = {"int": pa.int64(), "float": pa.float64(), "str": pa.string()}
    schema = pa.schema([(name, types[kind]) for name, kind in _kinds(row).items()])
    return pa.table(_columns(rows, row), schema=schema)


def rows_to_polars(rows: Iterable[Any], row: type) -> pl.DataFrame:
    """Return rows as a data frame of Polars."""
    try:
        import polars as pl
    except ImportError:
        raise MissingExtraError("to_polars needs polars: pip install polars") from None
    types = {"int": pl.Int64, "float": pl.Float64, "str": pl.String}
    return pl.DataFrame(_columns(rows, row), schema={name: types[kind] for name, kind in _kinds(row).items()})


def _kinds(row: type) -> dict[str, str]:
    """Return each column's kind, `int`, `float` or `str`: the row's annotations, None aside."""
    return {each.name: str(each.type).split(" ", 1)[0] for each in fields(row)}


def _columns(rows: Iterable[Any], row: type) -> dict[str, list[Any]]:
    names = [each.name for each in fields(row)]
    columns: dict[str, list[Any]] = {name: [] for name in names}
    for each in rows:
        for name in names:
            columns[name].append(getattr(each, name))
    return columns
