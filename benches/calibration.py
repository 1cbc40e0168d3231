"""The two-part calibration beside none, Platt's and isotonic regression, in five-fold cross-validation.

    python -m benches.calibration DATA.parquet [--aux OTHER.parquet ...]

All calibrate the same blend of heads and neighbours, each on forecasts of training queries by what had not
learned from them, and are judged on queries that took no part in training. Platt: a logistic of each model's
own log odds. Isotonic: a monotone function of them, linear between those that were seen.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import isotonic_regression

from benches.validate import FOLDS, arguments
from eccos_rs.cli.common import progress_bar
from eccos_rs.predict.calibration import Calibrated, expit
from eccos_rs.predict.logistic import fit_logistic
from eccos_rs.records import split_by_text
from eccos_rs.train.context import prepare
from eccos_rs.train.data import read_training_data
from eccos_rs.train.figures import forecast_figures, routing_figures
from eccos_rs.train.fit import finish, unseen_sources
from eccos_rs.train.options import TrainOptions
from eccos_rs.train.pipeline import encoder_states
from eccos_rs.train.prices import pool_for, price_array

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

METHODS = ("none", "Platt", "isotonic", "two parts")


def platt(score: Floats, success: Floats) -> Callable[[Floats], Floats]:
    """Fit a logistic of one model's log odds."""
    a, b = fit_logistic(np.column_stack([np.ones(len(score)), score]), success, ridge=[1e-2, 1e-2])
    return lambda new: expit(a + b * new)


def isotonic(score: Floats, success: Floats) -> Callable[[Floats], Floats]:
    """Fit a monotone function of one model's log odds."""
    order = np.argsort(score, kind="stable")
    fitted = isotonic_regression(success[order].astype(np.float64)).x
    return lambda new: np.interp(new, score[order], fitted).astype(np.float32)


def main() -> None:
    chosen = arguments(__doc__).parse_args()
    data = read_training_data(chosen.data, chosen.aux)
    options = TrainOptions()
    states = encoder_states(data.table.query, options, progress_bar)
    quality = {name: np.zeros(data.quality.shape, np.float32) for name in METHODS}
    lengths: list[tuple[NDArray[np.int64], Calibrated]] = []
    with progress_bar("cross-validating", FOLDS) as done:
        for out in split_by_text(data.table, [1 / FOLDS] * FOLDS, seed=1):
            rest = np.setdiff1d(np.arange(len(data)), out)
            context = prepare(data.select(rest), states[rest], options)
            members, sources = unseen_sources(context)
            fitted = finish(context, members, sources, {})
            hybrid = fitted.calibration["hybrid"]
            weights = hybrid.success_weight, hybrid.length_weight
            known = sources.blended(*weights).success_logit
            asked = fitted.sources(states[out]).blended(*weights).success_logit
            quality["none"][out] = expit(asked)
            for name, method in (("Platt", platt), ("isotonic", isotonic)):
                for model in range(known.shape[1]):
                    seen = np.isfinite(context.raw.success[:, model])
                    made = method(known[seen, model], context.raw.success[seen, model])
                    quality[name][out, model] = made(asked[:, model])
            predicted = fitted.predict(states[out])
            quality["two parts"][out] = predicted.quality
            lengths.append((out, predicted))
            done(1)
    report(data.table, quality, lengths, price_array(pool_for(data.table, chosen.pool)))


def report(table, quality, lengths, prices) -> None:
    """Print a row for each way; lengths and costs are the same for all."""
    arrays = {}
    for name in ("output_tokens", "quality_std", "log_tokens_std"):
        arrays[name] = np.zeros(table.quality.shape, np.float32)
        for rows, predicted in lengths:
            arrays[name][rows] = getattr(predicted, name)
    made = Calibrated(quality=quality["none"], **arrays)
    names = ("auc", "brier", "ece", "ece_chosen", "promise_error")
    print(
        "| calibration | AUC | Brier | ECE, mean over models | ECE, chosen pairs | promised minus realised |"
    )
    print("|---|---|---|---|---|---|")
    for method, values in quality.items():
        forecast = replace(made, quality=values)
        figures = forecast_figures(forecast, table) | routing_figures(forecast, table, prices)
        print(f"| {method} | " + " | ".join(f"{figures[name]:.4f}" for name in names) + " |")


if __name__ == "__main__":
    main()
