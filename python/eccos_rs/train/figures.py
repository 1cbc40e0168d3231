"""Figures of a fitted predictor on queries that took no part in fitting it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from eccos_rs.domain.metrics import auc, ece
from eccos_rs.domain.pricing import cost_matrix

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from eccos_rs.predict.calibration import Calibrated
    from eccos_rs.records import RecordTable

    Floats = NDArray[np.floating[Any]]

__all__ = ["cost_error", "forecast_figures", "routing_figures"]

BINS = 15
COST_LEVELS = (0.05, 0.10, 0.20)
PROMISES = (0.66, 0.68, 0.70, 0.72, 0.74)
BATCH = 256


def forecast_figures(made: Calibrated, table: RecordTable) -> dict[str, float]:
    """AUC, Brier, calibration and length errors, as means over the models.

    Parameters
    ----------
    made : Calibrated
        Forecasts of N queries.
    table : RecordTable
        What happened.

    Returns
    -------
    dict
        ``auc``, ``brier``, ``brier_mean`` (of each model's own mean), ``ece`` (per model), ``ece_pairs``
        (all pairs together), ``log_length_mae``, ``total_cost_error`` (relative, the mean over models of its
        size; tokens stand for cost).
    """
    names = ("auc", "brier", "brier_mean", "ece", "log_length_mae", "total_cost_error")
    rows: dict[str, list[float]] = {name: [] for name in names}
    for model in range(len(table.models)):
        seen = np.isfinite(table.quality[:, model])
        if not seen.any():
            continue
        p, y = made.quality[seen, model].astype(np.float64), table.quality[seen, model].astype(np.float64)
        rows["auc"].append(auc(p, y))
        rows["brier"].append(float(np.mean((p - y) ** 2)))
        rows["brier_mean"].append(float(np.var(y)))
        rows["ece"].append(ece(p, y))
        spent = table.output_tokens[seen, model].astype(np.float64)
        tokens = made.output_tokens[seen, model].astype(np.float64)
        if made.log_tokens is None:  # the median of the log-normal, which its mean and spread give back
            middle = np.log1p(tokens) - 0.5 * np.square(made.log_tokens_std[seen, model])
        else:
            middle = made.log_tokens[seen, model]
        rows["log_length_mae"].append(float(np.mean(np.abs(middle - np.log1p(spent)))))
        rows["total_cost_error"].append(float(abs(tokens.sum() / max(spent.sum(), 1.0) - 1.0)))
    out = {name: float(np.nanmean(values)) for name, values in rows.items() if np.isfinite(values).any()}
    seen = np.isfinite(table.quality)
    out["ece_pairs"] = ece(made.quality[seen], table.quality[seen])
    return out


def cost_error(predicted: Floats, paid: Floats) -> float:
    """Return how far a model's total cost is off, end to end: the mean over models of its relative size.

    Parameters
    ----------
    predicted, paid : ndarray, shape (N, M)
        US dollars: input tokens as estimated from the text, output tokens as expected; and as paid, NaN where
        a model was not asked.
    """
    seen = np.isfinite(paid)
    total = np.where(seen, paid, 0.0).sum(axis=0)
    expected = np.where(seen, predicted, 0.0).sum(axis=0)
    known = total > 0.0
    return float(np.mean(np.abs(expected[known] / total[known] - 1.0))) if known.any() else float("nan")


def routing_figures(made: Calibrated, table: RecordTable, prices: NDArray[np.float64]) -> dict[str, float]:
    """Route the held-back queries one by one at a price of quality, without limits.

    Parameters
    ----------
    made : Calibrated
        Forecasts.
    table : RecordTable
        What happened; only rows where every model was observed take part.
    prices : ndarray of float64, shape (M, 2)
        US dollars per million input and output tokens.

    Returns
    -------
    dict
        ``quality_at_5``, ``quality_at_10``, ``quality_at_20``: mean realised success when the realised cost
        is that percentage of sending everything to the strongest model; ``promise_error``: the mean size of
        promised minus realised over promises from 0.66 to 0.74, in batches of 256; ``ece_chosen``:
        calibration error of the pairs chosen at those promises. Missing where the data do not allow it.
    """
    rows = np.flatnonzero(np.isfinite(table.quality).all(axis=1) & np.isfinite(table.cost).all(axis=1))
    if len(rows) < 30 or len(table.models) < 2:
        return {}
    quality, success = made.quality[rows].astype(np.float64), table.quality[rows].astype(np.float64)
    spent = table.cost[rows]
    tokens = made.output_tokens[rows].astype(np.float64)
    cost = cost_matrix(table.input_tokens[rows], tokens, prices)
    all_to_best = spent[:, int(success.mean(axis=0).argmax())].mean()
    curve = np.array(
        [_realised(quality, cost, success, spent, value) for value in np.geomspace(1e-6, 10.0, 120)]
    )
    out = {}
    order = np.argsort(curve[:, 1], kind="stable")
    for level in COST_LEVELS:
        reached = np.interp(level * all_to_best, curve[order, 1], curve[order, 0])
        out[f"quality_at_{round(100 * level)}"] = float(reached)
    out |= _promises(quality, cost, success)
    return out


def _realised(
    quality: Floats, cost: Floats, success: Floats, spent: Floats, value: float
) -> tuple[float, float]:
    chosen = np.argmin(cost - value * quality, axis=1)
    every = np.arange(len(chosen))
    return float(success[every, chosen].mean()), float(spent[every, chosen].mean())


def _promises(quality: Floats, cost: Floats, success: Floats) -> dict[str, float]:
    """Keep promises batch by batch by the least price of quality that reaches them."""
    shuffled = np.random.default_rng(0).permutation(len(quality))
    size = min(BATCH, len(quality))
    batches = [shuffled[start : start + size] for start in range(0, len(shuffled) - size + 1, size)]
    forecasts, outcomes, off = [], [], []
    for promise in PROMISES:
        promised, realised = [], []
        for rows in batches:
            if quality[rows].max(axis=1).mean() < promise:
                continue
            chosen = _cheapest(quality[rows], cost[rows], promise)
            p, y = (
                np.take_along_axis(each[rows], chosen[:, None], axis=1)[:, 0] for each in (quality, success)
            )
            promised.append(p.mean())
            realised.append(y.mean())
            forecasts.append(p)
            outcomes.append(y)
        if promised:
            off.append(abs(float(np.mean(promised) - np.mean(realised))))
    if not off:
        return {}
    return {
        "promise_error": float(np.mean(off)),
        "ece_chosen": ece(np.concatenate(forecasts), np.concatenate(outcomes)),
    }


def _cheapest(quality: Floats, cost: Floats, promise: float) -> NDArray[np.intp]:
    """Choose by the least price of quality at which the mean forecast reaches the promise."""
    low, high = 1e-9, 1e3
    for _ in range(60):
        middle = float(np.sqrt(low * high))
        chosen = np.argmin(cost - middle * quality, axis=1)
        reached = np.take_along_axis(quality, chosen[:, None], axis=1).mean()
        low, high = (low, middle) if reached >= promise else (middle, high)
    return np.asarray(np.argmin(cost - high * quality, axis=1), dtype=np.intp)
