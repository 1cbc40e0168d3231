"""Limits that several sessions keep together, in one process, on one host or on many."""

from __future__ import annotations

import asyncio
import logging
import math
import time
import uuid
from contextlib import suppress
from typing import TYPE_CHECKING, Literal

from eccos_rs.session.limits.base import Grant
from eccos_rs.session.limits.exchange import HeldSlot, Message
from eccos_rs.session.limits.fallback import LocalShare
from eccos_rs.session.limits.link import Link
from eccos_rs.session.limits.local import model_limits, model_loads
from eccos_rs.session.limits.window import MINUTE, SharedWindow

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from eccos_rs.domain.llm import LLM, Limit
    from eccos_rs.session.limits.base import Claim, SharedRoom
    from eccos_rs.session.limits.elsewhere import Announcement
    from eccos_rs.session.limits.exchange import LimiterReply, ModelUse, Publication, SharedBackend
    from eccos_rs.session.limits.window import ModelLoad

__all__ = ["OnStoreLoss", "SharedLimiter"]

logger = logging.getLogger("eccos_rs.session")

OnStoreLoss = Literal["local-share", "refuse"]
"""What a session does while it cannot reach the shared state."""

_LINGER = 0.002
"""Seconds that a release waits for a reservation to travel with."""

_POLL = 0.01
"""Seconds after which a session whose requests wait looks for slots that others have released."""


