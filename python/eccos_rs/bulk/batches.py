"""The batch lane of a run: rows that may wait go to an OpenAI-form batch endpoint, journaled like calls."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from eccos_rs.domain.pricing import model_cost
from eccos_rs.records.collect.endpoint import CallError, ModelReply, read_reply
from eccos_rs.records.collect.usage import check_usage
from eccos_rs.records.tokens import estimate_tokens

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence

    from eccos_rs.bulk.batch_endpoint import BatchEndpoint, BatchRow
    from eccos_rs.pools.pool import LLM
    from eccos_rs.records.collect.money import Reservation, SpendLedger

__all__ = ["BatchState", "BatchedJob", "Lane"]

MOST_ROWS, MOST_BYTES = 20_000, 90 * 1024 * 1024
"""Of one batch: providers take 50,000 rows and 100 or 200 MB."""
_ENDED = ("completed", "failed", "expired", "cancelled")
_CANCEL_SECONDS = 60.0


@dataclass(slots=True)
class BatchedJob:
    """A batch as the journal knows it.

    Attributes
    ----------
    token : str
        Ours.
    model : str
    rows : list of str
    hold : float
        US dollars that it can cost at most.
    id : str or None
        The provider's, once it is known.
    """

    token: str
    model: str
    rows: list[str]
    hold: float
    id: str | None = None


@dataclass(slots=True)
class BatchState:
    """What the journal says of batches: those that have not ended, and rows that came back unanswered."""

    open: dict[str, BatchedJob] = field(default_factory=dict)
    returned: set[str] = field(default_factory=set)

    def apply(self, event: Mapping[str, Any]) -> bool:
        """Take in an event; say whether it was one of a batch."""
        kind = event.get("event")
        if kind == "batching":
            rows = [str(row) for row in event["rows"]]
            self.open[event["batch"]] = BatchedJob(event["batch"], event["model"], rows, event["hold_usd"])
        elif kind == "batched":
            self.open[event["batch"]].id = event["id"]
        elif kind == "batch-ended":
            ended = self.open.pop(event["batch"])
            self.returned |= set(ended.rows)
        else:
            return False
        return True

    @property
    def waiting(self) -> set[str]:
        """Rows that are in a batch."""
        return {row for job in self.open.values() for row in job.rows}


class Lane:
    """Batches of a run, from their submission to their rows.

    Parameters
    ----------
    models : mapping of str to LLM
        Columns of the batch lane.
    endpoints : mapping of str to BatchEndpoint
    state : BatchState
        As the journal left it.
    ledger : SpendLedger
        Whose ceiling holds for what batches can cost.
    answered : collection of str
        Rows that have an answer, as the journal is written.
    record : callable
        Writes an event into the journal.
    poll : float
        Seconds between two looks.
    """

    def __init__(
        self,
        models: Mapping[str, LLM],
        endpoints: Mapping[str, BatchEndpoint],
        state: BatchState,
        ledger: SpendLedger,
        *,
        answered: Collection[str],
        record: Callable[[dict[str, Any]], Awaitable[None]],
        poll: float,
    ) -> None:
        self._models, self._endpoints = models, endpoints
        self._state, self._ledger, self._record, self._poll = state, ledger, record, poll
        self._answered = answered
        self._held: dict[str, Reservation] = {}
        self._sent: dict[str, dict[str, BatchRow]] = {}
        self.errors: list[str] = []

    async def resume(self) -> None:
        """Take up the batches that an earlier run has begun; one that was never created is given back."""
        for job in list(self._state.open.values()):
            held = await self._ledger.reserve(job.hold)
            if held is not None:
                self._held[job.token] = held
            if job.id is None:
                found = await self._endpoints[job.model].find(job.token)
                if found is None:
                    await self._end(job)
                else:
                    await self._record({"event": "batched", "batch": job.token, "id": found})

    async def submit(self, model: str, rows: Sequence[BatchRow]) -> None:
        """Begin as many batches as the rows take; those that cannot be begun come back at once."""
        for some in _cut(rows):
            hold = sum(row.most for row in some)
            held = await self._ledger.reserve(hold)
            if held is None:
                return
            token = secrets.token_hex(12)
            keys = [row.key for row in some]
            self._held[token], self._sent[token] = held, {row.key: row for row in some}
            event = {"event": "batching", "batch": token, "model": model, "rows": keys, "hold_usd": hold}
            await self._record(event)
            try:
                identity = await self._endpoints[model].create(some, _window(self._models[model]), token)
            except Exception as error:  # the client's own kinds are many; none of them may lose the rows
                await self._not_begun(self._state.open[token], error)
                continue
            await self._record({"event": "batched", "batch": token, "id": identity})

    async def _not_begun(self, job: BatchedJob, error: Exception) -> None:
        """Give rows back whose batch could not be begun, unless it was after all."""
        self.errors.append(f"{job.model}: no batch was begun ({type(error).__name__}: {str(error)[:200]})")
        try:
            found = await self._endpoints[job.model].find(job.token)
        except Exception:
            found = None
        if found is None:
            await self._end(job)
        else:
            await self._record({"event": "batched", "batch": job.token, "id": found})

    async def drain(self, until: float | None, tell: Callable[[str, int], object]) -> None:
        """Wait for every batch; those that have not ended by a time are cancelled, with what they have.

        Parameters
        ----------
        until : float or None
            On the monotonic clock.
        tell : callable
            Takes the stage and the rows just done.
        """
        cancelled: dict[str, float] = {}
        while self._state.open:
            for job in list(self._state.open.values()):
                late = until is not None and time.monotonic() >= until
                try:
                    await self._look(job, tell, late=late, cancelled=cancelled)
                except Exception as error:
                    # A look that fails is looked again, while there is time.
                    if (
                        late
                        and time.monotonic()
                        >= cancelled.setdefault(job.token, time.monotonic()) + _CANCEL_SECONDS
                    ):
                        await self._give_up(job, error)
            if self._state.open:
                wait = self._poll
                if until is not None:
                    wait = min(wait, max(until - time.monotonic(), 0.05))
                await asyncio.sleep(wait)

    async def _look(
        self, job: BatchedJob, tell: Callable[[str, int], object], *, late: bool, cancelled: dict[str, float]
    ) -> None:
        assert job.id is not None  # it was begun
        endpoint = self._endpoints[job.model]
        status = await endpoint.status(job.id)
        if status not in _ENDED:
            if late and job.token not in cancelled:
                cancelled[job.token] = time.monotonic()
                await endpoint.cancel(job.id)
            elif late and time.monotonic() >= cancelled[job.token] + _CANCEL_SECONDS:
                await self._give_up(job, CallError(f"it is {status} long after it was cancelled"))
            return
        if status != "completed":
            self.errors.append(f"{job.model}: a batch ended as {status}")
        for row in await endpoint.results(job.id):
            await self._take(job, row)
            tell("ask", 1)
        await self._end(job)

    async def _take(self, job: BatchedJob, row: Mapping[str, Any]) -> None:
        """Write down an answer; a row that failed comes back with the batch."""
        key, response = str(row.get("custom_id")), row.get("response")
        if (
            key not in job.rows
            or key in self._answered
            or not isinstance(response, dict)
            or response.get("status_code") != 200
        ):
            return
        try:
            reply = _reply(response.get("body"))
        except CallError:
            return
        model = self._models[job.model]
        sent = self._sent.get(job.token, {}).get(key)
        messages = [] if sent is None else sent.body["messages"]
        if sent is not None:
            usage = check_usage(
                reply.usage, messages, reply.text, longest=sent.body["max_tokens"], count=estimate_tokens
            )
            tokens = usage.input_tokens, usage.output_tokens
        else:
            # After a restart what was sent is not at hand: the provider's counts are taken as they are.
            told = [getattr(reply.usage, name, 0) for name in ("prompt_tokens", "completion_tokens")]
            tokens = tuple(each if isinstance(each, int) and each >= 0 else 0 for each in told)  # type: ignore[assignment]
        cost = model_cost(model, *tokens)
        held = self._held.get(job.token)
        if held is None:
            self._ledger.spent += cost
        else:
            held.spend_part(cost)
        await self._record({
            "event": "answered", "row": key, "model": job.model, "text": reply.text, "finish": reply.finish,
            "cost_usd": cost, "input_tokens": tokens[0], "output_tokens": tokens[1], "seconds": None,
            "cut": reply.finish == "length", "moved": False, "refused": reply.finish == "content_filter",
            "batch": job.token,
        })  # fmt: skip

    async def _give_up(self, job: BatchedJob, error: Exception) -> None:
        """Leave a batch whose end is not known: it may cost what it can cost."""
        self.errors.append(f"{job.model}: a batch was given up ({error})")
        await self._record({"event": "unsure", "row": f"batch {job.token}", "unsure_usd": job.hold})
        self._ledger.unsure += job.hold
        await self._end(job)

    async def _end(self, job: BatchedJob) -> None:
        held = self._held.pop(job.token, None)
        if held is not None:
            held.release()
        self._sent.pop(job.token, None)
        await self._record({"event": "batch-ended", "batch": job.token})


def _cut(rows: Sequence[BatchRow]) -> Iterator[list[BatchRow]]:
    """Yield rows in pieces that a provider takes."""
    some: list[BatchRow] = []
    size = 0
    for row in rows:
        own = len(json.dumps(row.body)) + 200
        if some and (len(some) >= MOST_ROWS or size + own > MOST_BYTES):
            yield some
            some, size = [], 0
        some.append(row)
        size += own
    if some:
        yield some


def _window(model: LLM) -> str:
    return f"{model.lane_seconds / 3600.0:g}h"


def _reply(body: Any) -> ModelReply:
    text = json.dumps(body)
    return read_reply(json.loads(text, object_hook=lambda each: SimpleNamespace(**each)), 0.0)
