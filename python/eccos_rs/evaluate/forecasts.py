"""How good the forecasts are by themselves: discrimination, calibration, length, cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from eccos_rs.evaluate.metrics import Reliability, auc, brier, ece, ece_floor, reliability

if TYPE_CHECKING:
    from eccos_rs.evaluate.harness import HeldOutSet
    from eccos_rs.evaluate.methods.base import Predictions
    from eccos_rs.evaluate.promises import Chosen

__all__ = ["HeldOutForecast", "judge_forecasts"]

NAN = float("nan")


@dataclass(frozen=True)
class HeldOutForecast:
    """One predictor on the held-back queries.

    Attributes
    ----------
    predictor : str
        The predictor.
    auc, brier : dict of str to float
        For each model, and their mean under ``mean``.
    ece : float
        15 bins of equal mass over all (query, model) pairs.
    ece_models : float
        The same for each model by itself, mean over the models.
    ece_floor : float
        What perfect forecasts would show over all pairs, from the coin flips alone.
    ece_chosen, ece_chosen_floor : float
        Over the pairs that the assignment chooses, and its floor.
    bias_chosen : float
        Forecast minus outcome over those: the winner's curse.
    log_length_mae : float
        Mean |ln(1 + tokens) - forecast|, mean over the models; NaN when the predictor tells no length.
    cost_error : float
        |forecast total - realised total| / realised total, mean over the models.
    seconds : float
        Time of the prediction per query.
    all_pairs, chosen : Reliability
        The diagrams.
    """

    predictor: str
    auc: dict[str, float]
    brier: dict[str, float]
    ece: float
    ece_models: float
    ece_floor: float
    ece_chosen: float
    ece_chosen_floor: float
    bias_chosen: float
    log_length_mae: float
    cost_error: float
    seconds: float
    all_pairs: Reliability
    chosen: Reliability


def judge_forecasts(predictions: Predictions, test_set: HeldOutSet, chosen: Chosen) -> HeldOutForecast:
    """Judge one predictor.

    Parameters
    ----------
    predictions : Predictions
        Its forecasts.
    test_set : HeldOutSet
        The outcomes.
    chosen : Chosen
        The pairs that the assignment chooses with these forecasts.
    """
    table = test_set.table
    columns = [(predictions.quality[:, j], table.quality[:, j]) for j in range(len(table.models))]
    areas = dict(zip(table.models, (auc(p, y) for p, y in columns), strict=True))
    errors = dict(zip(table.models, (brier(p, y) for p, y in columns), strict=True))
    known = [area for area in areas.values() if not np.isnan(area)]
    totals, truth = predictions.cost.sum(axis=0), table.cost.sum(axis=0)
    length = NAN
    if predictions.log_tokens is not None:
        length = float(
            np.abs(np.log1p(table.output_tokens.astype(np.float64)) - predictions.log_tokens).mean()
        )
    # The chosen pairs were dealt several times; the floor must not be drawn as if each were a new coin.
    distinct = max(1, len(chosen.forecast) // len(table))
    return HeldOutForecast(
        predictions.name,
        auc={**areas, "mean": float(np.mean(known)) if known else NAN},
        brier={**errors, "mean": float(np.mean(list(errors.values())))},
        ece=ece(predictions.quality, table.quality),
        ece_models=float(np.mean([ece(p, y) for p, y in columns])),
        ece_floor=ece_floor(predictions.quality),
        ece_chosen=ece(chosen.forecast, chosen.outcome),
        ece_chosen_floor=ece_floor(np.sort(chosen.forecast)[::distinct]),
        bias_chosen=float(chosen.forecast.mean() - chosen.outcome.mean()),
        log_length_mae=length,
        cost_error=float(np.mean(np.abs(totals - truth)[truth > 0] / truth[truth > 0]))
        if (truth > 0).any()
        else NAN,
        seconds=predictions.seconds,
        all_pairs=reliability(predictions.quality, table.quality),
        chosen=reliability(chosen.forecast, chosen.outcome),
    )
