"""What sessions that share limits know of each other: budgets, prices, corrections, models that are down."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from eccos_rs.session.control.clock import Rate
from eccos_rs.session.control.pacing import PaceShare
from eccos_rs.session.limits.exchange import Publication
from eccos_rs.session.limits.joint import JointLimiter
from eccos_rs.session.limits.shared import SharedLimiter

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

    from eccos_rs.session.control.dual import DualController
    from eccos_rs.session.control.pacing import Pacer
    from eccos_rs.session.control.tracking import Tracker
    from eccos_rs.session.limits.base import RateLimiter
    from eccos_rs.session.limits.exchange import LimiterReply

__all__ = ["Sharing", "join"]

_EVERY = 0.1
"""Seconds between two publications."""


def join(
    limits: RateLimiter,
    names: Sequence[str],
    controller: DualController,
    tracker: Tracker,
    pacer: Pacer | None,
    *,
    clock: Callable[[], float],
) -> Sharing | None:
    """Share with the other sessions of these limits; None when they are this session's own."""
    if isinstance(limits, JointLimiter):
        limits = limits.inner
    if not isinstance(limits, SharedLimiter):
        return None
    return Sharing(limits, names, controller, tracker, pacer, clock=clock)


class Sharing:
    """Publishes what a session has done, and takes what the others have.

    Sums since a session began are published rather than differences: a publication that is lost on the way
    costs nothing.

    Parameters
    ----------
    limits : SharedLimiter
    names : sequence of str
        Of the models, in the order of the pool.
    controller : DualController
    tracker : Tracker
    pacer : Pacer, optional
    clock : callable
        Seconds that never run backwards.
    """

    def __init__(
        self,
        limits: SharedLimiter,
        names: Sequence[str],
        controller: DualController,
        tracker: Tracker,
        pacer: Pacer | None,
        *,
        clock: Callable[[], float],
    ) -> None:
        self._limits = limits
        self._names = names
        self._controller = controller
        self._tracker = tracker
        self._pacer = pacer
        self._clock = clock
        self._arrivals = 0
        self._rate = Rate(5.0)
        self._seen: dict[str, dict[str, Any]] = {}
        self._elsewhere = [0.0, 0.0, 0.0, 0.0]  # arrivals, settled, real, predicted, of all others so far
        self._timer: asyncio.TimerHandle | None = None
        limits.on_others = self._take

    def admitted(self, queries: int) -> None:
        """Count queries that were decided here."""
        self._arrivals += queries

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Publish from now on."""
        if self._timer is None:
            self._tick(loop)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        self._limits.publish(self._publication())
        self._timer = loop.call_later(_EVERY, self._tick, loop)

    def stop(self) -> None:
        """Publish no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _publication(self) -> Publication:
        controller, pacer = self._controller, self._pacer
        row: dict[str, Any] = {
            "id": self._limits.replica,
            "goal": list(controller.policy.goal),
            "price": controller.own_price,
            "deficit": controller.deficit,
            "arrivals": self._arrivals,
            # After the models come the limits that they share, which are never down.
            "down": [name for name, down in zip(self._names, self._limits.down, strict=False) if down],
            "judged": {
                name: totals
                for name, totals in zip(self._names, self._tracker.totals, strict=True)
                if totals[0]
            },
        }
        if pacer is None:
            return Publication(_dumps(row))
        pacer.roll()
        share = pacer.share()
        row["pace"] = list(share)
        period = f"{pacer.per}:{share.started:.0f}"
        return Publication(_dumps(row), period, share.spent, share.reserved)

    def _take(self, reply: LimiterReply) -> None:
        rows = {row["id"]: row for row in map(json.loads, reply.others or ())}
        arrivals = 0.0
        for name, row in rows.items():
            before = self._seen.get(name)
            if before is not None:  # what it did before this session knew it is known from the store, or past
                arrivals += max(row["arrivals"] - before["arrivals"], 0)
            self._take_judged(row, before)
            self._take_settled(row, before)
        self._seen = rows
        self._rate.add(arrivals, now := self._clock())
        self._limits.arrivals_elsewhere = self._rate.per_second(now) if rows else 0.0
        down = {name for row in rows.values() for name in row["down"]}
        self._limits.set_down_elsewhere([name in down for name in self._names])
        goal = list(self._controller.policy.goal)
        alike = [row for row in rows.values() if row["goal"] == goal]
        self._controller.take_elsewhere(
            [row["price"] for row in alike if row["price"] is not None],
            sum(row["deficit"] for row in alike),
            1 + len(alike),
        )
        if self._pacer is not None:
            self._take_pace(
                self._pacer, [PaceShare(*row["pace"]) for row in rows.values() if "pace" in row], reply
            )

    def _take_judged(self, row: dict[str, Any], before: dict[str, Any] | None) -> None:
        """Correct predictions by what others were told; a head takes all that they know."""
        for at, name in enumerate(self._names):
            now = row["judged"].get(name)
            if now is not None:
                last = (before or {}).get("judged", {}).get(name, (0, 0.0, 0.0))
                if now[0] > last[0]:
                    self._tracker.absorb(at, now[0] - last[0], now[1] - last[1], now[2] - last[2])

    def _take_settled(self, row: dict[str, Any], before: dict[str, Any] | None) -> None:
        if before is not None and "pace" in row and "pace" in before:
            now, last = PaceShare(*row["pace"]), PaceShare(*before["pace"])
            for at, field in enumerate(("arrivals", "settled", "real", "predicted")):
                self._elsewhere[at] += max(getattr(now, field) - getattr(last, field), 0.0)

    def _take_pace(self, pacer: Pacer, shares: list[PaceShare], reply: LimiterReply) -> None:
        mine = pacer.share()
        period = [share for share in shares if share.started == mine.started]
        first = min(period, key=lambda share: share.opened, default=mine)
        pacer.take_elsewhere(
            PaceShare(
                mine.started,
                first.opened,
                first.before,
                reply.spent,
                sum(share.reserved for share in period),
                *self._elsewhere,
            )
        )


def _dumps(row: dict[str, Any]) -> str:
    # JSON has no infinity; a price that is infinite is known to nobody else.
    price = row["price"]
    if price is not None and not math.isfinite(price):
        row["price"] = None
    return json.dumps(row, separators=(",", ":"))
