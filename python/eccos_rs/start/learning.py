"""From graded answers to a router, and what it is worth on answers it has not learned from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from eccos_rs.evaluate.verdict import Verdict, judge_routing
from eccos_rs.predict.prior.learned import LearnedPredictor, ModelOutcome
from eccos_rs.records.grouping import text_groups
from eccos_rs.start.sampling import sample_weights

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from eccos_rs.predict.protocol import Predictor
    from eccos_rs.routing.router import Router
    from eccos_rs.start.asking import GradedAnswers
    from eccos_rs.start.options import StartOptions
    from eccos_rs.start.outlook import ReferenceRouting, Traffic
    from eccos_rs.start.sampling import Design

    Floats = NDArray[np.float64]

__all__ = ["FEWEST_OF_A_MODEL", "answering", "judge_by_folds", "learn_answers"]

FOLDS = 5
FEWEST_OF_A_MODEL = 0.5
"""Share of the most answered model's answers below which a model is left out: its endpoint failed."""


def answering(answers: GradedAnswers, names: tuple[str, ...]) -> tuple[list[int], dict[str, int]]:
    """Return the columns with enough answers to be compared, and the answers of the others."""
    counts = np.isfinite(answers.quality).sum(axis=0)
    kept = [
        at for at, count in enumerate(counts.tolist()) if count and count >= FEWEST_OF_A_MODEL * counts.max()
    ]
    return kept, {names[at]: int(counts[at]) for at in range(len(names)) if at not in kept}


def learn_answers(
    base: Predictor, traffic: Traffic, answers: GradedAnswers, rows: Sequence[int]
) -> LearnedPredictor:
    """Return a predictor that has learned the answers of some requests."""
    queries, outcomes = [], []
    for row in rows:
        for column in np.flatnonzero(np.isfinite(answers.quality[row])).tolist():
            queries.append(traffic.entries[row].query)
            outcomes.append(
                ModelOutcome(
                    traffic.prediction.models[column],
                    float(answers.quality[row, column]),
                    float(answers.tokens[row, column]),
                )
            )
    # The base stays as it was: what is learned of one part of the queries must not reach another's forecasts.
    learned = base.copy() if isinstance(base, LearnedPredictor) else LearnedPredictor(base)
    learned.learn(queries, outcomes)
    return learned


def judge_by_folds(
    traffic: Traffic,
    answers: GradedAnswers,
    router: Router,
    reference: ReferenceRouting,
    *,
    kept: Sequence[int],
    design: Design,
    options: StartOptions,
) -> Verdict | None:
    """Judge the router on the answered requests, each by one that has not learned it.

    Parameters
    ----------
    traffic, answers, router, reference
    kept : sequence of int
        Columns that are compared.
    design : Design
        It says what each answered request stands for.
    options : StartOptions

    Returns
    -------
    Verdict or None
        None where no request was answered by all, or only one model is left.
    """
    columns = np.array(kept, dtype=np.intp)
    rows = np.flatnonzero(np.isfinite(answers.quality[:, columns]).all(axis=1))
    if not len(rows) or len(columns) < 2:
        return None
    quality, cost = _out_of_fold(traffic, answers, router, rows)
    place = np.full(len(router.pool), -1, dtype=np.intp)
    place[columns] = np.arange(len(columns))
    today, name = place[reference.columns[rows]], reference.name
    means = answers.quality[np.ix_(rows, columns)].mean(axis=0)
    if (today < 0).any():
        # Today's model gave no answers: the strongest of the others stands in.
        strongest = int(means.argmax())
        today, name = np.full(len(rows), strongest), router.pool.names[int(columns[strongest])]
    return judge_routing(
        answers.quality[np.ix_(rows, columns)],
        answers.cost[np.ix_(rows, columns)],
        (quality[:, columns], cost[:, columns]),
        [router.pool.names[at] for at in kept],
        today,
        name=name,
        weights=sample_weights(rows, traffic.mass, design),
        seed=options.seed,
        tolerance=options.tolerance,
    )


def _out_of_fold(
    traffic: Traffic, answers: GradedAnswers, router: Router, rows: NDArray[np.intp]
) -> tuple[NDArray[np.float32], Floats]:
    """Forecast the requests of each part by what was learned of the other parts; near texts are one part."""
    groups = text_groups([traffic.entries[row].task.text for row in rows.tolist()])
    part = np.random.default_rng(0).permutation(int(groups.max()) + 1)[groups] % FOLDS
    queries = [traffic.entries[row].query for row in rows.tolist()]
    answered = np.flatnonzero(np.isfinite(answers.quality).any(axis=1))
    quality = np.empty((len(rows), len(router.pool)), dtype=np.float32)
    cost = np.empty(quality.shape)
    for number in np.unique(part):
        held = np.flatnonzero(part == number)
        rest = np.setdiff1d(answered, rows[held])
        predictor = (
            learn_answers(router.predictor, traffic, answers, rest.tolist())
            if len(rest)
            else router.predictor
        )
        some = [queries[at] for at in held.tolist()]
        made = predictor.predict(some).select(router.pool.names)
        quality[held], cost[held] = made.quality, router.costs(made, some)
    return quality, cost
