"""Carry out a plan: ask every row's model once, under a ceiling, with a journal that a kill does not harm."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter, deque
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from eccos_rs.bulk.columns import plain_json
from eccos_rs.bulk.passes import reduced_cost
from eccos_rs.bulk.source import Part
from eccos_rs.domain.pricing import model_cost
from eccos_rs.errors import InputError
from eccos_rs.records.collect.endpoint import Caller, CallError, Retry
from eccos_rs.records.collect.journal import Journal, read_journal
from eccos_rs.records.collect.money import Ledger
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
    from eccos_rs.pools.pool import LLM

__all__ = ["ExecuteOptions", "Execution", "RunReport"]

MOST_ERRORS = 20


@dataclass(frozen=True, slots=True)
class ExecuteOptions:
    """How to carry out a plan.

    Attributes
    ----------
    max_cost : float or None
        US dollars for the whole job, earlier runs included. A call holds the most that it can cost.
    deadline : float or None
        Seconds from now after which nothing new is asked.
    concurrency : int
        Calls at once to a model without slots in the pool file.
    max_output_tokens : int
        Longest answer, for rows that do not say.
    longer : int
        How often an answer that the limit cut off is asked again, with twice the limit each time.
    in_doubt : {"retry", "skip"}
        What becomes of rows whose answer a kill cut off: the provider may have charged for them.
    retry : Retry
    timeout : float or None
        Seconds for a call; by default each endpoint's own.
    """

    max_cost: float | None = None
    deadline: float | None = None
    concurrency: int = 8
    max_output_tokens: int = 4096
    longer: int = 1
    in_doubt: Literal["retry", "skip"] = "retry"
    retry: Retry = field(default_factory=Retry)
    timeout: float | None = None

    def __post_init__(self) -> None:
        if self.in_doubt not in ("retry", "skip"):
            raise InputError(f"in_doubt: got {self.in_doubt!r}, wanted retry or skip")
        for name in ("concurrency", "max_output_tokens"):
            if getattr(self, name) < 1:
                raise InputError(f"{name}: got {getattr(self, name)}, wanted 1 or more")
        for name in ("max_cost", "deadline"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < float("inf"):
                raise InputError(f"{name}: got {value}, wanted 0 or more")


@dataclass(slots=True)
class RunReport:
    """What a job came to.

    Attributes
    ----------
    stopped : {"done", "max_cost", "deadline", "failed"}
        Every row has an answer; the ceiling or the deadline was reached; or some rows failed for good.
    rows, answered, found : int
        Rows to be asked, answers there now, and those that an earlier run had left.
    planned_usd, spent_usd, unsure_usd : float
        What the plan foresaw; what the answers cost; what calls without an answer may have cost at most.
    in_doubt, in_doubt_usd : int, float
        Rows left alone because a kill cut their call off (``skip``), and what those may have cost at most.
    cut, refused, moved : int
        Answers still cut off by the limit, refused by the model, and given by another model than planned.
    models : dict
        Answers of each model.
    failures : dict
        Error to the number of rows, the first kinds.
    """

    stopped: str = "done"
    rows: int = 0
    answered: int = 0
    found: int = 0
    planned_usd: float = 0.0
    spent_usd: float = 0.0
    unsure_usd: float = 0.0
    in_doubt: int = 0
    in_doubt_usd: float = 0.0
    cut: int = 0
    refused: int = 0
    moved: int = 0
    models: dict[str, int] = field(default_factory=dict)
    failures: dict[str, int] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, ready for JSON."""
        return asdict(self)


@dataclass(slots=True)
class _State:
    """What the journal says: answers by row, calls that are open, money."""

    answered: dict[str, str] = field(default_factory=dict)
    open: dict[str, float] = field(default_factory=dict)
    tallies: Counter[str] = field(default_factory=Counter)
    models: Counter[str] = field(default_factory=Counter)
    spent: float = 0.0
    unsure: float = 0.0

    def apply(self, event: Mapping[str, Any]) -> None:
        """Take in one event, in the order of the journal."""
        kind, row = event.get("event"), str(event.get("row"))
        if kind == "asked":
            self.open[row] = float(event["hold_usd"])
            return
        self.open.pop(row, None)
        self.spent += float(event.get("cost_usd", 0.0))
        self.unsure += float(event.get("unsure_usd", 0.0))
        if kind == "answered" and row not in self.answered:
            self.answered[row] = event["model"]
            self.models[event["model"]] += 1
            for tally in ("cut", "refused", "moved"):
                self.tallies[tally] += bool(event.get(tally))


