"""Figures of the predictors over a whole data set, by five-fold cross-validation or by leaving datasets out.

    python -m benches.validate DATA.parquet [--aux OTHER.parquet ...] [--away] [--encoder minilm-6] [--unread]

Near-identical questions stay in one fold. With --away each dataset is left out in turn, as a task never seen.
With --encoder another encoder is taken than the default one, with --teacher-share labels are moved by another
share than the chosen one; with --unread the figures are those of the
queries whose texts the shipped encoder was not distilled from.
"""

from __future__ import annotations

import argparse
from dataclasses import fields
from pathlib import Path

import numpy as np

from eccos_rs.cli.common import progress_bar
from eccos_rs.domain.metrics import auc
from eccos_rs.predict.calibration import Calibrated
from eccos_rs.records import split_by_text
from eccos_rs.train.card import figure_rows
from eccos_rs.train.data import TrainingData, read_training_data
from eccos_rs.train.distil import DistilOptions, held_back
from eccos_rs.train.figures import forecast_figures, routing_figures
from eccos_rs.train.fit import KINDS, fit_predictor
from eccos_rs.train.options import TrainOptions
from eccos_rs.train.pipeline import encoder_states
from eccos_rs.train.prices import pool_for, price_array

FOLDS = 5


def arguments(about: str) -> argparse.ArgumentParser:
    """Return what tells the data, for this script and for others of its kind."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--aux", type=Path, action="append", default=[])
    parser.add_argument("--pool", type=Path)
    return parser


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--away", action="store_true")
    parser.add_argument("--encoder", default=TrainOptions().encoder)
    parser.add_argument("--unread", action="store_true")
    parser.add_argument("--teacher-share", type=float)
    chosen = parser.parse_args()
    share = "auto" if chosen.teacher_share is None else chosen.teacher_share
    options = TrainOptions(encoder=chosen.encoder, teacher_share=share)
    data = read_training_data(chosen.data, chosen.aux)
    states = encoder_states(data.table.query, options, progress_bar)
    # How forecasts back off is learned once, on a part; learning it in every fold changes no figure's third
    # digit.
    some, _ = split_by_text(data.table, [0.7, 0.3], seed=0)
    back_offs = fit_predictor(data.select(some), states[some], options).back_offs
    back_offs.pop("trained")
    if chosen.away:
        leave_datasets_out(data, states, back_offs, options)
    else:
        judged = unread(data.table.query) if chosen.unread else np.arange(len(data))
        cross_validate(
            data,
            states,
            back_offs,
            price_array(pool_for(data.table, chosen.pool)),
            judged=judged,
            options=options,
        )


def unread(queries: list[str]) -> np.ndarray:
    """Return the rows whose texts `make encoder` held back."""
    texts = list(dict.fromkeys(queries))
    options = DistilOptions()
    kept = held_back(texts, options.holdout, np.random.default_rng(options.seed))
    out = {text for text, held in zip(texts, kept, strict=True) if held}
    return np.array([row for row, text in enumerate(queries) if text in out])


def cross_validate(data: TrainingData, states, back_offs, prices, *, judged, options) -> None:
    """Print the figures of every kind of predictor on some rows, each forecast from the other four folds."""
    names = [each.name for each in fields(Calibrated)]
    made = {kind: {name: np.zeros(data.quality.shape, np.float32) for name in names} for kind in KINDS}
    parts = split_by_text(data.table, [1 / FOLDS] * FOLDS, seed=1)
    with progress_bar("cross-validating", FOLDS) as done:
        for out in parts:
            rest = np.setdiff1d(np.arange(len(data)), out)
            fitted = fit_predictor(data.select(rest), states[rest], options, back_offs=back_offs)
            for kind in KINDS:
                forecast = fitted.predict(states[out], kind)
                for name in names:
                    made[kind][name][out] = getattr(forecast, name)
            done(1)
    figures, table = {}, data.table.select(judged)
    for kind in KINDS:
        forecast = Calibrated(**{name: values[judged] for name, values in made[kind].items()})
        figures[kind] = forecast_figures(forecast, table) | routing_figures(forecast, table, prices)
    print(f"{len(table):,} queries")
    print(f"| measure | {' | '.join(figures)} |\n|---|" + "---|" * len(figures))
    for row in figure_rows(figures):
        print(f"| {' | '.join(row)} |")


def leave_datasets_out(data: TrainingData, states, back_offs, options) -> None:
    """Print what the hybrid is worth on tasks never seen."""
    kinds = np.array(data.table.dataset)
    print("| task left out | queries | Brier, mean of the others | hybrid, less that | AUC |")
    print("|---|---|---|---|---|")
    off = []
    for kind in np.unique(kinds):
        out, rest = np.flatnonzero(kinds == kind), np.flatnonzero(kinds != kind)
        fitted = fit_predictor(data.select(rest), states[rest], options, back_offs=back_offs)
        quality, happened = fitted.predict(states[out]).quality, data.quality[out]
        mean = float(np.nanmean((happened - np.nanmean(data.quality[rest], axis=0)) ** 2))
        off.append(float(np.nanmean((quality - happened) ** 2)) - mean)
        areas = [auc(quality[:, model], happened[:, model]) for model in range(len(data.models))]
        print(f"| {kind} | {len(out)} | {mean:.4f} | {off[-1]:+.4f} | {np.nanmean(areas):.3f} |", flush=True)
    print(f"| mean over tasks | | | {np.mean(off):+.4f} | |")


if __name__ == "__main__":
    main()
