"""A world that traffic is planned for, and the changes that make another of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from eccos_rs.domain.validation import did_you_mean, shown
from eccos_rs.errors import InputError, PoolError
from eccos_rs.pools.pool import LLM, Pool

if TYPE_CHECKING:
    from eccos_rs.domain.llm import Limit

__all__ = [
    "RESOURCES",
    "TODAY",
    "Change",
    "Scenario",
    "added",
    "batch_share",
    "commitment",
    "goal",
    "limit",
    "outage",
    "price",
    "traffic_factor",
]

TODAY = "today"
"""The name of the world as it is."""
RESOURCES = {
    "slots": "slot",
    "requests_per_minute": "request per minute",
    "tokens_per_minute": "token per minute",
}
"""What a pool limits, and the unit of each."""


@dataclass(frozen=True)
class Scenario:
    """A world.

    Attributes
    ----------
    name : str
    pool : Pool
        Models with their prices and limits.
    goal : (str, float)
        ``min_quality`` with a mean success, or ``budget`` with US dollars per day.
    batch_share : float
        Share of the requests, drawn at random, that may wait for a model's batch lane.
    committed : mapping of str to float
        Requests per day that a model gets at least.
    factor : float
        Requests for each one of the log.
    """

    name: str
    pool: Pool
    goal: tuple[str, float]
    batch_share: float = 0.0
    committed: Mapping[str, float] = field(default_factory=dict)
    factor: float = 1.0

    def __post_init__(self) -> None:
        word, value = self.goal
        if word == "min_quality" and not 0.0 <= value <= 1.0:
            raise InputError(f"min_quality must lie in [0, 1], got {value:g}")
        if word == "budget" and not 0.0 <= value < float("inf"):
            raise InputError(
                f"budget must be a finite number of at least 0 US dollars per day, got {value:g}"
            )
        if not 0.0 <= self.batch_share <= 1.0:
            raise InputError(f"batch must be a share of the requests, 0 to 1, got {self.batch_share:g}")
        if not 0.0 < self.factor < float("inf"):
            raise InputError(f"traffic must be a finite number greater than 0, got {self.factor:g}")

    def becomes(self, words: str, **changes: object) -> Scenario:
        """Return the world with some fields changed, named by what was changed."""
        name = words if self.name == TODAY else f"{self.name}, {words}"
        return replace(self, name=name, **changes)  # type: ignore[arg-type]  # fields of it


Change = Callable[[Scenario], Scenario]
"""Makes one world of another."""


def price(
    model: str, *, input_price: float = 0.0, output_price: float = 0.0, factor: float | None = None
) -> Change:
    """Let a model cost this, in US dollars per million tokens, or so many times what it costs."""

    def dearer(llm: LLM) -> LLM:
        if factor is None:
            return replace(llm, input_price=input_price, output_price=output_price)
        return replace(llm, input_price=factor * llm.input_price, output_price=factor * llm.output_price)

    def change(world: Scenario) -> Scenario:
        told = f"{factor:g} x its price" if factor is not None else f"${input_price:g} / ${output_price:g}"
        return world.becomes(f"{model} at {told}", pool=_changed(world.pool, model, dearer))

    return change


def limit(name: str, resource: str, value: float, *, more: bool = False) -> Change:
    """Give a model, or a limit that several share, this much of a resource, or this much more.

    Raises
    ------
    PoolError
        Nothing in the pool has this name, nothing is there that could be raised, or nothing would be left.
    """

    def raised(each: LLM | Limit) -> float:
        before = getattr(each, resource)
        if more and before is None:
            raise PoolError(f"{name!r} has no limit of {resource} that could change by {value:+g}")
        total = value + (before if more else 0)
        if total <= 0:
            raise PoolError(
                f"{resource} of {name!r} must be more than 0, got {total:g}; to take a model out say "
                f"outage {name}"
            )
        if resource == "slots" and total != int(total):
            raise PoolError(f"slots of {name!r} must be a whole number, got {total:g}")
        return int(total) if resource == "slots" else float(total)

    def change(world: Scenario) -> Scenario:
        words = f"{name}: {value:{'+g' if more else 'g'}} {_words(resource)}"
        shared = {each.name: each for each in world.pool.limits}
        if name in shared and name not in world.pool.names:
            set_to = {name: replace(shared[name], **_one(resource, raised(shared[name])))}
            limits = [set_to.get(each.name, each) for each in world.pool.limits]
            return world.becomes(words, pool=world.pool.with_limits(*limits))

        def allow(llm: LLM) -> LLM:
            return replace(llm, **_one(resource, raised(llm)))

        pool = _changed(world.pool, name, allow, tuple(shared))
        return world.becomes(words, pool=pool)

    return change


def outage(model: str) -> Change:
    """Take a model out."""

    def change(world: Scenario) -> Scenario:
        out = {world.pool.names[at] for at in _columns(world.pool, model)}
        kept = [name for name in world.pool.names if name not in out]
        if not kept:
            raise PoolError(f"without {model!r} no model is left")
        committed = {name: count for name, count in world.committed.items() if name not in out}
        return world.becomes(f"without {model}", pool=world.pool.select(kept), committed=committed)

    return change


def added(model: LLM) -> Change:
    """Add a model; the forecasts of the traffic must know it."""

    def change(world: Scenario) -> Scenario:
        return world.becomes(f"with {model.name}", pool=Pool([*world.pool, model], world.pool.limits))

    return change


def batch_share(share: float) -> Change:
    """Let a share of the requests wait for a batch lane."""
    return lambda world: world.becomes(f"{share:.0%} in the batch lane", batch_share=share)


def commitment(model: str, requests_per_day: float) -> Change:
    """Give a model at least so many requests per day, as a contract demands."""

    def change(world: Scenario) -> Scenario:
        if requests_per_day < 0:
            raise PoolError(f"the commitment to {model!r} must be at least 0, got {requests_per_day:g}")
        _columns(world.pool, model)
        committed = {**world.committed, world.pool[model].name: requests_per_day}
        return world.becomes(f"{model} at least {requests_per_day:g} per day", committed=committed)

    return change


def goal(word: str, value: float) -> Change:
    """Aim at the highest quality for a ``budget`` per day, or at least cost with a ``min_quality``."""
    words = f"${value:g} per day" if word == "budget" else f"quality {value:g}"
    return lambda world: world.becomes(words, goal=(word, value))


def traffic_factor(factor: float) -> Change:
    """Let so many requests come for each one of today."""
    return lambda world: world.becomes(f"{factor:g} x the traffic", factor=factor)


def _columns(pool: Pool, name: str, more_names: tuple[str, ...] = ()) -> tuple[int, ...]:
    try:
        return pool.columns(name)
    except PoolError:
        near = did_you_mean(name, [*pool.names, *more_names])
        raise PoolError(f"there is no model {shown(name)} in the pool{near}") from None


def _changed(pool: Pool, name: str, change: Callable[[LLM], LLM], more_names: tuple[str, ...] = ()) -> Pool:
    for at in _columns(pool, name, more_names):
        models = list(pool)
        models[at] = change(models[at])
        pool = Pool(models, pool.limits)
    return pool


def _words(resource: str) -> str:
    return resource.replace("_", " ")


def _one(name: str, value: float) -> dict[str, Any]:
    return {name: value}
