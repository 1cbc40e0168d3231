"""The table of published scores as it ships: sources, columns with their fitted lines, models by spelling."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from eccos_rs.catalogue.factor import Columns
from eccos_rs.catalogue.matching import NameIndex

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Column", "ScoreTable", "score_table"]


class Column(NamedTuple):
    """A benchmark as one source ran it: unit is ``"share"``, ``"elo"``, ``"tokens"`` or ``"usd"``."""

    source: str
    date: str
    benchmark: str
    unit: str


@dataclass(frozen=True, slots=True)
class ScoreTable:
    """The facts and the factor model fitted on them.

    Parameters
    ----------
    sources : mapping of str to mapping
        What is known of each source: kind, repository, licence.
    columns : tuple of Column
    fitted : Columns
        Intercept, slope and error of each.
    models : mapping of str to (array, array)
        By spelling: columns and values.
    index : NameIndex
        Finds the spellings of a model.
    by_benchmark : mapping of str to tuple of int
        The columns of each benchmark, those of tokens left out.
    boards : mapping of str to int
        A number for each source; entries of one share an error.
    token_line : (float, float, float)
        Mean of ln tokens of a model against others, what thinking adds to it, and the spread between models.
    price_line : (float, float, float)
        Intercept and slope of theta over ln(US dollars per million output tokens), and its standard
        deviation.
    """

    sources: dict[str, dict[str, str]]
    columns: tuple[Column, ...]
    fitted: Columns
    models: dict[str, tuple[NDArray[np.intp], NDArray[np.float64]]]
    index: NameIndex
    by_benchmark: dict[str, tuple[int, ...]]
    boards: dict[str, int]
    price_line: tuple[float, float, float]
    token_line: tuple[float, float, float]

    def prior(self, price: float | None) -> tuple[float, float]:
        """Return mean and standard deviation of theta before any score, given a price of output."""
        if not price:
            return 0.0, 1.0
        intercept, slope, sd = self.price_line
        return intercept + slope * math.log(price), sd

    def tokens_column(self, benchmark: str) -> int | None:
        """Return the fitted column of a benchmark's tokens; None where nobody counted them."""
        for at, column in enumerate(self.columns):
            if column.unit == "tokens" and column.benchmark == benchmark and np.isfinite(self.fitted.mu[at]):
                return at
        return None

    def board(self, column: int) -> int:
        """Return the number of a column's board."""
        return self.boards[self.columns[column].source.removesuffix("-prompt")]

    def kind(self, column: int) -> str:
        """Return the kind of a column's source: ``"answers"``, ``"board"``, ``"vendor"`` or ``"elo"``."""
        return self.sources[self.columns[column].source]["kind"]

    def reference(self, benchmark: str) -> int | None:
        """Return the fitted column that stands for a benchmark: the labelled answers', else the newest."""
        rank = {"answers": 0, "board": 1, "vendor": 2, "elo": 3}
        fitted = [c for c in self.by_benchmark.get(benchmark, ()) if np.isfinite(self.fitted.lam[c])]
        return max(fitted, key=lambda c: (-rank[self.kind(c)], self.columns[c].date), default=None)


@lru_cache(maxsize=1)
def score_table() -> ScoreTable:
    """Return the table that ships."""
    raw = json.loads(files("eccos_rs.catalogue").joinpath("data/scores.json").read_bytes())
    columns = tuple(Column(*row[:4]) for row in raw["columns"])
    fitted = Columns(*(np.array([row[at] for row in raw["columns"]], dtype=np.float64) for at in (4, 5, 6)))
    models = {
        name: (np.array(at, dtype=np.intp), np.array(values, dtype=np.float64))
        for name, (at, values) in raw["models"].items()
    }
    by_benchmark: dict[str, tuple[int, ...]] = {}
    boards: dict[str, int] = {}
    for at, column in enumerate(columns):
        if column.unit in ("share", "elo"):
            by_benchmark[column.benchmark] = (*by_benchmark.get(column.benchmark, ()), at)
        boards.setdefault(column.source.removesuffix("-prompt"), len(boards))
    index = NameIndex(models, raw["bases"])
    lines = tuple(raw["price_line"]), tuple(raw["token_line"])
    return ScoreTable(raw["sources"], columns, fitted, models, index, by_benchmark, boards, *lines)
