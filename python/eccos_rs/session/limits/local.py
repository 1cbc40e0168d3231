"""The limits of one session alone, in memory."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from eccos_rs.session.limits.base import Grant
from eccos_rs.session.limits.exchange import ModelLimit
from eccos_rs.session.limits.window import MINUTE, ModelLoad

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from eccos_rs.domain.llm import LLM, Limit
    from eccos_rs.session.limits.base import Claim, SharedRoom
    from eccos_rs.session.limits.elsewhere import Announcement

__all__ = ["LocalLimiter", "model_loads"]


def model_loads(
    llms: Sequence[LLM | Limit], capacity: Mapping[str, float] | None = None, span: float = MINUTE
) -> list[ModelLoad]:
    """Return the idle load of each model; the smaller of its own slots and `capacity` holds."""
    slots = {} if capacity is None else {k: math.floor(v) for k, v in capacity.items() if v < math.inf}
    return [ModelLoad(llm, slots.get(llm.name), span) for llm in llms]


class LocalLimiter:
    """Counts slots and windows for one session; an answer is there at once.

    Parameters
    ----------
    llms : sequence of LLM
    capacity : mapping of str to float, optional
        Slots that a policy allows a model; the smaller of this and the model's own slots holds.
    span : float
        Seconds of the sliding windows.
    """

    arrivals_elsewhere = 0.0
    losses = 0
    state = "local"

    def __init__(
        self, llms: Sequence[LLM | Limit], capacity: Mapping[str, float] | None = None, span: float = MINUTE
    ) -> None:
        self.models = model_loads(llms, capacity, span)
        self.announcement: Announcement | None = None
        self.counts_tokens = any(model.tokens is not None for model in self.models)

    @property
    def own(self) -> list[ModelLoad]:
        """The load of each model by this session, which is all there is."""
        return self.models

    @property
    def most_tokens(self) -> list[float]:
        """The largest request that each model can ever take, in tokens; -1 for one that takes none."""
        return [model.most_tokens for model in self.models]

    def shared(self, now: float) -> list[SharedRoom]:
        """Return nothing: `JointLimiter` counts limits over several models."""
        return []

    def free(self, now: float) -> list[float]:
        """Return the requests that each model may start now; a model without a free token may start none."""
        return [
            0 if model.tokens is not None and model.tokens.free(now) < 1 else model.free(now)
            for model in self.models
        ]

    def free_tokens(self, now: float) -> list[float]:
        """Return the tokens that each model may take now; inf without a limit."""
        return [math.inf if model.tokens is None else model.tokens.free(now) for model in self.models]

    def reserve(
        self, claims: Sequence[Claim], now: float, deliver: Callable[[list[Grant | None]], None]
    ) -> None:
        """Reserve what fits, claim by claim; `deliver` is called before this returns."""
        models = self.models
        grants: list[Grant | None] = []
        for claim in claims:
            for at, tokens, cost in zip(claim.models, claim.tokens, claim.cost, strict=True):
                if models[at].fits(tokens, now):
                    grants.append(Grant(claim.id, at, tokens, cost, models[at].take(tokens, now)))
                    break
            else:
                grants.append(None)
        deliver(grants)

    def settle(self, grant: Grant, tokens: int, held: float, now: float) -> None:
        """Release a slot after `held` seconds; `tokens` were really used."""
        self.models[grant.model].release(grant.time_slot, tokens - grant.tokens, held, now)

    def cancel(self, grant: Grant, now: float) -> None:
        """Release a slot as if it had never been taken: neither the request nor its tokens count."""
        self.models[grant.model].cancel(grant.time_slot, grant.tokens, now)

    def set_up(self, model: int, up: bool) -> None:
        """Give a model nothing more (False), or let it take requests again (True)."""
        self.models[model].up = up

    def seconds_until(self, model: int, tokens: int, now: float) -> float:
        """Estimate the seconds until a request of so many tokens fits; inf when it never will."""
        return self.models[model].seconds_until(tokens, now)

    def next_change(self, now: float) -> float:
        """Return the seconds until a window lets go of something; inf when none holds any."""
        waits = [math.inf]
        for model in self.models:
            for window in (model.requests, model.tokens):
                if window is not None and window.used > 0 and model.up:
                    waits.append(window.seconds_until(min(window.free(now) + 1, window.limit), now))
        return min((wait for wait in waits if wait > 0), default=math.inf)

    async def close(self) -> None:
        """Take the announcement of these limits back; nothing is held anywhere else."""
        if self.announcement is not None:
            self.announcement.close()


def model_limits(llms: Sequence[LLM | Limit], capacity: Mapping[str, float] | None) -> list[ModelLimit]:
    """Return the limits of a pool as the sessions that share them agree on."""
    return [
        ModelLimit(
            model.name,
            model.slots,
            None if model.requests is None else model.requests.limit,
            None if model.tokens is None else model.tokens.limit,
        )
        for model in model_loads(llms, capacity)
    ]
