"""The store of a session or a gateway as traffic: when requests came, who answered, what it cost."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from eccos_rs.errors import InputError
from eccos_rs.pools.columns import find_column
from eccos_rs.session.redis_client import is_redis_url
from eccos_rs.session.store import open_store
from eccos_rs.session.store.opening import sqlite_path
from eccos_rs.whatif.traffic import spanned_days

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eccos_rs.pools.pool import Pool
    from eccos_rs.session.store import Served
    from eccos_rs.whatif.traffic import LoggedTraffic

__all__ = ["read_served", "served_traffic"]


def read_served(url: str) -> list[Served]:
    """Read the decisions of a store, the oldest first.

    Parameters
    ----------
    url : str
        As of `open_store`: an SQLite file or a Redis server.

    Raises
    ------
    InputError
        There is no such store, or nothing was decided in it yet.
    StoreError
        It is damaged, of another program, or not to be reached.
    """
    if url.startswith("memory:"):
        raise InputError(
            "store: memory:// ends with its process; wanted sqlite:///path or redis://host:port/db"
        )
    if not is_redis_url(url) and not Path(sqlite_path(url)).is_file():
        # Opening would make one.
        raise InputError(f"store: there is no file {sqlite_path(url)}")
    store = open_store(url)
    try:
        found = store.served()
    finally:
        store.close()
    if not found:
        raise InputError(f"store {store.url}: holds no decision yet")
    return found


def served_traffic(
    traffic: LoggedTraffic, served: Sequence[Served], pool: Pool, *, sample: int, seed: int = 0
) -> LoggedTraffic:
    """Return the traffic of a store, its texts drawn from a log.

    A store holds no texts. Each of its requests gets a row of the log, one that the log says the same model
    answered where there is any; when it came and which model answered are the store's.

    Parameters
    ----------
    traffic : LoggedTraffic
        The log.
    served : sequence of Served
        The oldest first.
    pool : Pool
        The models of today.
    sample : int
        Requests of the store that are looked at, a fair sample of more.
    seed : int
        Of the draws.

    Raises
    ------
    InputError
        The store spans no time.
    """
    rng = np.random.default_rng(seed)
    kept = list(served)
    if len(kept) > sample:
        kept = [kept[at] for at in np.sort(rng.choice(len(kept), sample, replace=False)).tolist()]
    seconds = served[-1].at - served[0].at
    if seconds <= 0:
        raise InputError("store: all its requests came at one moment; the traffic of a day is not known")
    columns = {name: find_column(name, pool) for name in {each.model for each in kept}}
    by = np.array([columns[each.model] for each in kept], dtype=np.intp)
    rows = np.empty(len(kept), dtype=np.intp)
    for column in np.unique(by).tolist():
        mine = np.flatnonzero(by == column)
        fitting = np.arange(len(traffic.queries))
        if column >= 0 and traffic.answered_by is not None and (traffic.answered_by == column).any():
            fitting = np.flatnonzero(traffic.answered_by == column)
        rows[mine] = rng.choice(fitting, len(mine))
    return replace(
        traffic,
        queries=tuple(traffic.queries[row] for row in rows.tolist()),
        prediction=traffic.prediction.rows(rows),
        days=spanned_days(seconds, len(served)),
        scale=len(served) / len(kept),
        arrival=np.array([each.at for each in kept]),
        answered_by=by if (by >= 0).any() else None,
        remarks=(*_remarks(served, pool), *traffic.remarks),
        span_remark=None,
    )


def _remarks(served: Sequence[Served], pool: Pool) -> list[str]:
    settled = [each for each in served if each.real_cost is not None]
    judged = [each for each in served if each.quality is not None]
    said = [f"{len(served):,} requests of the store; it holds no texts: those of the log stand for them"]
    if settled:
        real, planned = (
            sum(getattr(each, name) or 0.0 for each in settled) for name in ("real_cost", "cost")
        )
        said.append(f"{len(settled):,} of them really cost US$ {real:.4g}, forecast were US$ {planned:.4g}")
    if judged:
        good, hoped = (
            float(np.mean([getattr(each, name) for each in judged])) for name in ("quality", "expected")
        )
        said.append(
            f"{len(judged):,} were judged: mean success {100 * good:.1f} %, forecast were {100 * hoped:.1f} %"
        )
    if gone := sorted(name for name in {each.model for each in served} if find_column(name, pool) < 0):
        said.append(f"not in the pool any more: {', '.join(gone)}")
    return said
