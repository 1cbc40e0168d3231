"""Price lists: a pool file, a table, or LLMRouter's list of candidates."""

from __future__ import annotations

import csv
import io
from array import array
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from eccos_rs.errors import RecordError
from eccos_rs.records.check import Place
from eccos_rs.records.files import iter_rows, known_suffix
from eccos_rs.records.tidy import number_in

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from eccos_rs.records.record import Prices, Record

__all__ = ["CallCosts", "PriceFit", "fit_prices", "load_prices", "price_table"]

PAIRS = (
    ("input_price", "output_price"),
    ("usd_per_million_input", "usd_per_million_output"),
    ("input_price_per_1m", "output_price_per_1m"),
)


def load_prices(path: str | Path) -> Prices:
    """Read prices, US dollars per million tokens.

    Parameters
    ----------
    path : path
        A pool file (`.toml`), a `.csv` table with `model` and `input_price`, `output_price` (or
        `usd_per_million_input`, `usd_per_million_output`), or a `.json` object of models with `input_price`
        and `output_price`.

    Returns
    -------
    dict
        Model name to (input price, output price).

    Raises
    ------
    RecordError
        A missing or negative price, or one model with two prices.
    PoolError
        A malformed pool file.
    """
    path = Path(path)
    if known_suffix(path) == ".toml":
        from eccos_rs.pools.pool import Pool

        return {model.name: (model.input_price, model.output_price) for model in Pool.load(path)}
    prices: dict[str, tuple[float, float]] = {}
    for number, row in _rows(path):
        place = Place(path.name, number)
        model = place.at("model").text(row.get("model", row.get("model_name")))
        pair = next((pair for pair in PAIRS if pair[0] in row), PAIRS[0])
        price = tuple(place.at(column).money(number_in(row.get(column))) for column in pair)
        if prices.setdefault(model, (price[0], price[1])) != price:
            raise place.at("model").fail(f"model {model!r} has two prices, {prices[model]} and {price}")
    if not prices:
        raise RecordError(f"{path}: holds no price")
    return prices


def _rows(path: Path) -> list[tuple[int, dict[str, Any]]]:
    rows = list(iter_rows(path))
    if known_suffix(path) != ".json" or not rows or "model" in rows[0][1]:
        return rows
    table = rows[0][1].items()
    return [(number, {**fields, "model": name}) for number, (name, fields) in enumerate(table, start=1)]


EXACT = 2e-3
"""A price list explains a call's cost when it is off by no more than this share of it."""

TRIES = 200
MOST_CALLS = 20_000
"""Calls of a model that a fit looks at; a price list needs no more."""


@dataclass(frozen=True, slots=True)
class PriceFit:
    """Prices recovered from costs, US dollars per million tokens, and the share of calls that follow them."""

    model: str
    prices: tuple[float, float]
    share: float
    calls: int


def fit_prices(model: str, tokens: npt.NDArray[np.float64], cost: npt.NDArray[np.float64]) -> PriceFit | None:
    """Recover the prices that most calls of a model were charged by.

    Parameters
    ----------
    model : str
    tokens : ndarray, shape (n, 2)
        Input and output tokens of each call.
    cost : ndarray, shape (n,)
        US dollars of each call.

    Returns
    -------
    PriceFit or None
        None when no two prices explain more than half of the calls.

    Notes
    -----
    Pairs of calls drawn at random each give two prices; those that explain most calls win and are fitted
    again on the calls that they explain (consensus over random samples). Outliers (cached prompts, failed
    calls, a day at another price) do not move it, as they would move least squares.
    """
    n, tokens, micro = len(cost), tokens.astype(np.float64), cost.astype(np.float64) * 1e6
    if n < 2:
        return None
    rng = np.random.default_rng(0)
    pairs = rng.integers(0, n, size=(TRIES, 2))
    a, b = tokens[pairs[:, 0]], tokens[pairs[:, 1]]
    spread = a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]
    usable = spread != 0
    a, b, first, second = a[usable], b[usable], micro[pairs[usable, 0]], micro[pairs[usable, 1]]
    spread = spread[usable]
    prices = np.column_stack(
        [(first * b[:, 1] - second * a[:, 1]) / spread, (second * a[:, 0] - first * b[:, 0]) / spread]
    )
    prices = prices[(prices >= -1e-6).all(axis=1)]
    if not len(prices):
        return None
    counts = [int(_explained(tokens, micro, each).sum()) for each in prices]
    kept = _explained(tokens, micro, prices[int(np.argmax(counts))])
    for _ in range(3):
        found, _, rank, _ = np.linalg.lstsq(tokens[kept], micro[kept], rcond=None)
        if rank < 2:
            return None
        again = _explained(tokens, micro, found)
        if again.sum() < kept.sum():
            break
        kept = again
    share = float(kept.mean())
    if share <= 0.5 or kept.sum() < 3 or (found < -1e-6).any():
        return None
    rounded = [float(f"{max(price, 0.0):.4g}") for price in found.tolist()]
    return PriceFit(model, (rounded[0], rounded[1]), share, n)


def _explained(
    tokens: npt.NDArray[np.float64], micro: npt.NDArray[np.float64], prices: npt.NDArray[np.floating]
) -> npt.NDArray[np.bool_]:
    # A billionth of a dollar is what rounding leaves.
    off = np.abs(tokens @ prices - micro)
    return np.asarray(off <= np.maximum(EXACT * micro, 1e-3))


@dataclass(slots=True)
class CallCosts:
    """Gathers tokens and costs of the calls that stream by, for `fit_prices`."""

    calls: dict[str, array[float]] = field(default_factory=dict)

    def watch(self, records: Iterable[Record]) -> Iterator[Record]:
        """Pass records on and remember what their calls cost."""
        for record in records:
            for output in record.outputs:
                kept = self.calls.setdefault(output.model, array("d"))
                if len(kept) < 3 * MOST_CALLS:
                    kept.extend((record.prompt_tokens(output), output.output_tokens, output.cost_usd))
            yield record

    def fits(self) -> list[PriceFit]:
        """Return the prices of the models that have some."""
        found = []
        for model, flat in self.calls.items():
            rows = np.asarray(flat, dtype=np.float64).reshape(-1, 3)
            fit = fit_prices(model, rows[:, :2], rows[:, 2])
            if fit is not None:
                found.append(fit)
        return found


def price_table(fits: Sequence[PriceFit]) -> str:
    """Return a price list as the `.csv` that `load_prices` reads."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["model", "input_price", "output_price", "price_source"])
    for fit in fits:
        source = f"recovered from {fit.calls} calls, {fit.share:.1%} of which it explains"
        writer.writerow([fit.model, *fit.prices, source])
    return text.getvalue()
