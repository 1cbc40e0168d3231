"""From a log to what is planned: every request with its forecasts at every model of every world."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from eccos_rs.domain.validation import check_number
from eccos_rs.errors import InputError, PoolError
from eccos_rs.pools.columns import find_column
from eccos_rs.pools.pool import Pool
from eccos_rs.records import RecordTable
from eccos_rs.routing.router import Router
from eccos_rs.start.draws import lengths_told
from eccos_rs.start.log import read_log

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from eccos_rs.domain.query import Query
    from eccos_rs.predict.protocol import Prediction
    from eccos_rs.start.log import Log
    from eccos_rs.whatif.wording import Added

__all__ = ["DAY", "LoggedTraffic", "live_pool", "read_traffic", "spanned_days"]

DAY = 86_400.0
_TIMED = 0.9
"""Share of the rows that must say when they came, for the log's times to be believed."""


@dataclass(frozen=True, eq=False)
class LoggedTraffic:
    """A log of requests with its forecasts.

    Attributes
    ----------
    name : str
    queries : tuple of N Query
        One for each row that was looked at, repetitions included.
    prediction : Prediction
        N rows; a column for every model of every world.
    told : ndarray of bool, shape (columns,)
        Of which models the lengths of answers were counted.
    days : float
        That the log spans.
    scale : float
        Rows of the log that each row stands for: above 1 where the log was sampled.
    arrival : ndarray of float64, shape (N,), or None
        Seconds since 1970, when each came; NaN for rows that do not say so; None without times.
    answered_by : ndarray of int, shape (N,), or None
        The column of the model that the log names; None where it names none of the pool.
    tokens_per_second : float
        Of an answer: how long it holds a slot.
    utilisation : float
        Share of the slots' time that may be planned with; the rest is for peaks.
    remarks : tuple of str
        What a reader should know of the log.
    span_remark : str, optional
        What a reader should know of its `days`.
    """

    name: str
    queries: tuple[Query, ...]
    prediction: Prediction
    told: NDArray[np.bool_]
    days: float
    scale: float = 1.0
    arrival: NDArray[np.float64] | None = None
    answered_by: NDArray[np.intp] | None = None
    tokens_per_second: float = 50.0
    utilisation: float = 0.8
    remarks: tuple[str, ...] = ()
    span_remark: str | None = None

    @property
    def all_remarks(self) -> tuple[str, ...]:
        """What is to be known of its days, then of the rest."""
        return self.remarks if self.span_remark is None else (self.span_remark, *self.remarks)

    def __post_init__(self) -> None:
        if not self.queries:
            raise InputError("the log holds no request")
        for name in ("days", "tokens_per_second"):
            check_number(name, getattr(self, name), error=InputError, above=True)
        check_number("utilisation", self.utilisation, error=InputError, most=1.0, above=True)

    @property
    def per_day(self) -> float:
        """Requests per day."""
        return len(self.queries) * self.scale / self.days

    def goal(self, pool: Pool, relative_quality: float, *, strongest: bool) -> tuple[str, float]:
        """Return the goal where nobody states a figure: as good as the models that the log names.

        Where it names none of the pool, or where `strongest` says so, it is a share of what the strongest
        model reaches.
        """
        if self.answered_by is not None and not strongest:
            rows = np.flatnonzero(self.answered_by >= 0)
            columns = self.columns(pool)[self.answered_by[rows]]
            return "min_quality", float(self.prediction.quality[rows, columns].mean(dtype=np.float64))
        mean = self.prediction.quality[:, self.columns(pool)].mean(axis=0, dtype=np.float64)
        return "min_quality", relative_quality * float(mean.max())

    def columns(self, pool: Pool) -> NDArray[np.intp]:
        """Return the columns of the prediction that a pool's models have, (M,)."""
        place = {name: at for at, name in enumerate(self.prediction.models)}
        return np.array([place[name] for name in pool.names], dtype=np.intp)


def live_pool(pool: Pool) -> Pool:
    """Return the models that answer at once: requests that may not wait go to no batch lane.

    Raises
    ------
    PoolError
        The pool holds batch lanes alone.
    """
    names = [model.name for model in pool if model.lane != "batch"]
    if not names:
        raise PoolError("every model of the pool is a batch lane; planning needs models that answer at once")
    return pool.select(names)


