"""Evidence out of a router that was not trained on its models: published scores, and labels learned since."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING

import numpy as np

from eccos_rs.errors import RecordError
from eccos_rs.evaluate.bundles import SAME, divide_rows, silent
from eccos_rs.evaluate.evidence import Evidence, list_prices, neighbour_means
from eccos_rs.evaluate.forecasters import NEIGHBOURS, PLAIN
from eccos_rs.evaluate.harness import HeldOutSet
from eccos_rs.evaluate.methods.base import Predictions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eccos_rs.domain.query import Query
    from eccos_rs.evaluate.bundles import Progress
    from eccos_rs.pools.pool import Pool
    from eccos_rs.predict.protocol import Prediction
    from eccos_rs.records import RecordTable
    from eccos_rs.routing.router import Router

__all__ = ["evidence_from_router"]

GIVEN = "as given"


def evidence_from_router(
    table: RecordTable, router: Router, *, data: str, seed: int = 0, progress: Progress | None = None
) -> Evidence:
    """Forecast the queries of a data set by a router, and by the same router after labels of a part of them.

    Parameters
    ----------
    table : RecordTable
        Labelled queries; the models of the router's pool that it holds are judged.
    router : Router
        Made by `Router.day_one`, or by `Router.learn` since. It stays as it is: a copy learns.
    data : str
        What the report calls the data.
    seed : int
        Of the split.
    progress : callable, optional
        As for `evidence_from_bundle`.

    Returns
    -------
    Evidence
        With the predictions ``raw kNN16`` (unweighted means over 16 neighbours), ``as given`` and ``with N
        labels``; a fifth of the queries is learned from, the rest is judged. A query that lies on top of one
        that the router knows is left out.

    Raises
    ------
    RecordError
        Fewer than two of its models are in the data, or nothing is left to judge.
    """
    import eccos_rs
    from eccos_rs.domain.query import Query

    names = [name for name in router.pool.names if name in table.models]
    if len(names) < 2:
        raise RecordError(
            f"data: {len(names)} of its models are in the pool, wanted at least two; the data have "
            f"{', '.join(table.models)}, the pool {', '.join(router.pool.names)}. Name them alike (name = in "
            "the pool file)"
        )
    table = table.select_models(names)
    rows = divide_rows(table, np.zeros(len(table), np.bool_), seed)
    queries = [Query.of(text) for text in table.select(rows.judged).query]
    with (progress or silent)("forecasting", len(queries)) as advance:
        first = router.predictor.predict(queries)
        advance(len(queries))
    new = np.ones(len(queries), np.bool_) if first.similarity is None else ~(first.similarity >= SAME)
    if new.sum() < 2:
        raise RecordError(
            "data: every query lies on top of one that the router has learned; evaluate it on other data"
        )
    judged, fit = table.select(rows.judged[new]), table.select(rows.fit)
    queries = [query for query, one in zip(queries, new.tolist(), strict=True) if one]
    first = first.rows(np.flatnonzero(new))
    learner: Router = pickle.loads(pickle.dumps(router))
    learner.learn(fit)
    with (progress or silent)("forecasting again", len(queries)) as advance:
        second = learner.predictor.predict(queries)
        advance(len(queries))
    pool = router.pool.select(names)
    made = [
        _as_predictions(GIVEN, first, pool, queries),
        _as_predictions(f"with {len(fit)} labels", second, pool, queries),
    ]
    plain = _plain(first, fit, router, pool)
    made = made if plain is None else [plain, *made]
    left = int((~new).sum())
    sentence = (
        f"{len(fit):,} queries were set apart to learn from, and for routers to fit themselves on; the rest "
        "is judged." + (f" {left:,} that lie on top of what the router knows are left out." if left else "")
    )
    rests = ", ".join(f"{row.model}: {row.basis}" for row in router.knowledge() if row.model in names)
    return Evidence(
        test_set=HeldOutSet(judged, -first.select(names).quality.mean(axis=1), list_prices(judged)),
        fits=(fit,),
        predictions={each.name: each for each in made},
        best=GIVEN,
        plain=None if plain is None else PLAIN,
        about={
            "data": data,
            "judged": len(judged),
            "fit": len(fit),
            "models": names,
            "split": sentence,
            "version": eccos_rs.__version__,
            "predictor": f"what is known of the models ({rests})",
        },
    )


def _as_predictions(name: str, made: Prediction, pool: Pool, queries: Sequence[Query]) -> Predictions:
    from eccos_rs.routing.problem import query_costs

    made = made.select(pool.names)
    seconds = sum(made.seconds.values()) / max(1, len(queries))
    return Predictions(name, made.quality, query_costs(pool, made, queries), made.log_tokens, seconds)


def _plain(first: Prediction, fit: RecordTable, router: Router, pool: Pool) -> Predictions | None:
    """Average the outcomes of the 16 nearest queries that were set apart, as AIOS does."""
    from eccos_rs.domain.query import Query

    known = router.predictor.predict([Query.of(text) for text in fit.query]).embedding
    if first.embedding is None or known is None:
        return None
    near = np.argsort(-(first.embedding @ known.T), axis=1, kind="stable")[:, : min(NEIGHBOURS, len(fit))]
    return neighbour_means(
        PLAIN, near=near, success=fit.quality, tokens=fit.output_tokens, input_tokens=first.input_tokens,
        prices=np.array([(model.input_price, model.output_price) for model in pool], dtype=np.float64),
        seconds=sum(first.seconds.values()) / max(1, len(near)),
    )  # fmt: skip
