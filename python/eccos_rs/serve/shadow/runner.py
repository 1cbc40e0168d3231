"""The shadow itself: decides beside the answers, grades a sample, and writes down both."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from eccos_rs.errors import EccosError
from eccos_rs.serve.shadow.settings import ShadowSettings, place
from eccos_rs.serve.shadow.texts import answer_text
from eccos_rs.session import Session

if TYPE_CHECKING:
    from eccos_rs.routing.policy import Policy
    from eccos_rs.routing.router import Router
    from eccos_rs.serve.request import RoutingRequest
    from eccos_rs.serve.shadow.judging import Judge
    from eccos_rs.serve.shadow.record import ShadowLog
    from eccos_rs.serve.shadow.trial import Trial
    from eccos_rs.session import Lease

__all__ = ["Copy", "Shadow"]

_log = logging.getLogger("eccos_rs.serve")

_MOST_WAITING = 1_000
"""Requests that wait to be decided; beyond, they are counted and left out: the answers come first."""
_MOST_COPIED = 512 * 1024
"""Bytes of an answer that are kept to be graded; a longer one is not."""


class Copy:
    """What a client is being sent, kept for the judge."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0

    def add(self, raw: bytes) -> None:
        """Keep some more."""
        self._size += len(raw)
        if self._size <= _MOST_COPIED:
            self._parts.append(raw)

    def text(self, *, streamed: bool) -> str:
        """Return the answer's text; empty where it was too long to be kept."""
        return "" if self._size > _MOST_COPIED else answer_text(b"".join(self._parts), streamed=streamed)


@dataclass(frozen=True)
class _Answered:
    """An answer that has come to its end."""

    wanted: RoutingRequest
    trial: Trial
    at: float
    model: str
    quality: float
    expected: float
    cost: float
    failed: bool
    copy: Copy | None
    streamed: bool


class Shadow:
    """Decides what routing would have done, after the answer has ended.

    It has a session of its own, so that its budget, prices and limits are those of the routing that it
    stands for, and whatever fails here fails no request.

    Parameters
    ----------
    settings : ShadowSettings
    router : Router
    policy : Policy, optional
    log : ShadowLog
    judge : Judge, optional
    """

    def __init__(
        self,
        settings: ShadowSettings,
        router: Router,
        policy: Policy | None,
        log: ShadowLog,
        judge: Judge | None = None,
    ) -> None:
        self.settings = settings
        self.dropped = self.failed = 0
        self._session = Session(router, policy=policy, learn=False)
        self._records = log
        self._judge = judge
        self._waiting: asyncio.Queue[_Answered] = asyncio.Queue(_MOST_WAITING)
        self._tasks: list[asyncio.Task[None]] = []
        self._grading: asyncio.Queue[tuple[str, _Answered, str]] = asyncio.Queue(_MOST_WAITING)

    def open(self) -> None:
        """Begin, on the running event loop."""
        if self._judge is not None:
            self._judge.open()
        self._tasks = [
            asyncio.create_task(self._work(), name="eccos-shadow"),
            asyncio.create_task(self._grade(), name="eccos-shadow-judge"),
        ]

    async def close(self, patience: float = 5.0) -> None:
        """Decide what waits, then end; what is not graded within some seconds is given up."""
        with suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await self._waiting.join()
                await self._grading.join()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._session.close()
        if self._judge is not None:
            await self._judge.close()

    def place(self, wanted: RoutingRequest, allowed: tuple[str, ...] | None) -> RoutingRequest:
        """Send a request where it would have gone; see `eccos_rs.serve.shadow.settings.place`."""
        return place(wanted, self.settings, allowed)

    def copy(self, wanted: RoutingRequest) -> Copy | None:
        """Return where the answer's bytes are kept, where it is to be graded and there is money."""
        trial = wanted.trial
        spending = self._judge is not None and self._records.spent < self.settings.judge_budget
        return Copy() if trial is not None and trial.judged and spending else None

    def ended(
        self, wanted: RoutingRequest, lease: Lease, cost: float | None, *, failed: bool, copy: Copy | None
    ) -> None:
        """Take up an answer that has ended; never raises and never waits."""
        if wanted.trial is None:
            return
        try:
            self._waiting.put_nowait(
                _Answered(
                    wanted, wanted.trial, time.time(), str(lease.model), lease.predicted_quality, lease.cost,
                    lease.cost if cost is None else cost, failed, copy, wanted.streaming,
                )
            )  # fmt: skip
        except asyncio.QueueFull:
            self.dropped += 1

    async def _work(self) -> None:
        while True:
            answered = await self._waiting.get()
            try:
                await self._decide(answered)
            except Exception as error:  # whatever it is, requests go on
                self._note(error)
            finally:
                self._waiting.task_done()

    async def _decide(self, answered: _Answered) -> None:
        trial = answered.trial
        # Where it was routed, what the other way would have cost; and the other way round.
        query = replace(trial.query, models=(trial.as_is,)) if trial.routed else trial.query
        lease = await self._session.acquire(query, timeout=0.0)
        if lease.deferred:
            raise EccosError("nothing fits in the shadow's limits")
        here = {"usd": answered.expected, "quality": answered.quality}
        there = {"usd": lease.cost, "quality": lease.predicted_quality}
        other = str(lease.model)
        if trial.routed:
            lease.cancel()
        else:
            # As if it had been answered as long as was expected: the shadow's budget and prices go on.
            lease.release(output_tokens=lease.output_tokens)
        number = secrets.token_hex(8)
        self._records.write(
            kind="decision", id=number, at=round(answered.at, 3), unit=trial.unit,
            arm="routed" if trial.routed else "as-is", as_is=trial.as_is,
            routed=answered.model if trial.routed else other,
            expected={"as_is": there if trial.routed else here, "routed": here if trial.routed else there},
            usd=answered.cost, failed=answered.failed,
        )  # fmt: skip
        if answered.copy is not None and not answered.failed:
            with suppress(asyncio.QueueFull):
                self._grading.put_nowait((number, answered, other))

    async def _grade(self) -> None:
        while True:
            job = await self._grading.get()
            try:
                await self._judged(*job)
            except Exception as error:
                self._note(error)
            finally:
                self._grading.task_done()

    async def _judged(self, number: str, answered: _Answered, other: str) -> None:
        """Grade an answer; where routing was not followed and differs, also what it would have brought."""
        judge, wanted = self._judge, answered.wanted
        assert judge is not None  # nothing is copied without one
        assert answered.copy is not None  # the caller has looked
        text = answered.copy.text(streamed=answered.streamed)
        if not text:
            return
        asks = None if answered.trial.routed or other == answered.model else other
        most = judge.most(wanted, asks)
        if self._records.spent + most > self.settings.judge_budget:
            return
        self._records.spent += most
        self._records.write(kind="judging", id=number, usd=most)
        told: dict[str, Any] = {}
        # What fails half way has cost what it has: the reservation stays.
        grade, spent = await judge.grade(wanted, text)
        if asks is None:
            told["routed" if answered.trial.routed else "as_is"] = grade
            if not answered.trial.routed:
                told["routed"] = grade  # the same model, the same answer
        else:
            said, paid = await judge.ask(wanted, asks)
            second, more = await judge.grade(wanted, said)
            told, spent = {"as_is": grade, "routed": second}, spent + paid + more
        self._records.spent += spent - most
        self._records.write(kind="judged", id=number, usd=spent, quality=told)

    def _note(self, error: Exception) -> None:
        self.failed += 1
        if self.failed == 1 or self.failed % 1_000 == 0:
            _log.warning("the shadow failed %d times (%s: %s)", self.failed, type(error).__name__, error)
