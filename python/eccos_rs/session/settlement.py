"""The end of a lease: its slot is released, what it really took is entered, feedback is stored."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING

from eccos_rs.domain.pricing import model_cost
from eccos_rs.errors import EccosError
from eccos_rs.session.checks import checked_number
from eccos_rs.session.lease import FeedbackReceipt, LeaseReport

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from eccos_rs.pools.pool import Pool
    from eccos_rs.session.lease import Lease
    from eccos_rs.session.ledger import Ledger
    from eccos_rs.session.limits.base import RateLimiter
    from eccos_rs.session.recorder import Recorder
    from eccos_rs.session.store.base import Judged, Store

__all__ = ["Settlement"]


class Settlement:
    """Takes the reports of the holders of leases, from any thread, and settles on the loop.

    Parameters
    ----------
    pool : Pool
    limits : RateLimiter
    ledger : Ledger
    recorder : Recorder
    store : Store
    clock : callable
        Seconds that never run backwards.
    on_loop : callable
        Calls a function on the session's loop, from any thread.
    is_ours : callable
        Says whether the session is open in this very process.
    settled, judged : callable
        Called on the loop when a slot was released, and with feedback that is durable.
    """

    def __init__(
        self,
        pool: Pool,
        limits: RateLimiter,
        ledger: Ledger,
        recorder: Recorder,
        store: Store,
        *,
        clock: Callable[[], float],
        on_loop: Callable[..., None],
        is_ours: Callable[[], bool],
        settled: Callable[[], None],
        judged: Callable[[Judged], None],
    ) -> None:
        self._pool = pool
        self._limits = limits
        self._ledger = ledger
        self._recorder = recorder
        self._store = store
        self._clock = clock
        self._on_loop = on_loop
        self._is_ours = is_ours
        self._settled = settled
        self._judged = judged

    def released(self, lease: Lease, report: LeaseReport) -> FeedbackReceipt:
        """Release a lease's slot whatever else is wrong, then take the report; from any thread."""
        if report.dropped:
            return self._dropped(lease, report)
        if report.cancelled:
            self._on_loop(self._cancel, lease)
            return FeedbackReceipt()
        try:
            tokens = _checked("output_tokens", report.output_tokens)
            paid = _checked("cost", report.cost)
            quality = _checked("quality", report.quality, most=1.0)
            for name in ("input_tokens", "cached_tokens"):
                _checked(name, getattr(report, name))
        except EccosError:
            self._on_loop(self._settle, lease, None, None, LeaseReport(failed=True, blamed=report.blamed))
            raise
        self._on_loop(self._settle, lease, tokens, paid, report)
        return FeedbackReceipt() if quality is None else self.judge(lease.id, quality)

    def _dropped(self, lease: Lease, report: LeaseReport) -> FeedbackReceipt:
        # After a fork the copy of a lease in the child is nobody's: the parent holds the slot.
        if self._is_ours():
            message = f"{lease!r} was dropped without release"
            self._on_loop(self._settle, lease, None, None, report)
            warnings.warn(message, ResourceWarning, source=lease, stacklevel=3)
        return FeedbackReceipt()

    def _cancel(self, lease: Lease) -> None:
        assert lease.grant is not None  # a deferred lease has nothing to release
        self._limits.cancel(lease.grant, self._clock())
        self._ledger.settled(lease, 0.0, 0.0, failed=True, blamed=False)
        self._recorder.settled(lease, 0.0, 0.0, True)
        self._settled()

    def _settle(self, lease: Lease, tokens: float | None, cost: float | None, report: LeaseReport) -> None:
        failed, grant = report.failed, lease.grant
        assert grant is not None  # a deferred lease has nothing to release
        now = self._clock()
        real = 0.0 if failed and tokens is None else tokens
        if cost is None and real is not None:
            cost = self._cost(lease, report, real, asked=not failed or tokens is not None)
        used = (
            grant.tokens if real is None else grant.tokens + math.ceil(real) - math.ceil(lease.output_tokens)
        )
        self._limits.settle(grant, used, now - lease.granted, now)
        paid = lease.cost if cost is None else cost
        self._ledger.settled(lease, tokens, paid, failed=failed, blamed=report.blamed)
        self._recorder.settled(lease, tokens, paid, failed)
        if lease.turn is not None and (not failed or report.input_tokens is not None):
            lease.turn.answered(
                lease.index, price=lease.quality_price, forecasts=lease.forecasts,
                prompt=report.input_tokens or lease.input_tokens, cached=report.cached_tokens,
                estimated=lease.input_tokens if report.input_tokens else None,
                answer=lease.output_tokens if tokens is None else tokens,
            )  # fmt: skip
        self._settled()

    def _cost(self, lease: Lease, report: LeaseReport, written: float, *, asked: bool) -> float:
        """Return US dollars of an answer whose tokens are known."""
        model, read = self._pool[lease.index], report.input_tokens
        if asked and read is None and report.cached_tokens is None and lease.turn is not None:
            # What the caches hold is as expected; the answer is as long as it is.
            return max(
                lease.cost + model_cost(model, 0, written) - model_cost(model, 0, lease.output_tokens), 0.0
            )
        prompt = 0.0 if not asked else lease.input_tokens if read is None else read
        return model_cost(model, prompt, written, cached_tokens=report.cached_tokens or 0)

    def judge(self, lease_id: str, quality: float) -> FeedbackReceipt:
        """Store how good an answer was; the receipt is done when that is durable."""
        answer = self._store.feedback(lease_id, quality)
        if answer.done() and answer.exception() is None:
            self._on_loop(self._judged, answer.result())
            return FeedbackReceipt()
        answer.add_done_callback(self._written)
        return FeedbackReceipt(answer)

    def _written(self, future: Future[Judged]) -> None:
        if future.exception() is None:
            self._on_loop(self._judged, future.result())


def _checked(name: str, value: float | None, most: float = math.inf) -> float | None:
    return None if value is None else checked_number(name, value, most)
