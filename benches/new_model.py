"""How well a model is met from few labels: each in turn is left out of training, then learned from n labels.

    python -m benches.new_model DATA/qaserve_public.parquet

Labels and judged queries are held back from training. Auxiliary data are not used: they would hold the
left-out model under another name.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from eccos_rs.cli.common import progress_bar
from eccos_rs.domain.metrics import auc
from eccos_rs.predict import Prediction
from eccos_rs.predict.onboarding import fit_new_model
from eccos_rs.records import RecordTable, split_by_text
from eccos_rs.train.data import TrainingData, training_data
from eccos_rs.train.fit import fit_predictor
from eccos_rs.train.options import TrainOptions
from eccos_rs.train.pipeline import encoder_states

LABELS = (20, 50, 100, 200, 500, 1000)
DRAWS = 8
JUDGED = 1200


def main(path: Path) -> None:
    data = training_data(RecordTable.read(path))
    states = encoder_states(data.table.query, TrainOptions(), progress_bar)
    rest, held = split_by_text(data.table, [0.7, 0.3], seed=0)
    rows = {count: [] for count in LABELS}
    with progress_bar("leaving models out", len(data.models)) as done:
        for left_out in range(len(data.models)):
            known = forecasts(data, states, rest, held, left_out)
            for count in LABELS:
                rows[count] += [
                    judge(data, held, known, left_out, count=count, seed=seed) for seed in range(DRAWS)
                ]
            done(1)
    print("| labels | AUC | AUC, own 16 neighbours | Brier | Brier, model mean | error of total tokens |")
    print("|---|---|---|---|---|---|")
    for count, values in rows.items():
        good, own, brier, mean, tokens = np.mean(values, axis=0)
        print(f"| {count} | {good:.3f} | {own:.3f} | {brier:.4f} | {mean:.4f} | {tokens:.1%} |")


def forecasts(data: TrainingData, states, rest, held, left_out: int) -> Prediction:
    """Train without one model; forecast the held-back queries for the others."""
    kept = [model for model in range(len(data.models)) if model != left_out]
    part = replace(
        data,
        table=data.table.select_models([data.models[model] for model in kept]),
        log_tokens=data.log_tokens[:, kept],
    )
    fitted = fit_predictor(part.select(rest), states[rest], TrainOptions(), back_offs={})
    made = fitted.predict(states[held])
    return Prediction(
        part.models, made.quality, made.output_tokens, made.quality_std, made.log_tokens_std,
        data.table.input_tokens[held], embedding=fitted.metric.embed(states[held]),
    )  # fmt: skip


def judge(data: TrainingData, held, known: Prediction, model: int, *, count: int, seed: int) -> list[float]:
    """Learn the model from some labels and judge it on other queries."""
    order = np.random.default_rng(seed).permutation(len(held))
    learn, test = order[:count], order[-JUDGED:]
    good, tokens = data.quality[held, model], data.table.output_tokens[held, model]
    column = fit_new_model("new", known.rows(learn), good[learn], tokens[learn]).column(known.rows(test))
    nearest = np.argsort(-(known.embedding[test] @ known.embedding[learn].T), axis=1)[:, :16]
    return [
        auc(column["quality"], good[test]),
        auc(good[learn][nearest].mean(axis=1), good[test]),
        float(np.mean((column["quality"] - good[test]) ** 2)),
        float(np.mean((good[learn].mean() - good[test]) ** 2)),
        float(abs(column["output_tokens"].sum() / tokens[test].sum() - 1)),
    ]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
