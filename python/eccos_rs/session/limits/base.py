"""What a session asks of a rate limiter: free capacity, reservations, settlements."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from eccos_rs.session.limits.window import ModelLoad

__all__ = ["Claim", "Deliver", "Grant", "RateLimiter", "SharedRoom"]


class Claim(NamedTuple):
    """A request for a slot of one of several models.

    Attributes
    ----------
    id : str
        Of the lease that is to hold the slot.
    models : tuple of int
        Indices into the pool, the preferred one first.
    tokens : tuple of int
        Tokens to be reserved, one per entry of `models`: the prompt's and the predicted output's.
    cost : tuple of float
        Predicted US dollars, one per entry of `models`.
    """

    id: str
    models: tuple[int, ...]
    tokens: tuple[int, ...]
    cost: tuple[float, ...]


class Grant(NamedTuple):
    """A slot that was reserved.

    Attributes
    ----------
    id : str
        Of its lease.
    model : int
        Index into the pool.
    tokens : int
        Tokens reserved.
    cost : float
        Predicted US dollars.
    time_slot : int
        Where the windows have counted it; -1 without a limit per minute.
    """

    id: str
    model: int
    tokens: int
    cost: float
    time_slot: int


class SharedRoom(NamedTuple):
    """What is free of a limit over several models.

    Attributes
    ----------
    models : tuple of int
        Indices into the pool.
    requests, tokens : float
        How many may start now, and how many tokens they may take; inf without a limit.
    """

    models: tuple[int, ...]
    requests: float
    tokens: float


Deliver = "Callable[[list[Grant | None]], None]"
"""Takes the answer to a reservation: one grant or None per claim, in the order of the claims."""


class RateLimiter(Protocol):
    """Slots, requests per minute and tokens per minute of every model of a pool.

    All methods are called on the session's event loop. Times are seconds on the session's clock.
    `tests/session/test_limiter_contract.py` is the contract that every implementation passes.
    """

    @property
    def models(self) -> Sequence[ModelLoad]:
        """The load of each model as this session knows it, in the order of the pool."""
        ...

    @property
    def own(self) -> Sequence[ModelLoad]:
        """The load of each model by this session alone."""
        ...

    @property
    def state(self) -> str:
        """How limits are kept now: ``local``, ``shared``, or what is done while the shared state is lost."""
        ...

    @property
    def losses(self) -> int:
        """How often the shared state was lost."""
        ...

    @property
    def counts_tokens(self) -> bool:
        """Whether anything has a limit of tokens per minute."""
        ...

    @property
    def most_tokens(self) -> list[float]:
        """The largest request that each model can ever take, in tokens; -1 for one that takes none."""
        ...

    @property
    def arrivals_elsewhere(self) -> float:
        """Queries per second that other sessions with the same limits decide; 0 when none share them."""
        ...

    def free(self, now: float) -> list[float]:
        """Return the requests that each model may start now; a model without a free token may start none."""
        ...

    def free_tokens(self, now: float) -> list[float]:
        """Return the tokens that each model may take now; inf without a limit."""
        ...

    def shared(self, now: float) -> Sequence[SharedRoom]:
        """Return what is free of each limit that several models share; `free` has the least of them too."""
        ...

    def reserve(
        self, claims: Sequence[Claim], now: float, deliver: Callable[[list[Grant | None]], None]
    ) -> None:
        """Reserve what fits, claim by claim, and hand the grants to `deliver`: now, or later on the loop."""
        ...

    def settle(self, grant: Grant, tokens: int, held: float, now: float) -> None:
        """Release a slot after `held` seconds; `tokens` were really used in place of `grant.tokens`."""
        ...

    def cancel(self, grant: Grant, now: float) -> None:
        """Release a slot as if it had never been taken: neither the request nor its tokens count."""
        ...

    def set_up(self, model: int, up: bool) -> None:
        """Give a model nothing more (False), or let it take requests again (True)."""
        ...

    def seconds_until(self, model: int, tokens: int, now: float) -> float:
        """Estimate the seconds until a request of so many tokens fits; inf when it never will."""
        ...

    def next_change(self, now: float) -> float:
        """Return the seconds after which it is worth looking again; inf when only a release can help."""
        ...

    async def close(self) -> None:
        """Give back whatever is held and end."""
        ...
