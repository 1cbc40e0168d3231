"""Limits over several models: a request takes a slot of its model and of every limit over it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from eccos_rs.session.limits.base import Claim, SharedRoom

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from eccos_rs.domain.llm import Limit
    from eccos_rs.pools.pool import Pool
    from eccos_rs.session.limits.base import Grant
    from eccos_rs.session.limits.local import LocalLimiter
    from eccos_rs.session.limits.shared import SharedLimiter
    from eccos_rs.session.limits.window import ModelLoad

__all__ = ["JointLimiter", "counted_limits", "counted_slots"]


def counted_limits(pool: Pool) -> list[Limit]:
    """Return the shared limits of a pool under names that no model has: they are counted like models."""
    return [replace(limit, name=_counted(limit.name)) for limit in pool.limits]


def counted_slots(pool: Pool, capacity: Mapping[str, float] | None) -> dict[str, float]:
    """Return a policy's `capacity` by the names under which models and shared limits are counted."""
    names = {limit.name: _counted(limit.name) for limit in pool.limits if limit.name not in pool.names}
    return {names.get(name, name): slots for name, slots in (capacity or {}).items()}


def _counted(name: str) -> str:
    return f"[limit] {name}"


class JointLimiter:
    """A limiter whose first counts are of the models and whose others are of the limits that they share.

    A claim is granted when its model and all of its limits grant it; what one of them granted in vain is
    taken back, so no limit is ever exceeded.

    Parameters
    ----------
    inner : LocalLimiter or SharedLimiter
        Made of the models and, after them, `counted_limits`.
    pool : Pool
    """

    def __init__(self, inner: LocalLimiter | SharedLimiter, pool: Pool) -> None:
        self.inner = inner
        self._size = len(pool)
        self._members = [
            tuple(sorted({at for name in limit.models for at in pool.columns(name)})) for limit in pool.limits
        ]
        self._over = [
            [self._size + at for at, members in enumerate(self._members) if model in members]
            for model in range(self._size)
        ]
        self._held: dict[str, list[Grant]] = {}

    @property
    def models(self) -> Sequence[ModelLoad]:
        """The load of each model as this session knows it, in the order of the pool."""
        return self.inner.models[: self._size]

    @property
    def own(self) -> Sequence[ModelLoad]:
        """The load of each model by this session alone."""
        return self.inner.own[: self._size]

    @property
    def state(self) -> str:
        """How limits are kept now."""
        return self.inner.state

    @property
    def losses(self) -> int:
        """How often the shared state was lost."""
        return self.inner.losses

    @property
    def counts_tokens(self) -> bool:
        """Whether anything has a limit of tokens per minute."""
        return self.inner.counts_tokens

    @property
    def arrivals_elsewhere(self) -> float:
        """Queries per second that other sessions with the same limits decide."""
        return self.inner.arrivals_elsewhere

    @property
    def most_tokens(self) -> list[float]:
        """The largest request that each model can ever take, in tokens; -1 for one that takes none."""
        return self._least(self.inner.most_tokens)

    def free(self, now: float) -> list[float]:
        """Return the requests that each model may start now."""
        return self._least(self.inner.free(now))

    def free_tokens(self, now: float) -> list[float]:
        """Return the tokens that each model may take now; inf without a limit."""
        return self._least(self.inner.free_tokens(now))

    def _least(self, counts: list[float]) -> list[float]:
        return [min([counts[at], *(counts[limit] for limit in over)]) for at, over in enumerate(self._over)]

    def shared(self, now: float) -> list[SharedRoom]:
        """Return what is free of each limit that several models share."""
        requests, tokens = self.inner.free(now)[self._size :], self.inner.free_tokens(now)[self._size :]
        return [SharedRoom(*room) for room in zip(self._members, requests, tokens, strict=True)]

    def reserve(
        self, claims: Sequence[Claim], now: float, deliver: Callable[[list[Grant | None]], None]
    ) -> None:
        """Reserve what fits, claim by claim, and hand the grants to `deliver`: now, or later on the loop."""
        parts = [self._parts(claim) for claim in claims]
        if self.inner.state == "local":
            # One after the other: what a claim gives back is there for the next.
            grants: list[Grant | None] = []
            for own in parts:
                self.inner.reserve(own, now, lambda found: grants.append(self._joined(found, now)))
            deliver(grants)
            return

        def regroup(found: list[Grant | None]) -> None:
            given = iter(found)
            deliver([self._joined([next(given) for _ in own], now) for own in parts])

        self.inner.reserve([part for own in parts for part in own], now, regroup)

    def _parts(self, claim: Claim) -> list[Claim]:
        """Return the claim on the model and those on the limits over it."""
        at, tokens, cost = claim.models[0], claim.tokens[0], claim.cost[0]
        limits = [Claim(f"{claim.id}/{limit}", (limit,), (tokens,), (0.0,)) for limit in self._over[at]]
        return [Claim(claim.id, (at,), (tokens,), (cost,)), *limits]

    def _joined(self, grants: list[Grant | None], now: float) -> Grant | None:
        """Return the model's grant when all are there; else give back what was granted."""
        own, given = grants[0], [grant for grant in grants if grant is not None]
        if own is None or len(given) < len(grants):
            for grant in given:
                self.inner.cancel(grant, now)
            return None
        if len(given) > 1:
            self._held[own.id] = given[1:]
        return own

    def settle(self, grant: Grant, tokens: int, held: float, now: float) -> None:
        """Release a slot after `held` seconds; `tokens` were really used in place of `grant.tokens`."""
        for each in (grant, *self._held.pop(grant.id, ())):
            self.inner.settle(each, tokens, held, now)

    def cancel(self, grant: Grant, now: float) -> None:
        """Release a slot as if it had never been taken."""
        for each in (grant, *self._held.pop(grant.id, ())):
            self.inner.cancel(each, now)

    def set_up(self, model: int, up: bool) -> None:
        """Give a model nothing more (False), or let it take requests again (True)."""
        self.inner.set_up(model, up)

    def seconds_until(self, model: int, tokens: int, now: float) -> float:
        """Estimate the seconds until a request of so many tokens fits; inf when it never will."""
        return max(self.inner.seconds_until(at, tokens, now) for at in (model, *self._over[model]))

    def next_change(self, now: float) -> float:
        """Return the seconds after which it is worth looking again; inf when only a release can help."""
        return self.inner.next_change(now)

    async def close(self) -> None:
        """Give back whatever is held and end."""
        await self.inner.close()
