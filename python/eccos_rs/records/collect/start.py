"""Start a collection: check all that can be wrong, open the journal, run, write the records."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eccos_rs.errors import InputError, PoolError, RecordError
from eccos_rs.records.collect.earlier import EarlierCalls
from eccos_rs.records.collect.endpoint import Caller
from eccos_rs.records.collect.estimate import CollectEstimate, estimate_cost
from eccos_rs.records.collect.journal import Journal, read_journal
from eccos_rs.records.collect.options import CollectOptions, CollectSummary, Progress
from eccos_rs.records.collect.prompt import PROMPT_VERSION
from eccos_rs.records.collect.run import CollectRun
from eccos_rs.records.collect.state import State
from eccos_rs.records.collect.task import read_tasks
from eccos_rs.records.collect.turns import shared_turns
from eccos_rs.records.read import write_records

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from eccos_rs.pools.pool import LLM, Pool
    from eccos_rs.records.collect.task import Task

__all__ = ["collect", "collect_async", "estimate"]


def collect(
    tasks: str | Path | Sequence[Task],
    pool: Pool,
    out: str | Path,
    *,
    models: Sequence[str] | None = None,
    journal: str | Path | None = None,
    options: CollectOptions | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> CollectSummary:
    """Ask every task of every model, grade, price, and write records.

    Parameters
    ----------
    tasks : path or sequence of Task
        See `read_tasks`.
    pool : Pool
        Models with prices and endpoints.
    out : path
        Where the records go when the run ends: `.jsonl`, `.jsonl.gz` or `.parquet`.
    models : sequence of str, optional
        Ask these alone; by default all but a judge.
    journal : path, optional
        By default `out` with `.journal.jsonl` behind it. A run that was stopped, by whatever, goes on from
        there when it is
        started again in the same way: nothing that was answered is asked again.
    options : CollectOptions, optional
        Ceiling, concurrency, judge, retries.
    progress : callable, optional
        Called after every pair.

    Returns
    -------
    CollectSummary

    Raises
    ------
    RecordError
        A malformed task file; a journal that another run is writing, or that other settings made.
    PoolError
        A model without an endpoint, a key that is not set, an unknown judge.
    """
    listed = read_tasks(tasks) if isinstance(tasks, (str, Path)) else list(tasks)
    return asyncio.run(
        collect_async(listed, pool, out, models=models, journal=journal, options=options, progress=progress)
    )


async def collect_async(
    tasks: Sequence[Task],
    pool: Pool,
    out: str | Path,
    *,
    models: Sequence[str] | None = None,
    journal: str | Path | None = None,
    options: CollectOptions | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> CollectSummary:
    """Do as `collect`, inside a running event loop."""
    options = CollectOptions() if options is None else options
    asked = _asked(tasks, pool, models, options)
    out = Path(out)
    place = Path(f"{out}.journal.jsonl") if journal is None else Path(journal)
    # Made before the journal is opened, so that a mistake in the pool leaves no file behind.
    shared = shared_turns(pool)
    callers = {
        model.name: Caller(model, options.concurrency, options.timeout, shared[model.name]) for model in asked
    }
    judge = None
    if options.judge is not None and any(task.kind == "free" for task in tasks):
        judge = Caller(pool[options.judge], options.concurrency, options.timeout, shared[options.judge])
    state = State.of(
        tasks,
        None if judge is None else judge.model.name,
        grade_cut=options.grade_cut,
        twice=options.judge_twice,
    )
    settings = {
        "temperature": options.temperature,
        "prompt": PROMPT_VERSION,
    }
    earlier = EarlierCalls()

    def replay(event: dict[str, Any]) -> None:
        state.apply(event)
        earlier.apply(event)

    log = Journal.open(place, settings, replay)
    try:
        run = CollectRun(state, log, options, callers, judge, progress, earlier)
        await run.all(tasks)
    finally:
        await log.close()
        for caller in [*callers.values(), *([judge] if judge else [])]:
            await caller.close()
    records = list(state.records([model.name for model in asked]))
    return run.summary(write_records(out, records) if records else 0)


def estimate(
    tasks: Sequence[Task],
    pool: Pool,
    out: str | Path,
    *,
    models: Sequence[str] | None = None,
    journal: str | Path | None = None,
    options: CollectOptions | None = None,
) -> CollectEstimate:
    """Estimate what `collect` would cost, called in the same way; nothing is asked and nothing written.

    What the journal holds already is left out.
    """
    options = CollectOptions() if options is None else options
    asked = _asked(tasks, pool, models, options)
    place = Path(f"{out}.journal.jsonl") if journal is None else Path(journal)
    state = State.of(tasks, options.judge, grade_cut=options.grade_cut)
    read_journal(place, state.apply)
    judge = None if options.judge is None else pool[options.judge]
    return estimate_cost(tasks, asked, judge, state, options)


def _asked(
    tasks: Sequence[Task], pool: Pool, models: Sequence[str] | None, options: CollectOptions
) -> list[LLM]:
    if not tasks:
        raise RecordError("tasks: got none, wanted at least one")
    if options.judge is not None and options.judge not in pool.names:
        raise PoolError(f"judge: the pool has no model {options.judge!r}; it has {', '.join(pool.names)}")
    if options.judge is None and any(task.kind == "free" for task in tasks):
        raise InputError("judge: tasks of kind 'free' need a judge; name a model of the pool (--judge MODEL)")
    names = [name for name in pool.names if name != options.judge] if models is None else list(models)
    if not names:
        raise PoolError("models: nobody is left to be asked")
    return [pool[name] for name in names]
