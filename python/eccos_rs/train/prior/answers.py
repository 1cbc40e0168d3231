"""Public answers of many models, by benchmark: what curves, categories and lengths are learned from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from eccos_rs.predict.prior.curves import GRID, benchmark_name

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["CATEGORY_OF", "Answers", "join_answers", "read_answers", "targets"]

CATEGORY_OF = {"llmrouter/gsm8k": "gsm8k", "shaberi": "shaberi"}
"""Data sets, or what precedes their slash, that are one category under another name."""
TAU, SLOPE_RIDGE = 1.0, 0.5
"""Width in log odds, and ridge on the slope, of the line through models by which a curve's label is made."""
_LEAST_MODELS = 4
_EDGE = 0.02


@dataclass(frozen=True, eq=False)
class Answers:
    """N queries of one benchmark and how M models answered them.

    Attributes
    ----------
    benchmark : str
    query : tuple of str
    category : ndarray of str, shape (N,)
    models : tuple of str
    quality, output_tokens : ndarray, shape (N, M)
        NaN where a model was not asked, or its tokens were not counted.
    """

    benchmark: str
    query: tuple[str, ...]
    category: NDArray[np.str_]
    models: tuple[str, ...]
    quality: Array
    output_tokens: Array

    def __len__(self) -> int:
        return len(self.query)

    def without(self, models: Collection[str]) -> Answers:
        """Leave some models out."""
        kept = [at for at, name in enumerate(self.models) if name not in models]
        names = tuple(self.models[at] for at in kept)
        return Answers(
            self.benchmark,
            self.query,
            self.category,
            names,
            self.quality[:, kept],
            self.output_tokens[:, kept],
        )

    def rows(self, index: NDArray[np.intp] | NDArray[np.bool_]) -> Answers:
        """Keep some queries."""
        at = np.arange(len(self))[index]
        return Answers(
            self.benchmark,
            tuple(self.query[row] for row in at),
            self.category[at],
            self.models,
            self.quality[at],
            self.output_tokens[at],
        )


def read_answers(path: Path) -> list[Answers]:
    """Read a Parquet file of one row a query and model as one `Answers` a benchmark.

    Parameters
    ----------
    path : Path
        With the columns ``query``, ``dataset``, ``model``, ``quality`` and, where counted, ``output_tokens``.
    """
    import pyarrow.parquet as pq

    columns = pq.read_table(
        path, columns=["query", "dataset", "model", "quality", "output_tokens"]
    ).to_pydict()
    models = tuple(dict.fromkeys(columns["model"]))
    column_of = {name: at for at, name in enumerate(models)}
    row_of: dict[tuple[str, str], int] = {}
    cells = list(zip(columns["query"], columns["dataset"], strict=True))
    rows = np.array([row_of.setdefault(cell, len(row_of)) for cell in cells])
    at = rows, np.array([column_of[name] for name in columns["model"]])
    quality = np.full((len(row_of), len(models)), np.nan)
    tokens = quality.copy()
    quality[at] = np.array(columns["quality"], dtype=np.float64)
    tokens[at] = np.array(columns["output_tokens"], dtype=np.float64)
    category = np.array([_category(dataset) for _, dataset in row_of])
    benchmark = np.array([benchmark_name(name) for name in category])
    names = tuple(f"{path.stem}/{name}" for name in models)
    made = []
    for name in dict.fromkeys(benchmark.tolist()):
        mine = np.flatnonzero(benchmark == name)
        asked = [text for text, _ in row_of]
        texts = tuple(asked[row] for row in mine)
        made.append(Answers(name, texts, category[mine], names, quality[mine], tokens[mine]))
    return made


def join_answers(parts: Sequence[Answers]) -> list[Answers]:
    """Put the answers to each benchmark together: a text is one query, whoever was asked it."""
    joined = []
    for name in dict.fromkeys(part.benchmark for part in parts):
        mine = [part for part in parts if part.benchmark == name]
        row_of = {text: row for row, text in enumerate(dict.fromkeys(t for part in mine for t in part.query))}
        models = tuple(dict.fromkeys(model for part in mine for model in part.models))
        quality = np.full((len(row_of), len(models)), np.nan)
        tokens = quality.copy()
        category = np.empty(len(row_of), dtype=object)
        for part in mine:
            rows = np.array([row_of[text] for text in part.query])
            columns = np.array([models.index(model) for model in part.models])
            quality[np.ix_(rows, columns)], tokens[np.ix_(rows, columns)] = part.quality, part.output_tokens
            category[rows] = part.category
        joined.append(Answers(name, tuple(row_of), category.astype(str), models, quality, tokens))
    return joined


def targets(answers: Answers) -> tuple[Array, Array]:
    """Return what curves and lengths learn of a benchmark.

    Parameters
    ----------
    answers : Answers

    Returns
    -------
    success : ndarray, shape (N, G)
        Success at each strength of `GRID`: a line through the models' answers, weighed by how near their
        strength is. A little outside of 0 and 1 is allowed; NaN where too few models were asked.
    length : ndarray, shape (N,)
        Mean over models of ln(1 + output tokens), each model's own level taken out and the mean one put back;
        NaN where none was counted.
    """
    mean = np.clip(_mean(answers.quality), _EDGE, 1.0 - _EDGE)
    strength = np.log(mean / (1.0 - mean))
    success = np.full((len(answers), len(GRID)), np.nan)
    patterns, member = np.unique(np.isfinite(answers.quality), axis=0, return_inverse=True)
    for number, asked in enumerate(patterns):
        rows, columns = np.flatnonzero(member.reshape(-1) == number), np.flatnonzero(asked)
        if len(columns) >= _LEAST_MODELS:
            weights = np.column_stack([_line(strength[columns], at) for at in GRID])
            success[rows] = answers.quality[np.ix_(rows, columns)] @ weights
    logs = np.log1p(answers.output_tokens)
    level = _mean(logs)
    usual = float(np.nanmean(level)) if np.isfinite(level).any() else np.nan
    return np.clip(success, -0.2, 1.2), _mean((logs - level).T) + usual


def _line(strength: Array, at: float) -> Array:
    """Return weights over models, adding up to 1, whose weighted answers estimate success at a strength."""
    away = strength - at
    near = np.exp(-0.5 * (away / TAU) ** 2) + 1e-3
    line = np.column_stack([np.ones(len(away)), away])
    solved = np.linalg.solve(line.T @ (near[:, None] * line) + np.diag([1e-6, SLOPE_RIDGE]), line.T * near)[0]
    return np.asarray(solved / solved.sum())


def _mean(values: Array) -> Array:
    """Mean over rows of what is known; NaN where nothing is."""
    seen = np.isfinite(values)
    count = seen.sum(axis=0)
    total = np.where(seen, values, 0.0).sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _category(dataset: str) -> str:
    return CATEGORY_OF.get(dataset) or CATEGORY_OF.get(dataset.partition("/")[0]) or dataset