class SharedLimiter:
    """Slots and windows that are counted in one place for all sessions.

    One message per micro-batch goes to the backend, on a thread of its own that also says several times per
    second that the session is alive: the slots of a session that no longer does are released within the
    backend's lease time. While the backend cannot be reached, `LocalShare` decides.

    Parameters
    ----------
    llms : sequence of LLM
    backend : SharedBackend
        Made for the limits of these models (`model_limits`).
    capacity : mapping of str to float, optional
        Slots that a policy allows a model.
    on_loss : {"local-share", "refuse"}
        While the backend cannot be reached: keep to this session's share of every limit, or grant nothing.
    span : float
        Seconds of the sliding windows.

    Raises
    ------
    StoreError
        The backend cannot be reached now.
    """

    def __init__(
        self,
        llms: Sequence[LLM | Limit],
        backend: SharedBackend,
        capacity: Mapping[str, float] | None = None,
        *,
        on_loss: OnStoreLoss = "local-share",
        span: float = MINUTE,
    ) -> None:
        limits = model_limits(llms, capacity)
        self._on_loss = on_loss
        self._shared = model_loads(llms, capacity, span)
        for model in self._shared:
            model.requests = None if model.requests is None else SharedWindow(model.requests.limit, span)
            model.tokens = None if model.tokens is None else SharedWindow(model.tokens.limit, span)
        self._limited = [limit[1:] != (None, None, None) for limit in limits]
        self._own = LocalShare(llms, capacity, limits, span)
        self._down = [False] * len(limits)
        self.counts_tokens = any(limit.tokens is not None for limit in limits)
        self.replica = uuid.uuid4().hex[:16]
        self.url = backend.url
        self.losses = 0
        self.announcement: Announcement | None = None
        self.fault: str | None = None
        self.on_others: Callable[[LimiterReply], None] | None = None
        """Takes what the others have published."""
        self.arrivals_elsewhere = 0.0
        self._epoch: str | None = None
        self._uses: Sequence[ModelUse] = ()
        self._replicas = 1
        self._held: dict[str, HeldSlot] = {}
        self._settled: list[tuple[str, int]] = []
        self._cancelled: list[str] = []
        self._freed: list[int] = []  # models of the two above: the next reply counts them as running
        self._asked: tuple[list[Claim], Callable[[list[Grant | None]], None]] | None = None
        self._publication: Publication | None = None
        self._busy = self._registering = False
        self._refresh: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._link = Link(backend, self.replica, self._replied, self._failed, self._reachable)
        self._take_reply(self._link.start(self._registration()))

    # What the scheduler asks; on the loop.

    @property
    def models(self) -> Sequence[ModelLoad]:
        """The load of each model by all sessions; this session's own while the backend is away."""
        return self._shared if self.fault is None else self._own.models

    @property
    def own(self) -> Sequence[ModelLoad]:
        """The load of each model by this session alone."""
        return self._own.models

    @property
    def state(self) -> str:
        """``shared``; ``local-share`` or ``refuse`` while the backend cannot be reached."""
        return "shared" if self.fault is None else self._on_loss

    @property
    def most_tokens(self) -> list[float]:
        """The largest request that each model can ever take, in tokens; -1 for one that takes none."""
        return [model.most_tokens for model in self._shared]

    def shared(self, now: float) -> list[SharedRoom]:
        """Return nothing: `JointLimiter` counts limits over several models."""
        return []

    def free(self, now: float) -> list[float]:
        """Return the requests that each model may start now."""
        if self.fault is None:
            return [
                0 if model.tokens is not None and model.tokens.free(now) < 1 else model.free(now)
                for model in self._shared
            ]
        if self._on_loss == "refuse":
            return [0.0] * len(self._shared)
        self._own.relax()
        return self._own.free(now)

    def free_tokens(self, now: float) -> list[float]:
        """Return the tokens that each model may take now; inf without a limit."""
        return [math.inf if model.tokens is None else model.tokens.free(now) for model in self.models]

    def reserve(
        self, claims: Sequence[Claim], now: float, deliver: Callable[[list[Grant | None]], None]
    ) -> None:
        """Ask for slots: the answer comes on the loop, at once where no model of the claims is limited."""
        if self.fault is not None:
            self._reserve_own(claims, now, deliver)
        elif not any(self._limited[claim.models[0]] for claim in claims):
            deliver([self._enter(claim, now) for claim in claims])
        else:
            self._asked = list(claims), deliver
            self._send()

    def _reserve_own(
        self, claims: Sequence[Claim], now: float, deliver: Callable[[list[Grant | None]], None]
    ) -> None:
        grants: list[Grant | None] = [None] * len(claims)
        if self._on_loss == "local-share" and not self._registering:
            self._own.reserve(claims, now, lambda own: grants.__setitem__(slice(None), own))
            self._own.count_unseen(grants)
            for grant in grants:
                if grant is not None:
                    self._held[grant.id] = HeldSlot(grant.id, grant.model, grant.tokens)
        deliver(grants)

    def _enter(self, claim: Claim, now: float) -> Grant:
        """Count a granted slot in this session's own load, and in what is known of all."""
        at, tokens = claim.models[0], claim.tokens[0]
        self._held[claim.id] = HeldSlot(claim.id, at, tokens)
        shared = self._shared[at]
        shared.in_flight += 1
        for window, amount in ((shared.requests, 1), (shared.tokens, tokens)):
            if window is not None:
                window.used += amount
        return Grant(claim.id, at, tokens, claim.cost[0], self._own.take(claim, now))

    def settle(self, grant: Grant, tokens: int, held: float, now: float) -> None:
        """Release a slot after `held` seconds; `tokens` were really used."""
        self._own.settle(grant, tokens, held, now)
        shared = self._shared[grant.model]
        shared.seconds = self._own.models[grant.model].seconds
        if shared.tokens is not None:
            shared.tokens.used += tokens - grant.tokens
        if self._let_go(grant):
            self._settled.append((grant.id, tokens))

    def cancel(self, grant: Grant, now: float) -> None:
        """Release a slot as if it had never been taken."""
        self._own.cancel(grant, now)
        if self._let_go(grant):
            self._cancelled.append(grant.id)

    def _let_go(self, grant: Grant) -> bool:
        """Count a slot as free here; say whether the backend is to be told."""
        self._held.pop(grant.id, None)
        self._shared[grant.model].in_flight -= 1
        if not self._limited[grant.model] or (self.fault is not None and not self._registering):
            return False
        self._freed.append(grant.model)
        self._soon(_LINGER)
        return True

    def set_up(self, model: int, up: bool) -> None:
        """Give a model nothing more (False), or let it take requests again (True); the others follow."""
        self._down[model] = not up
        self._shared[model].up = self._own.models[model].up = up

    @property
    def down(self) -> list[bool]:
        """Which models this session itself gives nothing."""
        return self._down

    def set_down_elsewhere(self, down: Sequence[bool]) -> None:
        """Follow other sessions in giving models nothing."""
        for at, elsewhere in enumerate(down):
            self._shared[at].up = self._own.models[at].up = not (elsewhere or self._down[at])

    def seconds_until(self, model: int, tokens: int, now: float) -> float:
        """Estimate the seconds until a request of so many tokens fits; inf when it never will."""
        return self.models[model].seconds_until(tokens, now)

    def next_change(self, now: float) -> float:
        """Ask what the others have released meanwhile; return the seconds until that is known."""
        if self.fault is None:
            self._soon(_POLL / 2, always=True)
        return _POLL

    def publish(self, publication: Publication) -> None:
        """Publish with the next message, and hear what the others have published."""
        self._publication = publication
        self._send(always=True)

    # Messages; on the loop.

    def _soon(self, delay: float, always: bool = False) -> None:
        if self._refresh is not None or self._busy:
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # a lease that outlived its loop
            self._send()
            return
        self._refresh = loop.call_later(delay, self._send, always)

    def _send(self, always: bool = False) -> None:
        """Send what there is to say, unless a message is under way; its reply sends the rest."""
        if self._refresh is not None:
            self._refresh.cancel()
            self._refresh = None
        with suppress(RuntimeError):
            self._loop = asyncio.get_running_loop()
        told = self._settled or self._cancelled or self._asked or self._publication
        if self._busy or self.fault is not None or not (told or always):
            return
        message = Message(self.replica, self._epoch)
        self._fill(message)
        # Nobody waits for the reply when the loop has ended.
        self._busy = self._loop is not None and not self._loop.is_closed()
        self._link.send(message)

    def _fill(self, message: Message) -> None:
        message.settled, self._settled = self._settled, []
        message.cancelled, self._cancelled = self._cancelled, []
        self._freed = []
        message.publication, self._publication = self._publication, None
        if self._asked is not None:
            message.claims = [
                (claim.id, claim.models[0], claim.tokens[0])
                for claim in self._asked[0]
                if self._limited[claim.models[0]]
            ]

    def _registration(self) -> Message:
        """Return a message that says all that this session holds and has used."""
        now = time.monotonic() if self._loop is None else self._loop.time()
        message = Message(self.replica, self._epoch)
        message.held = [held for held in self._held.values() if self._limited[held.model]]
        message.used, message.unseen = self._own.used(now), list(self._own.unseen)
        return message

    def _replied(self, reply: LimiterReply) -> None:
        self._on_loop(self._take_reply, reply)

    def _failed(self, why: str) -> None:
        self._on_loop(self._lose, why)

    def _reachable(self, run: str) -> None:
        self._on_loop(self._register, run)

    def _on_loop(self, call: Callable[..., None], argument: object) -> None:
        """Call on the loop, from the link's thread; nobody waits any more when the loop has ended."""
        loop = self._loop
        if loop is not None:
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(call, argument)

    def _take_reply(self, reply: LimiterReply) -> None:
        self._busy = self._registering = False
        if not reply.known:
            # This session was taken for dead, or the state was lost: it says again all that it holds.
            self._register("")
            return
        if self.fault is not None:
            logger.warning("the shared limits at %s are reached again", self.url)
            self.fault = None
            self._own.end()
        if reply.differing:
            logger.warning(
                "the limits at %s: another session states other limits of %s; each keeps to its own, so give "
                "all of them the same pool file",
                self.url,
                reply.differing,
            )
        self._epoch = reply.epoch
        self._uses, self._replicas = reply.uses, reply.replicas
        for model, use, limited in zip(self._shared, reply.uses, self._limited, strict=True):
            if not limited:
                continue  # it is not counted elsewhere
            model.in_flight = use.in_flight
            if model.requests is not None:
                model.requests.used = use.requests
            if model.tokens is not None:
                model.tokens.used = use.tokens
        for at in self._freed:
            self._shared[at].in_flight -= 1
        self._grant(reply.granted)
        if reply.others is not None and self.on_others is not None:
            self.on_others(reply)
        self._send()

    def _grant(self, granted: Sequence[bool]) -> None:
        if self._asked is None or not granted:
            return
        (claims, deliver), self._asked = self._asked, None
        now = time.monotonic() if self._loop is None else self._loop.time()
        grants: list[Grant | None] = []
        answers = iter(granted)
        for claim in claims:
            limited = self._limited[claim.models[0]]
            fits = next(answers) if limited else True
            grants.append(self._enter(claim, now) if fits else None)
            if fits and limited:  # the reply's uses hold it already
                self._uncount(claim)
        deliver(grants)

    def _uncount(self, claim: Claim) -> None:
        shared = self._shared[claim.models[0]]
        shared.in_flight -= 1
        for window, amount in ((shared.requests, 1), (shared.tokens, claim.tokens[0])):
            if window is not None:
                window.used -= amount

    def _register(self, run: str) -> None:
        message = self._registration()
        message.restarted = run
        self._settled, self._cancelled = [], []  # what is not listed as held is released
        self._fill(message)
        self._busy = self._registering = True
        self._link.send(message)

    def _lose(self, why: str) -> None:
        """Go on alone: the backend cannot be reached."""
        self._busy = self._registering = False
        if self.fault is None:
            self.losses += 1
            what = "grants nothing" if self._on_loss == "refuse" else "keeps to its share of every limit"
            logger.error("the shared limits at %s are lost (%s): this session %s", self.url, why, what)
            now = time.monotonic() if self._loop is None else self._loop.time()
            self._own.begin(self._uses, self._replicas, now, self._freed)
        self.fault = why
        self._settled, self._cancelled, self._freed = [], [], []
        if self._asked is not None:
            (claims, deliver), self._asked = self._asked, None
            self._reserve_own(claims, self._loop.time() if self._loop else time.monotonic(), deliver)

    async def close(self) -> None:
        """Say that this session ends; what it holds still is released."""
        if self._refresh is not None:
            self._refresh.cancel()
        message = Message(self.replica, self._epoch, leaving=True)
        self._fill(message)
        message.claims = ()
        if self.announcement is not None:
            self.announcement.close()
        await asyncio.to_thread(self._link.stop, message)
