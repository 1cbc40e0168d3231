"""A world as the solver sees it: costs, limits over the whole log, and what raising one does."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from eccos_rs.catalogue.models import catalogue
from eccos_rs.errors import PoolError
from eccos_rs.pools.pool import LLM, Pool
from eccos_rs.routing.policy import Policy
from eccos_rs.routing.problem import build_problem
from eccos_rs.routing.workload import refuse_priced
from eccos_rs.solver.assignment import Assignment, PooledCapacity, assign
from eccos_rs.whatif.scenario import RESOURCES
from eccos_rs.whatif.traffic import DAY

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from eccos_rs.whatif.scenario import Scenario
    from eccos_rs.whatif.traffic import LoggedTraffic

__all__ = ["Lever", "World", "build_world"]

_SLOTS, _REQUESTS = 0, 1
_MORE_SLOTS, _MORE = 10, 0.1
"""By what a limit is raised to say what more of it is worth: ten slots, a tenth of a rate."""


@dataclass(frozen=True, slots=True)
class Lever:
    """A limit and the step by which it is raised.

    Attributes
    ----------
    limit, step : str
        ``"large"``; ``"10 more slots"``.
    at : tuple
        Where its price lies: ``("capacity", resource, model)``, ``("pool", number)`` or ``("goal",)``.
    units : float
        By which the solver's limit grows.
    """

    limit: str
    step: str
    at: tuple[Any, ...]
    units: float


@dataclass(frozen=True, eq=False)
class World:
    """A scenario as arrays over the rows of a log; load and cost are of all rows that each stands for.

    Attributes
    ----------
    scenario : Scenario
    columns : ndarray of int, shape (M,)
        Of the traffic's prediction.
    cost : ndarray of float64, shape (N, M)
        US dollars.
    quality : ndarray of float32, shape (N, M)
    allowed : ndarray of bool, shape (N, M)
    load : ndarray of float64, shape (3, N, M)
        Seconds of a slot, requests, tokens.
    capacity : ndarray of float64, shape (3, M)
    pools : tuple of PooledCapacity
    goal : (str, float)
        As `assign` takes it: a budget is of the whole log.
    seconds : ndarray of float64, shape (N, M)
        One answer's.
    levers : tuple of Lever
        Every limit and the goal.
    """

    scenario: Scenario
    columns: NDArray[np.intp]
    cost: NDArray[np.float64]
    quality: NDArray[np.float32]
    allowed: NDArray[np.bool_]
    load: NDArray[np.float64]
    capacity: NDArray[np.float64]
    pools: tuple[PooledCapacity, ...]
    goal: tuple[str, float]
    seconds: NDArray[np.float64]
    levers: tuple[Lever, ...]

    def take(self, rows: NDArray[np.intp]) -> World:
        """Return the same limits over other rows, as many as before."""
        return replace(
            self, cost=self.cost[rows], quality=self.quality[rows], allowed=self.allowed[rows],
            load=np.ascontiguousarray(self.load[:, rows]), seconds=self.seconds[rows],
        )  # fmt: skip

    def raised(self, lever: Lever) -> World:
        """Return the world with more of one limit, or with less asked."""
        kind, *at = lever.at
        if kind == "capacity":
            capacity = self.capacity.copy()
            capacity[tuple(at)] += lever.units
            return replace(self, capacity=capacity)
        if kind == "pool":
            pools = list(self.pools)
            pools[at[0]] = replace(pools[at[0]], capacity=pools[at[0]].capacity + lever.units)
            return replace(self, pools=tuple(pools))
        return replace(self, goal=(self.goal[0], self.goal[1] + lever.units))

    def limits(self) -> dict[str, Any]:
        """Return the keywords of `assign` and `frontier` that say what limits there are."""
        found: dict[str, Any] = {
            "allowed": None if self.allowed.all() else self.allowed,
            "unroutable": "defer",
        }
        if np.isfinite(self.capacity).any() or self.pools:
            found |= {"load": self.load, "capacity": self.capacity, "pools": self.pools}
        return found

    def solve(self) -> Assignment:
        """Assign every row."""
        wanted: dict[str, Any] = {self.goal[0]: self.goal[1]}
        return assign(self.cost, self.quality, **wanted, **self.limits())

    def price(self, found: Assignment, lever: Lever) -> float:
        """Return by what the objective improves at the margin as a limit grows by its step."""
        kind, *at = lever.at
        duals = found.duals
        if kind == "goal":
            return float(duals.requirement) * abs(lever.units)
        if kind == "pool":
            return float(np.asarray(duals.pool)[at[0]]) * lever.units
        return float(np.asarray(duals.capacity)[tuple(at)]) * lever.units


def build_world(traffic: LoggedTraffic, scenario: Scenario, pool: Pool) -> World:
    """Put a scenario into arrays.

    Parameters
    ----------
    traffic : LoggedTraffic
    scenario : Scenario
        Of models that answer at once.
    pool : Pool
        Where batch lanes and their prices are looked for before the catalogue.

    Raises
    ------
    PoolError
        No model has a batch lane that the scenario needs, or a commitment is beyond the traffic.
    """
    policy, weight = Policy(unroutable="defer", quality_value=0.0), traffic.scale * scenario.factor
    refuse_priced(scenario.pool, policy, "in a scenario it is commit MODEL=COUNT")
    prediction = traffic.prediction.select(scenario.pool.names)
    problem = build_problem(scenario.pool, prediction, traffic.queries, policy)
    cost, seconds = problem.cost, problem.output_tokens / traffic.tokens_per_second
    tokens = problem.output_tokens + problem.input_tokens[:, None]
    load = np.stack([seconds, np.ones_like(seconds), tokens])
    if scenario.batch_share > 0:
        waits = np.random.default_rng(0).random(len(cost)) < scenario.batch_share
        lanes = [_in_batch(model, pool) for model in scenario.pool]
        has = np.array([lane is not None for lane in lanes])
        if not has.any():
            raise PoolError(
                f"scenario {scenario.name!r}: no model has a batch lane, neither in the pool file (lane = "
                '"batch") nor in the catalogue'
            )
        cheaper = Pool([lane or model for lane, model in zip(lanes, scenario.pool, strict=True)])
        cost = np.where(
            waits[:, None], build_problem(cheaper, prediction, traffic.queries, policy).cost, cost
        )
        # A batch lane has limits of its own: it takes nothing of what live requests share.
        load[:, waits[:, None] & has] = 0.0
    units, capacity, levers = _own_limits(scenario, traffic)
    pools, shared = _shared_limits(scenario, traffic, units, problem.allowed, weight)
    word, value = scenario.goal
    goal = (word, value * traffic.days) if word == "budget" else (word, value)
    less = 0.1 * goal[1] if word == "budget" else -min(0.01, goal[1])
    step = "a tenth more" if word == "budget" else "one point less"
    aim = Lever("the budget" if word == "budget" else "the promised quality", step, ("goal",), less)
    return World(
        scenario, traffic.columns(scenario.pool), cost * weight, problem.quality, problem.allowed,
        load * weight, capacity, pools, goal, seconds, (*levers, *shared, aim),
    )  # fmt: skip


def _own_limits(
    scenario: Scenario, traffic: LoggedTraffic
) -> tuple[tuple[float, float, float], NDArray[np.float64], list[Lever]]:
    """Return the solver's units per unit of each resource, every model's capacities, and their levers."""
    span = traffic.days * DAY
    units = (span * traffic.utilisation, span / 60.0, span / 60.0)
    capacity = np.full((len(RESOURCES), len(scenario.pool)), np.inf)
    levers = []
    for resource, name in enumerate(RESOURCES):
        for at, model in enumerate(scenario.pool):
            value = getattr(model, name)
            if value is not None:
                capacity[resource, at] = value * units[resource]
                more, words = _step(name, value)
                levers.append(Lever(model.name, words, ("capacity", resource, at), more * units[resource]))
    return units, capacity, levers


def _step(resource: str, value: float) -> tuple[float, str]:
    if resource == "slots":
        return _MORE_SLOTS, f"{_MORE_SLOTS} more slots"
    more = _MORE * value
    return more, f"{more:g} more {resource.replace('_', ' ')}"


def _shared_limits(
    scenario: Scenario,
    traffic: LoggedTraffic,
    units: Sequence[float],
    allowed: NDArray[np.bool_],
    weight: float,
) -> tuple[tuple[PooledCapacity, ...], list[Lever]]:
    """Return limits over several models, with their levers."""
    pool, levers = scenario.pool, []
    pools: list[PooledCapacity] = []
    for limit in pool.limits:
        members = sorted({at for name in limit.models for at in pool.columns(name)})
        for resource, name in enumerate(RESOURCES):
            value = getattr(limit, name)
            if value is not None:
                more, words = _step(name, value)
                levers.append(Lever(limit.name, words, ("pool", len(pools)), more * units[resource]))
                pools.append(PooledCapacity(members, value * units[resource], resource, limit.name))
    for model, per_day in scenario.committed.items():
        everything, promised = len(allowed) * weight, per_day * traffic.days
        able = float(allowed[:, pool.index(model)].sum()) * weight
        if promised > able:
            raise PoolError(
                f"scenario {scenario.name!r}: {model} is promised {per_day:g} requests per day; the log has "
                f"{able / traffic.days:g} that it may take"
            )
        # At least k of n here is at most n - k everywhere else.
        others = [at for at, name in enumerate(pool.names) if name != model]
        if others and promised > 0:
            fewer = _MORE * per_day
            step = f"{fewer:g} fewer requests per day promised"
            levers.append(Lever(model, step, ("pool", len(pools)), fewer * traffic.days))
            pools.append(PooledCapacity(others, everything - promised, _REQUESTS, f"commitment to {model}"))
    return tuple(pools), levers


def _in_batch(model: LLM, pool: Pool) -> LLM | None:
    """Return a model at the prices of its batch lane: the pool's, else the catalogue's; None without any."""
    for other in pool:
        if other.lane == "batch" and (other.identity, other.effort) == (model.identity, model.effort):
            return replace(model, input_price=other.input_price, output_price=other.output_price)
    try:
        known = catalogue().model(model.identity)
    except PoolError:
        return None
    prices, listed = known.lanes.get("batch"), known.prices
    if prices is None or listed is None:
        return None

    def discounted(own: float, batch: float, standard: float) -> float:
        # A price of one's own, or of the scenario, gets the discount and not the list price.
        return own * batch / standard if standard > 0 else min(own, batch)

    return replace(
        model,
        input_price=discounted(model.input_price, prices.input, listed.input),
        output_price=discounted(model.output_price, prices.output, listed.output),
    )