@dataclass(slots=True)
class _Row:
    """A row to be asked: its key, its query, and its models, the best first."""

    key: str
    query: Query
    models: list[str]


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
    state: _State = field(default_factory=_State)
    report: RunReport = field(default_factory=RunReport)
    _callers: dict[str, Caller] = field(default_factory=dict)
    _ledger: Ledger = field(default_factory=Ledger)
    _end: float | None = None

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
        planned = [model for model in self.job.router.pool if model.endpoint is not None]
        options = self.options
        shared = shared_turns(self.job.router.pool)
        self._callers = {
            m.name: Caller(m, options.concurrency, options.timeout, shared[m.name]) for m in planned
        }
        place = self.job.out / "_eccos" / "run.journal.jsonl"
        log = Journal.open(place, {}, self.state.apply)
        doubtful = dict(self.state.open) if options.in_doubt == "skip" else {}
        self.report.found = len(self.state.answered)
        self._end = None if options.deadline is None else time.monotonic() + options.deadline
        try:
            for row, amount in [] if doubtful else list(self.state.open.items()):
                await self._record(log, {"event": "unsure", "row": row, "unsure_usd": amount})
            self._ledger.ceiling = options.max_cost
            self._ledger.spent = self.state.spent
            self._ledger.unsure = self.state.unsure + sum(doubtful.values())
            for part in self.job.source.parts():
                assert isinstance(part, Part)  # all parts were asked for
                rows = list(self._rows(part, doubtful))
                await self._ask_all(log, rows, tell)
                self._write_part(part, place, doubtful)
        finally:
            await log.close()
            for caller in self._callers.values():
                await caller.close()
        return self._finish(doubtful)

    def _rows(self, part: Part, doubtful: Mapping[str, float]) -> Iterator[_Row]:
        """Yield the rows of a part that are still to be asked."""
        rows = self.job.predicted(part.number).load()
        model = self.job.chosen(part.number, rows, self.answer)
        value = reduced_cost(rows, self.answer.goal, self.answer.prices)
        names = self.job.router.pool.names
        self.report.rows += int((model >= 0).sum())
        planned = np.flatnonzero(model >= 0)
        self.report.planned_usd += float(rows.cost[planned, model[planned]].sum())
        for at in planned.tolist():
            key = f"{part.number}:{at}"
            if key in self.state.answered or key in doubtful:
                continue
            order = [int(model[at]), *(j for j in value[at].argsort().tolist() if j != model[at])]
            open_to = [names[j] for j in order if np.isfinite(value[at, j]) and names[j] in self._callers]
            yield _Row(key, part.queries[at], open_to)

    async def _ask_all(self, log: Journal, rows: list[_Row], tell: Callable[[str, int], object]) -> None:
        queues: dict[str, deque[_Row]] = {name: deque() for name in self._callers}
        for row in rows:
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

    async def _row(self, log: Journal, row: _Row) -> bool:
        """Ask a row's models one after another until one answers."""
        reason = "no model answered"
        for at, name in enumerate(row.models):
            caller = self._callers[name]
            if caller.fatal is not None:
                reason = f"{name}: {caller.fatal}"
                continue
            try:
                return await self._ask(log, row, caller, moved=at > 0)
            except CallError as error:
                reason = f"{name}: {error}"
            if self._over():
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
            async with caller.turn():
                if self._over():
                    return False
                most = model_cost(caller.model, most_input_tokens(messages), limit)
                held = await self._ledger.reserve(most)
                if held is None:
                    return False
                with self._ledger.hold(held):
                    asked = {"event": "asked", "row": row.key, "model": caller.model.name, "hold_usd": most}
                    await self._record(log, asked)
                    try:
                        reply = await caller.ask(messages, longest=limit, temperature=None, key=row.key)
                    except CallError as error:
                        unsure = held.doubt(most) if error.charged else 0.0
                        await self._record(
                            log,
                            {"event": "unsure", "row": row.key, "unsure_usd": unsure, "error": str(error)},
                        )
                        if not error.again or attempt >= self.options.retry.attempts:
                            raise
                        pause = self.options.retry.wait(attempt + 1, error.wait)
                    else:
                        usage = check_usage(
                            reply.usage, messages, reply.text, longest=limit, count=estimate_tokens
                        )
                        cost = model_cost(caller.model, usage.input_tokens, usage.output_tokens)
                        held.spend(cost)
                        cut = reply.finish in CUT_OFF
                        if cut and longer < self.options.longer and row.query.max_output_tokens is None:
                            await self._record(log, {"event": "cut", "row": row.key, "cost_usd": cost})
                            longer, limit, pause = longer + 1, 2 * limit, 0.0
                        else:
                            await self._record(log, {
                                "event": "answered", "row": row.key, "model": caller.model.name,
                                "text": reply.text, "finish": reply.finish, "cost_usd": cost,
                                "input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens,
                                "seconds": round(reply.seconds, 3), "cut": cut, "moved": moved,
                                "refused": reply.finish == "content_filter",
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
                    row["status"] = "in doubt" if f"{part.number}:{at}" in doubtful else "missing"
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
        report.cut, report.refused = state.tallies["cut"], state.tallies["refused"]
        report.moved, report.models = state.tallies["moved"], dict(state.models)
        if report.answered < report.rows:
            late = self._end is not None and time.monotonic() >= self._end
            report.stopped = "max_cost" if self._ledger.closed else "deadline" if late else "failed"
        with replacing(self.job.out / "report.json") as beside:
            beside.write_text(json.dumps(report.to_dict(), indent=1, ensure_ascii=False), encoding="utf-8")
        return report


def capacity_until(model: LLM, seconds: float) -> float:
    """Return how many requests a model may take within some seconds by its requests per minute."""
    per_minute = model.requests_per_minute
    return float("inf") if per_minute is None else max(1.0, per_minute * seconds / 60.0)
