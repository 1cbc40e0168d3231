"""Price lists: a pool file, a table, or LLMRouter's list of candidates."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from eccos_rs.errors import RecordError
from eccos_rs.records.check import Place
from eccos_rs.records.files import iter_rows, suffix_of
from eccos_rs.records.tidy import number_in

if TYPE_CHECKING:
    from eccos_rs.records.record import Prices

__all__ = ["load_prices"]

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
    if suffix_of(path) == ".toml":
        from eccos_rs.routing.pool import Pool

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
    if suffix_of(path) != ".json" or not rows or "model" in rows[0][1]:
        return rows
    table = rows[0][1].items()
    return [(number, {**fields, "model": name}) for number, (name, fields) in enumerate(table, start=1)]