def read_traffic(
    log: str | Path,
    pool: Pool,
    *,
    added: Added | None = None,
    bundle: str | None = None,
    device: str = "auto",
    sample: int = 5_000,
    column: str | None = None,
    days: float | None = None,
    tokens_per_second: float = 50.0,
    utilisation: float = 0.8,
    seed: int = 0,
) -> LoggedTraffic:
    """Read a log and forecast its requests.

    Parameters
    ----------
    log : path
        See `eccos_rs.start.log.read_log`.
    pool : Pool
        The models of today.
    added : mapping of str to (LLM, Path or None)
        Models that some world adds, each with a file of labels where there is one.
    bundle : str, optional
        The router that forecasts; by default the shipped one that suits the pool.
    device : str
    sample : int
        Rows that are looked at, a fair sample of a longer log.
    column : str, optional
        The column with the text or the messages.
    days : float, optional
        That the log spans, where its rows do not say when they came.
    tokens_per_second, utilisation, seed
        As of `LoggedTraffic`.

    Raises
    ------
    InputError
        The log holds no request, or a number is out of its range.
    PoolError
        The router does not know an added model, and there are no labels of it.
    """
    if days is not None:
        check_number("days", days, error=InputError, above=True)
    found = read_log(log, sample=sample, column=column, seed=seed)
    router = _router(pool, {} if added is None else added, bundle, device)
    made = router.predict([entry.query for entry in found.entries])
    rows, times = _rows(found)
    by = np.array(
        [-1 if entry.today is None else find_column(entry.today, pool) for entry in found.entries],
        dtype=np.intp,
    )[rows]
    arrival = times if np.isfinite(times).mean() >= _TIMED else None
    span, span_remark = (days, None) if days is not None else _span(arrival)
    remarks = []
    if found.unreadable:
        remarks.append(
            f"{found.unreadable:,} rows hold no request and are left out; the first: {found.problem}"
        )
    if found.read < found.rows:
        remarks.append(f"{found.read:,} of {found.rows:,} rows were looked at, a fair sample")
    if found.models and not (by >= 0).any():
        remarks.append("none of the models that the log names is in the pool: today's point is not known")
    return LoggedTraffic(
        name=found.name,
        queries=tuple(found.entries[row].query for row in rows.tolist()),
        prediction=made.rows(rows).without_embedding(),
        told=lengths_told(router),
        days=span,
        scale=found.rows / max(found.read, 1),
        arrival=arrival,
        answered_by=by if (by >= 0).any() else None,
        tokens_per_second=tokens_per_second,
        utilisation=utilisation,
        remarks=tuple(remarks),
        span_remark=span_remark,
    )


def _rows(log: Log) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return the entry of each row, and when it came; NaN where it does not say."""
    rows = np.repeat(np.arange(len(log.entries)), [entry.count for entry in log.entries])
    times = np.full(len(rows), np.nan)
    start = 0
    for entry in log.entries:
        times[start : start + len(entry.times)] = entry.times
        start += entry.count
    return rows, times


def spanned_days(seconds: float, count: int) -> float:
    """Return the days that so many arrivals stand for, the last of them `seconds` after the first."""
    # N arrivals have N - 1 times between them.
    return seconds * count / (count - 1) / DAY


def _span(arrival: NDArray[np.float64] | None) -> tuple[float, str | None]:
    """Return the days that a log spans, and what is to be said of that."""
    if arrival is not None:
        seconds = float(np.nanmax(arrival) - np.nanmin(arrival))
        if seconds > 0.0:
            found = spanned_days(seconds, int(np.isfinite(arrival).sum()))
            told = f"the log spans {24 * found:.2g} hours: a day is taken as {1 / found:.3g} times it"
            return found, told if found < 1.0 else None
    return 1.0, "the log does not say when its requests came: it is taken as one day (--days says otherwise)"


def _router(pool: Pool, added: Added, bundle: str | None, device: str) -> Router:
    """Return a router that knows the pool and every added model; labels sharpen what it knows."""
    new = {name: model for name, (model, _) in added.items() if name not in pool.names}
    taken = sorted(set(added) - set(new))
    if taken:
        raise PoolError(f"model {taken[0]!r} is added and in the pool already; to change its price say price")
    every = Pool([*pool, *new.values()])
    try:
        router = Router.load(bundle, pool=every, device=device)
    except PoolError:
        if bundle is None or not new:
            raise
        router = Router.load(bundle, pool=pool, device=device)
        for name, model in new.items():
            labels = added[name][1]
            if labels is None:
                raise PoolError(
                    f"the bundle {bundle!r} does not know {name!r}; give labels of it "
                    f"(add {name}=labels.jsonl), or leave the bundle out to forecast it by published scores"
                ) from None
            router.add_model(model, RecordTable.read(labels))
        return router
    for path in {path: None for _, path in added.values() if path is not None}:
        router.learn(RecordTable.read(path))
    return router
