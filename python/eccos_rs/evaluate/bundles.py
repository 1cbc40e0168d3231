"""Evidence out of a bundle: what it was trained on is kept out, the rest is forecast in every way."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from eccos_rs.errors import RecordError
from eccos_rs.evaluate.evidence import Evidence, complete_rows, list_prices, pooled
from eccos_rs.evaluate.forecasters import PLAIN, Forecasts, trained_texts
from eccos_rs.evaluate.harness import HeldOutSet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from contextlib import AbstractContextManager

    from eccos_rs.predict.bundle import Bundle
    from eccos_rs.records import RecordTable

    Progress = Callable[[str, int], AbstractContextManager[Callable[[int], object]]]

__all__ = [
    "LEAST_FIT",
    "SAME",
    "divide_rows",
    "evidence_from_bundle",
    "evidence_from_folds",
    "seen_rows",
    "silent",
]

#: With fewer labelled queries to fit a router on, a fifth of the unseen ones is set apart for that.
LEAST_FIT = 50
# Where a bundle does not record its texts: a query as close as this to a labelled one is taken for the same.
# Eight-bit
# precision moves a text's own embedding by less.
SAME = 0.98


def seen_rows(table: RecordTable, bundle: Bundle) -> npt.NDArray[np.bool_] | None:
    """Return which rows a bundle was trained on, by its record of their texts; None if it keeps none.

    A row whose text is nearly that of a seen row counts as seen.
    """
    from eccos_rs.records import text_groups
    from eccos_rs.records.fingerprint import was_seen

    known = trained_texts(bundle)
    if known is None:
        return None
    groups = text_groups(table.query)
    return np.isin(groups, groups[was_seen(table.query, known)])


@dataclass(frozen=True, eq=False)
class _Rows:
    """Which rows are judged, which may be learned from, and how that came about."""

    judged: npt.NDArray[np.int64]
    fit: npt.NDArray[np.int64]
    sentence: str


def divide_rows(table: RecordTable, seen: npt.NDArray[np.bool_], seed: int) -> _Rows:
    """Part the rows that were not seen into those that are judged and those that may be learned from."""
    from eccos_rs.records import split_by_text

    whole = complete_rows(table)
    judged, fit = np.flatnonzero(whole & ~seen), np.flatnonzero(seen & whole)
    dropped = int((~whole & ~seen).sum())
    sentence = (
        f"None of these texts, nor a near copy of one, was trained on ({int(seen.sum()):,} queries of the "
        "data were, and are left out)."
    )
    if dropped:
        sentence += f" {dropped:,} more are left out because some model was not asked."
    if len(fit) < LEAST_FIT and len(judged) >= 2:
        some, rest = split_by_text(table.select(judged), [0.2, 0.8], seed)
        judged, fit = judged[rest], judged[some]
        sentence += f" {len(fit):,} others were set apart for routers to fit themselves on."
    if not len(judged) or not len(fit):
        raise RecordError(
            f"data: of {len(table)} queries {int(seen.sum())} were trained on and {dropped} lack a model's "
            f"answer; {len(judged)} are left to judge, wanted at least 2. Evaluate on other data, or train "
            "on a part of these with --train-fraction"
        )
    return _Rows(judged, fit, sentence)


def evidence_from_bundle(
    table: RecordTable,
    bundle: Bundle,
    *,
    data: str,
    seen: npt.NDArray[np.bool_] | None = None,
    device: str = "auto",
    threads: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Evidence:
    """Forecast the queries of a data set that a bundle has not seen.

    Parameters
    ----------
    table : RecordTable
        Labelled queries; the models that the bundle knows are judged.
    bundle : Bundle
        A trained router.
    data : str
        What the report calls the data.
    seen : ndarray of bool, shape (N,), optional
        Rows that were trained on, where the caller knows; else the bundle's record says.
    device, threads
        As for `Bundle.predictor`.
    seed : int
        Of the split for fitting, when one is needed.
    progress : callable, optional
        Takes a label and a number of steps; a context manager that yields a function to call with steps done.

    Returns
    -------
    Evidence
        With the predictions ``raw kNN16`` (unweighted means over 16 neighbours, where the bundle or the data
        hold the labels as observed), ``retrieval``, ``trained``, ``hybrid`` and ``raw hybrid``.

    Raises
    ------
    RecordError
        Fewer than two of its models are in the data, or nothing is left to judge.
    """
    import eccos_rs
    from eccos_rs.domain.query import Query
    from eccos_rs.pools.pool import Pool

    names = [name for name in bundle.models if name in table.models]
    if len(names) < 2:
        raise RecordError(
            f"data: {len(names)} of its models are in the bundle {bundle.name!r}, wanted at least two; the "
            f"data have {', '.join(table.models)}, the bundle {', '.join(bundle.models)}"
        )
    table = table.select_models(names)
    pool = Pool.load(bundle.pool_path).select(names)
    made = f"bundle {bundle.name}" if seen is None else "a router trained on the rest of the data"
    if seen is None:
        seen = seen_rows(table, bundle)
    unknown = seen is None
    rows = divide_rows(table, np.zeros(len(table), np.bool_) if seen is None else seen, seed)
    forecasts = Forecasts(bundle, device, threads)
    queries = [Query.of(text) for text in table.select(rows.judged).query]
    with (progress or silent)("forecasting", len(queries)) as advance:
        first = forecasts.first(queries, advance)
    if unknown and first.similarity is not None:
        # The bundle keeps no record: what lies on top of a labelled query was trained on.
        new = ~(first.similarity >= SAME)
        first = first.rows(np.flatnonzero(new))
        queries = [query for query, kept in zip(queries, new.tolist(), strict=True) if kept]
        rows = _without(rows, new)
    judged, fit = table.select(rows.judged), table.select(rows.fit)
    predictions = forecasts.predictions(pool, table, queries, first)
    return Evidence(
        test_set=HeldOutSet(judged, -predictions["hybrid"].quality.mean(axis=1), list_prices(judged)),
        fits=(fit,),
        predictions=predictions,
        best="hybrid",
        plain=PLAIN if PLAIN in predictions else None,
        about={
            "data": data,
            "judged": len(judged),
            "fit": len(fit),
            "models": names,
            "split": rows.sentence,
            "version": eccos_rs.__version__,
            "predictor": f"{made} ({forecasts.described()})",
            "bundle_sha256": bundle.digest,
        },
    )


def evidence_from_folds(
    table: RecordTable,
    trained: Iterable[tuple[Bundle, npt.NDArray[np.bool_]]],
    *,
    data: str,
    device: str = "auto",
    threads: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Evidence:
    """Forecast every query by a router that was trained without it.

    Parameters
    ----------
    table : RecordTable
        Labelled queries.
    trained : iterable of (Bundle, ndarray of bool)
        Routers, and the rows that each was trained on; see `eccos_rs.evaluate.training.train_folds`.
    data, device, threads, seed, progress
        As for `evidence_from_bundle`.

    Returns
    -------
    Evidence
        In as many parts as there are routers.
    """
    parts = [
        evidence_from_bundle(
            table, bundle, data=data, seen=seen, device=device, threads=threads, seed=seed, progress=progress
        )
        for bundle, seen in trained
    ]
    return pooled(
        parts,
        f"Each was forecast by one of {len(parts)} routers that had seen neither its text nor a near copy of "
        "it: the queries were split by text into as many parts, and each router was trained on all parts but "
        "one.",
        parts[0].about["predictor"].replace("a router trained", f"{len(parts)} routers, each trained"),
    )


def _without(rows: _Rows, new: npt.NDArray[np.bool_]) -> _Rows:
    if not new.any():
        raise RecordError(
            "data: every query lies on top of one that the bundle was trained on; evaluate on other data, "
            "or train on a part of these with --train-fraction"
        )
    sentence = (
        f"The bundle keeps no record of its training texts; {int((~new).sum()):,} queries whose embedding is "
        f"that of one of its labelled queries (similarity of {SAME} or more) are left out."
    )
    return _Rows(rows.judged[new], rows.fit, sentence)


@contextmanager
def silent(label: str, total: int) -> Iterator[Callable[[int], object]]:
    """Show nothing."""
    yield lambda steps: None
