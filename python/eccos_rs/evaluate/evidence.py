"""From a data set and a trained router to held-back queries with forecasts, none of them trained on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from eccos_rs.domain.pricing import cost_matrix
from eccos_rs.errors import InputError
from eccos_rs.evaluate.methods.base import Predictions
from eccos_rs.records import RecordTable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from eccos_rs.evaluate.harness import HeldOutSet

__all__ = ["Evidence", "complete_rows", "list_prices", "neighbour_means", "pooled"]


@dataclass(frozen=True, eq=False)
class Evidence:
    """What a study rests on.

    Attributes
    ----------
    test_set : HeldOutSet
        The queries that are judged.
    fits : tuple of RecordTable
        One for each part of `test_set`: labelled queries that routers may learn from, none in that part.
    predictions : dict of str to Predictions
        Forecasts for the judged queries.
    best : str
        Key in `predictions`: the scores of the champion.
    plain : str or None
        Key of the unweighted 16-neighbour means of observed labels; None where those labels are not known,
        and then nothing is compared with them.
    about : dict
        Where all this comes from, for the report.
    """

    test_set: HeldOutSet
    fits: tuple[RecordTable, ...]
    predictions: Mapping[str, Predictions]
    best: str
    plain: str | None
    about: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shape = self.test_set.table.quality.shape
        for key in (self.best, self.plain):
            if key is not None and key not in self.predictions:
                raise InputError(f"predictions: got {', '.join(self.predictions)}, wanted {key!r} among them")
        for predictions in self.predictions.values():
            if predictions.quality.shape != shape:
                raise InputError(
                    f"predictions {predictions.name!r}: got shape {predictions.quality.shape}, wanted {shape}"
                )
        if len(self.fits) != len(self.test_set.parts):
            raise InputError(
                f"fits: got {len(self.fits)}, wanted one for each of {len(self.test_set.parts)} parts"
            )
        if not all(len(fit) for fit in self.fits):
            raise InputError("fits: got no labelled query to learn from, wanted at least one")


def pooled(parts: Sequence[Evidence], split: str, predictor: str) -> Evidence:
    """Put the evidence of several trainings together, each of which had left out the queries it judges.

    Parameters
    ----------
    parts : sequence of Evidence
        On disjoint queries of the same models.
    split, predictor : str
        What the report says of the split and of the routers that were trained.
    """
    from eccos_rs.evaluate.harness import HeldOutSet

    sizes = [len(part.test_set.table) for part in parts]
    ends = np.cumsum(sizes)
    table = RecordTable.joined([part.test_set.table for part in parts])
    test_set = HeldOutSet(
        table,
        np.concatenate([part.test_set.hardness for part in parts]),
        list_prices(table),
        tuple(np.arange(end - size, end) for size, end in zip(sizes, ends.tolist(), strict=True)),
    )
    first = parts[0]
    by_predictor = {
        name: Predictions(
            predictions.name,
            np.concatenate([part.predictions[name].quality for part in parts]),
            np.concatenate([part.predictions[name].cost for part in parts]),
            None
            if predictions.log_tokens is None
            else np.concatenate([part.predictions[name].log_tokens for part in parts]),
            float(np.average([part.predictions[name].seconds for part in parts], weights=sizes)),
        )
        for name, predictions in first.predictions.items()
    }
    about = {**first.about, "judged": len(table), "split": split, "predictor": predictor}
    fits = tuple(fit for part in parts for fit in part.fits)
    about["fit"] = round(float(np.mean([len(fit) for fit in fits])))
    about.pop("bundle_sha256", None)
    return Evidence(test_set, fits, by_predictor, first.best, first.plain, about)


def complete_rows(table: RecordTable) -> npt.NDArray[np.bool_]:
    """Rows in which every model was observed: only there can a choice be judged."""
    return np.asarray((np.isfinite(table.quality) & np.isfinite(table.cost)).all(axis=1))


def list_prices(table: RecordTable) -> npt.NDArray[np.float64]:
    """Read the prices off the recorded costs.

    Returns
    -------
    ndarray of float64, shape (M, 2)
        US dollars per million input and output tokens; NaN for a model whose costs are not linear in its
        tokens
        (a price that changed, a cache), or whose lengths are unknown.
    """
    found = np.full((len(table.models), 2), np.nan)
    for column in range(len(table.models)):
        output, cost = table.output_tokens[:, column].astype(np.float64), table.cost[:, column]
        known = np.isfinite(output) & np.isfinite(cost)
        tokens = np.stack([table.input_tokens[known].astype(np.float64), output[known]], axis=1)
        if known.sum() < 2:
            continue
        price, _, rank, _ = np.linalg.lstsq(tokens, cost[known], rcond=None)
        if rank == 2 and np.allclose(tokens @ price, cost[known], rtol=1e-3, atol=1e-9):
            found[column] = price * 1e6
    return found


def neighbour_means(
    name: str, *, near: npt.NDArray[np.integer], success: npt.NDArray[np.floating],
    tokens: npt.NDArray[np.floating], input_tokens: npt.NDArray[np.integer], prices: npt.NDArray[np.float64],
    seconds: float = 0.0,
) -> Predictions:  # fmt: skip
    """Forecast by unweighted means over the nearest labelled queries: AIOS's retrieval.

    Parameters
    ----------
    name : str
        Of the predictions.
    near : ndarray of int, shape (N, K)
        Rows of the K nearest labelled queries of each judged one.
    success, tokens : ndarray, shape (n, M)
        Labels: success in [0, 1], output tokens; NaN where a model was not asked.
    input_tokens : ndarray, shape (N,)
        Of the judged queries.
    prices : ndarray, shape (M, 2)
        US dollars per million input and output tokens.
    seconds : float
        What a forecast took, per query.
    """
    quality = _mean(success, near)
    expected = _mean(tokens, near)
    cost = cost_matrix(input_tokens, expected, prices)
    return Predictions(name, quality.astype(np.float32), cost, np.log1p(expected), seconds)


def _mean(labels: npt.NDArray[np.floating], near: npt.NDArray[np.integer]) -> npt.NDArray[np.float64]:
    """Mean over the neighbours that were observed, (N, M); the model's own mean where none was."""
    seen = np.isfinite(labels)
    known = np.where(seen, labels, 0.0).astype(np.float64)
    prior = known.sum(axis=0) / np.maximum(seen.sum(axis=0), 1)
    number = seen[near].sum(axis=1)
    mean = np.where(number > 0, known[near].sum(axis=1) / np.maximum(number, 1), prior)
    return np.asarray(mean, dtype=np.float64)
