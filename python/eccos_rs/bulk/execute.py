"""Carry out a plan: ask every row's model once, under a ceiling, with a journal that a kill does not harm."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections import deque
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from eccos_rs.bulk.batch_endpoint import OpenAIBatches, batch_row
from eccos_rs.bulk.batches import Lane
from eccos_rs.bulk.columns import plain_json
from eccos_rs.bulk.passes import reduced_cost
from eccos_rs.bulk.run_state import ExecuteOptions, RunReport, RunState
from eccos_rs.bulk.source import Part
from eccos_rs.domain.llm import LLM
from eccos_rs.domain.pricing import model_cost
from eccos_rs.records.collect.earlier import EarlierCalls, stamp
from eccos_rs.records.collect.endpoint import Caller, CallError
from eccos_rs.records.collect.journal import Journal, read_journal
from eccos_rs.records.collect.money import SpendLedger
from eccos_rs.records.collect.state import CUT_OFF
from eccos_rs.records.collect.turns import shared_turns
from eccos_rs.records.collect.usage import check_usage, most_input_tokens
from eccos_rs.records.files import replacing
from eccos_rs.records.tokens import estimate_tokens

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from eccos_rs.bulk.job import FileJob
    from eccos_rs.bulk.joint import JointAnswer
    from eccos_rs.domain.query import Query
    from eccos_rs.pools.pool import Limit

__all__ = ["ExecuteOptions", "Execution", "RunReport"]

MOST_ERRORS = 20
_LIVE = 0.25
"""Share of the time until the deadline that is kept for rows that the batch lane does not bring."""


@dataclass(slots=True)
class _Row:
    """A row to be asked: its key, its query, its models, the best first, and its batch lane, if any."""

    key: str
    query: Query
    models: list[str]
    batch: str | None = None


@dataclass(slots=True)
class Execution:
    """One run over a planned job.

    Parameters
    ----------
    job : FileJob
        Planned: its predictions and its answer are on disk.
    parts : int
    answer : JointAnswer
    options : ExecuteOptions
    """

    job: FileJob
    parts: int
    answer: JointAnswer
    options: ExecuteOptions
    state: RunState = field(default_factory=RunState)
    report: RunReport = field(default_factory=RunReport)
    _callers: dict[str, Caller] = field(default_factory=dict)
    _ledger: SpendLedger = field(default_factory=SpendLedger)
    _end: float | None = None
    _late: set[str] = field(default_factory=set)

    def run(self, progress: Callable[[str, int], object] | None = None) -> RunReport:
        """Ask what is missing, write the answers of whole parts, and report.

        Raises
        ------
        RecordError
            Another run writes the journal, or it is damaged.
        PoolError
            A planned model has no endpoint, or its key is not set.
        """
        return asyncio.run(self._run(progress or (lambda stage, rows: None)))

    async def _run(self, tell: Callable[[str, int], object]) -> RunReport:
        reached = [model for model in self.job.router.pool if model.endpoint is not None]
        planned = [model for model in reached if model.lane != "batch"]
        lanes = {model.name: model for model in reached if model.lane == "batch"}
        options = self.options
        shared = shared_turns(self.job.router.pool)
        self._callers = {
            m.name: Caller(m, options.concurrency, options.timeout, shared[m.name]) for m in planned
        }
        place = self.job.out / "_eccos" / "run.journal.jsonl"
        earlier = EarlierCalls()

        def replay(event: dict[str, Any]) -> None:
            self.state.apply(event)
            earlier.apply(event)

        log = Journal.open(place, {}, replay)
        earlier.count(self._callers)
        endpoints = {name: OpenAIBatches(model, options.timeout) for name, model in lanes.items()}
        lane = Lane(
            lanes, endpoints, self.state.batches, self._ledger,
            answered=self.state.answered, record=partial(self._record, log), poll=options.batch_poll,
        )  # fmt: skip
        doubtful = dict(self.state.open) if options.in_doubt == "skip" else {}
        self.report.found = len(self.state.answered)
        self._end = None if options.deadline is None else time.monotonic() + options.deadline
        try:
            if self.state.began is None:
                await self._record(log, {"event": "began", "at": round(time.time(), 3)})
            for row, amount in [] if doubtful else list(self.state.open.items()):
                event = {"event": "unsure", "row": row, "unsure_usd": amount, **earlier.cut_off(row)}
                await self._record(log, event)
            self._ledger.ceiling = options.max_cost
            self._ledger.spent = self.state.spent
            self._ledger.unsure = self.state.unsure + sum(doubtful.values())
            await lane.resume()
            for part in self._parts():
                rows = list(self._rows(part, doubtful, lanes))
                await self._submit(lane, lanes, [row for row in rows if row.batch is not None])
                await self._ask_all(log, [row for row in rows if row.batch is None], tell)
                self._write_part(part, place, doubtful)
            if lanes:
                await self._after_batches(lane, log, doubtful, tell)
        finally:
            await log.close()
            for caller in self._callers.values():
                await caller.close()
            for endpoint in endpoints.values():
                await endpoint.close()
        return self._finish(doubtful)

    def _parts(self) -> Iterator[Part]:
        for part in self.job.source.parts():
            assert isinstance(part, Part)  # all parts were asked for
            yield part

    async def _submit(self, lane: Lane, lanes: Mapping[str, LLM], rows: list[_Row]) -> None:
        for name, model in lanes.items():
            longest = self.options.max_output_tokens
            own = [row for row in rows if row.batch == name]
            await lane.submit(
                name,
                [
                    batch_row(each.key, each.query, model, each.query.max_output_tokens or longest)
                    for each in own
                ],
            )

    async def _after_batches(
        self, lane: Lane, log: Journal, doubtful: Mapping[str, float], tell: Callable[[str, int], object]
    ) -> None:
        """Wait for the batches, as long as time is left to ask live what they did not bring; then do that."""
        options = self.options
        until = (
            None if self._end is None or options.deadline is None else self._end - _LIVE * options.deadline
        )
        await lane.drain(until, tell)
        for error in lane.errors:
            self._fail(error)
        planned = self.report.rows, self.report.planned_usd
        for part in self._parts():
            await self._ask_all(log, list(self._rows(part, doubtful, {})), tell)
            self._write_part(part, self.job.out / "_eccos" / "run.journal.jsonl", doubtful)
        self.report.rows, self.report.planned_usd = planned

    def _rows(self, part: Part, doubtful: Mapping[str, float], lanes: Mapping[str, LLM]) -> Iterator[_Row]:
        """Yield the rows of a part that are still to be asked."""
        rows = self.job.predicted(part.number).load()
        model = self.job.chosen(part.number, rows, self.answer)
        value = reduced_cost(rows, self.answer.goal, self.answer.prices)
        names = self.job.router.pool.names
        self.report.rows += int((model >= 0).sum())
        pool = self.job.router.pool
        same = [{m.name for m in pool if m.key[:2] == each.key[:2]} for each in pool]
        planned, waiting = np.flatnonzero(model >= 0), self.state.batches.waiting
        self.report.planned_usd += float(rows.cost[planned, model[planned]].sum())
        for at in planned.tolist():
            key = f"{part.number}:{at}"
            if key in self.state.answered or key in doubtful or key in waiting:
                continue
            order = [int(model[at]), *(j for j in value[at].argsort().tolist() if j != model[at])]
            open_to = [names[j] for j in order if np.isfinite(value[at, j]) and names[j] in self._callers]
            own = same[int(model[at])]
            # What a lane does not bring is asked of the same model at once.
            open_to.sort(key=lambda name: name not in own)
            batch = names[model[at]] if names[model[at]] in lanes else None
            if key in self.state.batches.returned:
                batch = None
            yield _Row(key, part.queries[at], open_to, batch)

    async def _ask_all(self, log: Journal, rows: list[_Row], tell: Callable[[str, int], object]) -> None:
        queues: dict[str, deque[_Row]] = {name: deque() for name in self._callers}
        # Those that are wanted soonest first.
        for row in sorted(rows, key=lambda row: row.query.deadline or math.inf):
            if row.models:
                queues[row.models[0]].append(row)
            else:
                self._fail("no model with an endpoint may take it")

        async def work(name: str) -> None:
            queue = queues[name]
            while queue and not self._over():
                row = queue.popleft()
                if await self._row(log, row):
                    tell("ask", 1)

        async with asyncio.TaskGroup() as group:
            for name, queue in queues.items():
                for _ in range(min(self._callers[name].slots, len(queue))):
                    group.create_task(work(name))

    def _over(self) -> bool:
        return self._ledger.closed or (self._end is not None and time.monotonic() >= self._end)

    def _until(self, query: Query) -> float:
        """Return until when a query may be asked, on the monotonic clock."""
        own = math.inf
        if query.deadline is not None:
            assert self.state.began is not None  # the run has begun
            own = time.monotonic() + self.state.began + query.deadline - time.time()
        return min(own, math.inf if self._end is None else self._end)

    def _is_late(self, query: Query) -> bool:
        return query.deadline is not None and time.monotonic() >= self._until(query)

    async def _row(self, log: Journal, row: _Row) -> bool:
        """Ask a row's models one after another until one answers."""
        if self._is_late(row.query):
            self._late.add(row.key)
            return False
        reason = "no model answered"
        for at, name in enumerate(row.models):
            caller = self._callers[name]
            if caller.fatal is not None:
                reason = f"{name}: {caller.fatal}"
                continue
            try:
                return await self._ask(
                    log, row, caller, moved=at > 0 or row.key in self.state.batches.returned
                )
            except CallError as error:
                reason = f"{name}: {error}"
            if self._over() or self._is_late(row.query):
                break
        self._fail(reason)
        await self._record(log, {"event": "failed", "row": row.key, "error": reason})
        return False

    async def _ask(self, log: Journal, row: _Row, caller: Caller, *, moved: bool) -> bool:
        """Ask one model, again where that may help; False when the money or the time is over."""
        messages = [dict(m) for m in row.query.messages or ({"role": "user", "content": row.query.text},)]
        limit, longer = row.query.max_output_tokens or self.options.max_output_tokens, 0
        attempt = 0
        while True:
            attempt += 1
            async with caller.turn(messages, limit, self._until(row.query)) as turn:
                if self._over():
                    return False
                if self._is_late(row.query):
                    self._late.add(row.key)
                    return False
                most = model_cost(caller.model, most_input_tokens(messages), limit)
                held = await self._ledger.reserve(most)
                if held is None:
                    return False
                with self._ledger.hold(held):
                    asked = {"event": "asked", "row": row.key, "model": caller.model.name, "hold_usd": most}
                    await self._record(log, {**asked, **stamp(turn.tokens)})
                    try:
                        reply = await caller.ask(messages, turn, longest=limit, temperature=None, key=row.key)
                    except CallError as error:
                        unsure = held.doubt(most) if error.charged else 0.0
                        event = {"event": "unsure", "row": row.key, "unsure_usd": unsure, "error": str(error)}
                        await self._record(log, {**event, **stamp(turn.counted)})
                        if not error.again or attempt >= self.options.retry.attempts:
                            raise
                        pause = self.options.retry.wait(attempt + 1, error.wait)
                    else:
                        usage = check_usage(
                            reply.usage, messages, reply.text, longest=limit, count=estimate_tokens
                        )
                        turn.used = usage.tokens
                        caller.sizes.learn(messages, usage)
                        cost = model_cost(caller.model, usage.input_tokens, usage.output_tokens)
                        held.spend(cost)
                        cut = reply.finish in CUT_OFF
                        if cut and longer < self.options.longer and row.query.max_output_tokens is None:
                            event = {"event": "cut", "row": row.key, "cost_usd": cost}
                            await self._record(log, {**event, **stamp(usage.tokens)})
                            longer, limit, pause = longer + 1, 2 * limit, 0.0
                        else:
                            await self._record(log, {
                                "event": "answered", "row": row.key, "model": caller.model.name,
                                "text": reply.text, "finish": reply.finish, "cost_usd": cost,
                                "input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens,
                                "seconds": round(reply.seconds, 3), "cut": cut, "moved": moved,
                                "refused": reply.finish == "content_filter", **stamp(usage.tokens),
                            })  # fmt: skip
                            return True
            await asyncio.sleep(pause)

    async def _record(self, log: Journal, event: dict[str, Any]) -> None:
        await log.append(event)
        self.state.apply(event)

    def _fail(self, reason: str) -> None:
        if reason in self.report.failures or len(self.report.failures) < MOST_ERRORS:
            self.report.failures[reason] = self.report.failures.get(reason, 0) + 1

    def _write_part(self, part: Part, journal: Any, doubtful: Mapping[str, float]) -> None:
        """Write the answers of a part, those that are there: readable while the rest runs."""
        wanted = {f"{part.number}:{at}": at for at in range(len(part.queries))}
        found: dict[int, dict[str, Any]] = {}

        def keep(event: dict[str, Any]) -> None:
            at = wanted.get(str(event.get("row")))
            if at is not None and event.get("event") == "answered":
                found.setdefault(at, event)

        read_journal(journal, keep)
        own = None if part.own is None else part.own.to_pylist()
        with (
            replacing(self.job.out / f"answers-{part.number:05d}.jsonl") as beside,
            beside.open("wb") as stream,
        ):
            for at, query in enumerate(part.queries):
                event = found.get(at)
                row: dict[str, Any] = {"file": part.file.name, "row": part.first + at + 1, "id": query.id}
                if event is None:
                    missing = "late" if self._is_late(query) else "missing"
                    row["status"] = "in doubt" if f"{part.number}:{at}" in doubtful else missing
                else:
                    row |= {"status": "answered", "model": event["model"], "answer": event["text"]}
                    names = ("finish", "input_tokens", "output_tokens", "cost_usd", "seconds")
                    row |= {name: event[name] for name in names}
                for name, value in ({"query": query.prompt} if own is None else own[at]).items():
                    row[f"given_{name}" if name in row and name != "id" else name] = (
                        row["id"] if name == "id" else value
                    )
                stream.write(
                    json.dumps(plain_json(row), ensure_ascii=False).encode("utf-8", "replace") + b"\n"
                )

    def _finish(self, doubtful: Mapping[str, float]) -> RunReport:
        report, state = self.report, self.state
        report.answered = len(state.answered)
        report.spent_usd, report.unsure_usd = state.spent, state.unsure
        report.in_doubt, report.in_doubt_usd = len(doubtful), sum(doubtful.values())
        report.late = len(self._late)
        report.cut, report.refused = state.tallies["cut"], state.tallies["refused"]
        report.moved, report.models = state.tallies["moved"], dict(state.models)
        report.batched = state.tallies["batch"]
        if report.answered < report.rows:
            late = bool(self._late) or (self._end is not None and time.monotonic() >= self._end)
            report.stopped = "max_cost" if self._ledger.closed else "deadline" if late else "failed"
        with replacing(self.job.out / "report.json") as beside:
            beside.write_text(json.dumps(report.to_dict(), indent=1, ensure_ascii=False), encoding="utf-8")
        return report


def capacity_until(limits: LLM | Limit, seconds: float) -> float:
    """Return how many requests the rate of a model, or of several together, lets through within a time."""
    if isinstance(limits, LLM) and seconds < limits.lane_seconds:
        # It may answer too late.
        return 0.0
    per_minute = limits.requests_per_minute
    return float("inf") if per_minute is None else max(1.0, per_minute * seconds / 60.0)
