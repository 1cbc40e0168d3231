"""What a session writes to its store: leases as they come, spend and prices every quarter of a second."""

from __future__ import annotations

import json
import logging
import math
from typing import TYPE_CHECKING, Any

from eccos_rs.errors import StoreError
from eccos_rs.session.control.pacing import budget_period
from eccos_rs.session.store.base import LeaseRow

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from concurrent.futures import Future

    from eccos_rs.session.control.clock import WallClock
    from eccos_rs.session.control.dual import DualController
    from eccos_rs.session.control.pacing import Pacer
    from eccos_rs.session.lease import Lease
    from eccos_rs.session.request import PendingRequest
    from eccos_rs.session.store.base import Store

__all__ = ["Recorder", "saved_state"]

logger = logging.getLogger("eccos_rs.session")

_EVERY = 0.25
"""Seconds between two writes of spend and prices."""


def saved_state(store: Store, goal: list[Any]) -> tuple[float | None, float | None]:
    """Return the price of quality and the arrivals per second of an earlier session with the same goal."""
    try:
        saved = json.loads(store.state().get("price", "{}"))
    except StoreError as error:
        logger.error("nothing is known of earlier sessions: %s", error)
        return None, None
    price, rate = saved.get("quality_price"), saved.get("arrivals_per_second")
    known = saved.get("goal") == goal and isinstance(price, float) and price >= 0
    return price if known else None, rate if isinstance(rate, float) and rate >= 0 else None


class Recorder:
    """Writes a session's leases, spend and prices to its store, and reads what others have spent.

    Parameters
    ----------
    store : Store
    wall : WallClock
    controller : DualController
    pacer : Pacer, optional
    sharing : bool
        Whether the spend of others comes another way.
    on_loop : callable
        Calls a function on the session's loop, from any thread.
    on_tick : callable
        Called in the rhythm of the writes.
    """

    def __init__(
        self,
        store: Store,
        wall: WallClock,
        controller: DualController,
        pacer: Pacer | None,
        *,
        sharing: bool,
        on_loop: Callable[..., None],
        on_tick: Callable[[], None],
    ) -> None:
        self._store = store
        self._wall = wall
        self._controller = controller
        self._pacer = pacer
        self._on_loop = on_loop
        self._sharing = sharing
        self._on_tick = on_tick
        self._timer: asyncio.TimerHandle | None = None
        self.notes: dict[str, str] = {}
        self._per = "day" if pacer is None else pacer.per
        self._period = budget_period(self._per, wall())
        self._today = self._outstanding = 0.0
        if pacer is not None:
            self._resume(pacer)

    def _resume(self, pacer: Pacer) -> None:
        """Go on where earlier sessions on this store stopped."""
        try:
            started = pacer.started
            pacer.resume(started, self._store.spent_elsewhere(started).result())
        except StoreError as error:
            logger.error("nothing is known of earlier spend: %s", error)

    @property
    def shared(self) -> bool:
        """Whether others may spend of the same budget."""
        return self._pacer is not None and self._store.durable and not self._sharing

    def follow_wall(self) -> None:
        """Follow the time of day into another period, when it was set there."""
        self._wall.follow(lambda now: budget_period(self._per, now))

    def granted(self, lease: Lease, request: PendingRequest, embedding_wanted: bool) -> None:
        """Write a lease, soon."""
        self._outstanding += lease.cost
        self._store.lease(
            LeaseRow(
                lease.id,
                request.pool[lease.index].name,
                self._wall(),
                lease.predicted_quality,
                lease.expected,
                lease.output_tokens,
                lease.cost,
                request.embedding if embedding_wanted else None,
            )
        )

    def settled(self, lease: Lease, tokens: float | None, cost: float, failed: bool) -> None:
        """Write what a lease really took, soon."""
        self._today += cost
        self._outstanding = max(self._outstanding - lease.cost, 0.0)
        self._store.settle(lease.id, tokens, cost, failed)

    def soon(self, loop: asyncio.AbstractEventLoop | None) -> None:
        """Write spend and prices before long; at once when the loop has ended."""
        if self._timer is not None or loop is None:
            return
        if loop.is_closed():
            self.save()
        else:
            self._timer = loop.call_later(_EVERY, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self.follow_wall()
        elsewhere = self.save()
        if elsewhere is not None and self._pacer is not None:
            started = self._pacer.started
            elsewhere.add_done_callback(lambda answer: self._on_loop(self._take, started, answer))
        self._on_tick()

    def _take(self, started: float, answer: Future[Any]) -> None:
        if self._pacer is not None and answer.exception() is None:
            self._pacer.resume(started, answer.result())

    def save(self) -> Future[float] | None:
        """Write spend and prices; return what others have spent of the same budget, when there is one.

        What is reserved for answers that run is written as spent: should the process be killed, its successor
        finds it booked. The next write, a total as well, puts the real cost in its place.
        """
        pacer, price = self._pacer, self._controller.price
        state = dict(self.notes)
        if price is not None and math.isfinite(price):
            saved = {"goal": list(self._controller.policy.goal), "quality_price": float(price)}
            if pacer is not None:
                saved["arrivals_per_second"] = pacer.arrivals_per_second
            state["price"] = json.dumps(saved)
        if pacer is None:
            now = self._wall()
            if not self._period[0] <= now < self._period[1]:
                self._period, self._today = budget_period(self._per, now), 0.0
            self._store.spend(self._period[0], self._today + self._outstanding, state)
            return None
        pacer.roll()
        self._store.spend(pacer.started, pacer.spent_here + pacer.reserved, state)
        return self._store.spent_elsewhere(pacer.started) if self.shared else None

    def stop(self) -> None:
        """Cancel the timer."""
        if self._timer is not None:
            self._timer.cancel()
