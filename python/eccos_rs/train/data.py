"""Labelled data as arrays, checked for what would make training meaningless."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from eccos_rs.errors import RecordError
from eccos_rs.records import RecordTable
from eccos_rs.records.grouping import text_groups

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["TrainingData", "aligned_aux", "training_data"]

LEAST_QUERIES = 40
LEAST_LABELS = 10


@dataclass(frozen=True, eq=False)
class TrainingData:
    """N queries, the M models of the pool and A auxiliary models.

    Attributes
    ----------
    table : RecordTable
        Texts, datasets, costs.
    log_tokens : ndarray of float32, shape (N, M)
        ln(1 + output tokens); NaN where a model was not asked.
    groups : ndarray of int64, shape (N,)
        Texts with one number are the same question, or nearly.
    aux_quality, aux_log_tokens : ndarray of float32, shape (N, A)
        Of the auxiliary models; NaN where one was not asked.
    aux_names : tuple of str
        Their names.
    """

    table: RecordTable
    log_tokens: NDArray[np.float32]
    groups: NDArray[np.int64]
    aux_quality: NDArray[np.float32]
    aux_log_tokens: NDArray[np.float32]
    aux_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.table)

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the pool's models, in column order."""
        return self.table.models

    @property
    def quality(self) -> NDArray[np.float32]:
        """Success, float32 of shape (N, M), NaN where a model was not asked."""
        return self.table.quality

    def select(self, rows: NDArray[np.int64]) -> TrainingData:
        """Keep some rows; the group numbers stay as they are."""
        return TrainingData(
            self.table.select(rows), self.log_tokens[rows], self.groups[rows],
            self.aux_quality[rows], self.aux_log_tokens[rows], self.aux_names,
        )  # fmt: skip


def training_data(table: RecordTable, aux: Sequence[tuple[str, RecordTable]] = ()) -> TrainingData:
    """Check a table and lay auxiliary tables beside it.

    Parameters
    ----------
    table : RecordTable
        The pool's models.
    aux : sequence of (str, RecordTable)
        Label and table of other models on the same queries; they are matched by text.

    Returns
    -------
    TrainingData

    Raises
    ------
    RecordError
        Too few queries, a model with too few answers, qualities outside [0, 1].
    """
    if len(table) < LEAST_QUERIES:
        raise RecordError(
            f"data: got {len(table)} queries, wanted at least {LEAST_QUERIES} to learn from; to add a model "
            "to a trained router from few labels, use router.add_model"
        )
    labelled = np.isfinite(table.quality).sum(axis=0)
    for name, count in zip(table.models, labelled.tolist(), strict=True):
        if count < LEAST_LABELS:
            raise RecordError(f"data: model {name!r} answers {count} queries, wanted at least {LEAST_LABELS}")
    low, high = float(np.nanmin(table.quality)), float(np.nanmax(table.quality))
    if low < 0.0 or high > 1.0:
        raise RecordError(
            f"data: quality runs from {low:g} to {high:g}, wanted 0 to 1; divide by the scale's best "
            "mark (--quality-scale)"
        )
    columns = [aligned_aux(table, label, other) for label, other in aux]
    return TrainingData(
        table,
        np.log1p(table.output_tokens),
        text_groups(table.query),
        np.concatenate([np.zeros((len(table), 0), np.float32), *(part[1] for part in columns)], axis=1),
        np.concatenate([np.zeros((len(table), 0), np.float32), *(part[2] for part in columns)], axis=1),
        tuple(name for part in columns for name in part[0]),
    )


def aligned_aux(
    table: RecordTable, label: str, other: RecordTable
) -> tuple[list[str], NDArray[np.float32], NDArray[np.float32]]:
    """Return names, success and log tokens of another table's models on the queries of `table`.

    Raises
    ------
    RecordError
        If no text of the two is the same.
    """
    place = {text: row for row, text in enumerate(other.query)}
    rows = np.array([place.get(text, -1) for text in table.query], dtype=np.int64)
    if (rows < 0).all():
        raise RecordError(f"aux: {label} has no query in common with the data")
    known = (rows >= 0)[:, None]
    quality = np.where(known, other.quality[rows], np.float32(np.nan))
    log_tokens = np.where(known, np.log1p(other.output_tokens[rows]), np.float32(np.nan))
    return [f"{label}/{name}" for name in other.models], quality, log_tokens


def read_training_data(path: Path, aux: Sequence[Path] = (), quality_scale: float = 1.0) -> TrainingData:
    """Read the files and check them; see `training_data`."""
    table = RecordTable.read(path, quality_scale=quality_scale)
    others = [(each.stem, RecordTable.read(each, quality_scale=quality_scale)) for each in aux]
    return training_data(table, others)
