"""Which prices a bundle's pool gets: a pool file, a price table, or what the data's own costs say."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

import numpy as np

from eccos_rs.errors import PoolError
from eccos_rs.pools.pool import LLM, Pool

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from eccos_rs.records import RecordTable

__all__ = ["implied_prices", "pool_for", "price_array"]

#: A recovered price must explain each call's cost this well, relative to the mean cost.
EXACT = 1e-3


def pool_for(table: RecordTable, path: Path | None) -> Pool:
    """Return the pool of a data set's models, in its column order.

    Parameters
    ----------
    table : RecordTable
        The data.
    path : Path or None
        A pool file (.toml) or a table (.csv) with ``model``, ``input_price`` and ``output_price``; it must
        price every model. Without it the prices are recovered from the costs in the data.

    Raises
    ------
    PoolError
        If a model has no price.
    """
    if path is None:
        return implied_prices(table)
    pool = _read_csv(path) if path.suffix == ".csv" else Pool.load(path)
    missing = [name for name in table.models if name not in pool.names]
    if missing:
        raise PoolError(f"{path}: no price for {', '.join(missing)}, which the data have")
    return pool.select(table.models)


def _read_csv(path: Path) -> Pool:
    with path.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    needed = ("model", "input_price", "output_price")
    if not rows or any(name not in rows[0] for name in needed):
        raise PoolError(f"{path}: wanted a header with {', '.join(needed)}")
    models = []
    for line, row in enumerate(rows, 2):
        try:
            prices = (float(row["input_price"]), float(row["output_price"]))
        except ValueError:
            raise PoolError(f"{path}, line {line}: model {row['model']!r} has no price") from None
        source = row.get("price_source") or None
        models.append(
            LLM(row["model"], *prices, price_source=source, price_date=row.get("price_date") or None)
        )
    return Pool(models)


def implied_prices(table: RecordTable) -> Pool:
    """Recover the price list from the costs: (input price x input + output price x output) / 1e6.

    Raises
    ------
    PoolError
        If the costs of a model do not follow such a rule, or all its answers are equally long.
    """
    models = []
    for column, name in enumerate(table.models):
        seen = np.isfinite(table.cost[:, column]) & np.isfinite(table.output_tokens[:, column])
        tokens = np.column_stack([table.input_tokens[seen], table.output_tokens[seen, column]]).astype(
            np.float64
        )
        cost = table.cost[seen, column] * 1e6
        prices, _, rank, _ = np.linalg.lstsq(tokens, cost, rcond=None)
        off = np.abs(tokens @ prices - cost).max(initial=0.0)
        if rank < 2 or off > EXACT * max(float(cost.mean()), 1e-12) or (prices < -1e-6).any():
            raise PoolError(
                f"model {name!r}: no price list explains its costs in the data; name one with --pool"
            )
        rounded = [float(f"{max(price, 0.0):.4g}") for price in prices]
        source = "recovered from the costs in the training data"
        models.append(LLM(name, rounded[0], rounded[1], price_source=source))
    return Pool(models)


def price_array(pool: Pool) -> NDArray[np.float64]:
    """Return input and output prices, (M, 2), US dollars per million tokens."""
    return np.array([[model.input_price, model.output_price] for model in pool], dtype=np.float64)
