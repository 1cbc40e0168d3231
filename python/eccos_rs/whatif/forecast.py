"""What each world comes to: cost, quality, waiting, and what more of each limit is worth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from eccos_rs.errors import InputError
from eccos_rs.evaluate.curves import Estimate, summarise
from eccos_rs.solver.assignment import frontier
from eccos_rs.start.draws import ForecastDraws
from eccos_rs.whatif.queueing import formula_queueing, simulated_queueing
from eccos_rs.whatif.traffic import DAY
from eccos_rs.whatif.world import World, build_world

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from eccos_rs.pools.pool import Pool
    from eccos_rs.solver.assignment import Assignment
    from eccos_rs.whatif.scenario import Scenario
    from eccos_rs.whatif.traffic import LoggedTraffic
    from eccos_rs.whatif.world import Lever

    Floats = NDArray[np.float64]

__all__ = ["Forecast", "Outcome", "Point", "Waiting", "Worth", "forecast"]

_TOLERANCE = 2e-4
"""Twice the relative gap at which the solver is content."""
_FRONTIER_SECONDS, _FRONTIER_POINTS = 20.0, 200


@dataclass(frozen=True, slots=True)
class Worth:
    """What a step of one limit changes, per day.

    Attributes
    ----------
    limit, step : str
        ``"large"``; ``"10 more slots"``.
    saved : Estimate
        US dollars.
    gained : Estimate
        Good answers.
    served : Estimate
        Requests.
    """

    limit: str
    step: str
    saved: Estimate
    gained: Estimate
    served: Estimate


@dataclass(frozen=True, slots=True)
class Waiting:
    """How requests wait for a model's slots.

    Attributes
    ----------
    model : str
    slots : int
    busy : Estimate
        Mean share of the slots that answer; from 1 on the queue has no end.
    waits : Estimate
        Share of the requests that wait.
    mean, p95 : Estimate
        Seconds; infinite where the queue has no end.
    """

    model: str
    slots: int
    busy: Estimate
    waits: Estimate
    mean: Estimate
    p95: Estimate


@dataclass(frozen=True, slots=True)
class Point:
    """Cost per day in US dollars and mean success of what the log's own models do."""

    cost: Estimate
    quality: Estimate


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a world comes to, with 95 % intervals.

    Attributes
    ----------
    scenario : Scenario
    status : str
        As of `Assignment`.
    cost, quality, deferred : Estimate
        US dollars per day; mean success; share of the requests that no capacity is left for.
    saved, gained : Estimate
        Against today, in the same draws: US dollars per day; success.
    shares : dict of str to float
        Of the requests, per model.
    worth : list of Worth
        Of the limits that bind and of the goal; a limit that is not named costs nothing.
    free : list of str
        Limits that do not bind.
    waiting : list of Waiting
    """

    scenario: Scenario
    status: str
    cost: Estimate
    quality: Estimate
    deferred: Estimate
    saved: Estimate
    gained: Estimate
    shares: dict[str, float]
    worth: list[Worth]
    free: list[str]
    waiting: list[Waiting]


@dataclass(frozen=True, eq=False)
class Forecast:
    """A log planned for several worlds.

    Attributes
    ----------
    traffic : LoggedTraffic
    outcomes : list of Outcome
        The first is today, routed.
    as_is : Point or None
        What the models that the log names come to by the same forecasts; None where it names none.
    frontier : list of (float, float)
        Mean success and least US dollars per day, under today's limits; empty where they hold fewer requests
        than there are.
    resamples : int
    """

    traffic: LoggedTraffic
    outcomes: list[Outcome]
    as_is: Point | None
    frontier: list[tuple[float, float]]
    resamples: int

    @property
    def measured(self) -> bool:
        """Whether waiting follows the log's own arrival times."""
        return _is_measured(self.traffic)


def forecast(
    traffic: LoggedTraffic,
    worlds: Sequence[Scenario],
    *,
    lanes: Pool | None = None,
    resamples: int = 100,
    seed: int = 0,
    progress: Callable[[int], object] | None = None,
) -> Forecast:
    """Plan the traffic in every world; the first is today.

    Every resample draws rows of the log anew and, for all worlds alike, how far the forecasts of each model's
    level and lengths may be off; routing knows the forecasts, and is judged by what was drawn.

    Parameters
    ----------
    traffic : LoggedTraffic
    worlds : sequence of Scenario
    lanes : Pool, optional
        Where batch lanes are looked for before the catalogue.
    resamples : int
    seed : int
    progress : callable, optional
        Called with the number of resamples that were just solved, of ``len(worlds) * resamples``.

    Raises
    ------
    PoolError
        A scenario needs a batch lane that no model has, or a commitment is beyond the traffic.
    """
    if resamples < 2:
        raise InputError(f"resamples must be at least 2, got {resamples}")
    built = [build_world(traffic, world, worlds[0].pool if lanes is None else lanes) for world in worlds]
    draws = _Draws(traffic, resamples, seed)
    outcomes: list[Outcome] = []
    today: Floats | None = None
    for world in built:
        outcome, seen = _outcome(world, draws, today, progress)
        today = seen if today is None else today
        outcomes.append(outcome)
    return Forecast(traffic, outcomes, draws.as_is(built[0]), _frontier(built[0], traffic), resamples)


class _Draws:
    """Rows and truths that all worlds are judged on; number 0 is the log and the forecasts as they are."""

    def __init__(self, traffic: LoggedTraffic, count: int, seed: int) -> None:
        self.traffic, self.count = traffic, count
        self._truth = ForecastDraws(traffic.prediction, traffic.told, count, seed)
        self._success: dict[int, NDArray[np.float32]] = {}
        self._seed = seed

    def success(self, draw: int) -> NDArray[np.float32]:
        # Every world and every raised limit asks for it again.
        if draw not in self._success:
            self._success[draw] = self._truth.success(draw).astype(np.float32)
        return self._success[draw]

    def rows(self, draw: int) -> NDArray[np.intp]:
        n = len(self.traffic.queries)
        if draw == 0:
            return np.arange(n)
        return np.random.default_rng((self._seed, draw)).integers(0, n, n)

    def figures(self, found: Assignment, world: World, rows: NDArray[np.intp], draw: int) -> Floats:
        """Return US dollars per day, good answers per day, served and all requests per day."""
        at = np.flatnonzero(found.model >= 0)
        model = found.model[at]
        columns = world.columns[model]
        weight = self.traffic.scale * world.scenario.factor / self.traffic.days
        cost = world.cost[at, model] * self._truth.tokens[draw, columns]
        good = self.success(draw)[rows[at], columns].astype(np.float64)
        return np.array([
            cost.sum() / self.traffic.days, good.sum() * weight, len(at) * weight, len(rows) * weight,
        ])  # fmt: skip

    def lengths(self, draw: int, columns: int) -> float:
        return float(self._truth.tokens[draw, columns])

    def as_is(self, world: World) -> Point | None:
        """Return what the models that answered today come to, over the rows that name one."""
        by = self.traffic.answered_by
        if by is None:
            return None
        cost, quality = [], []
        for draw in range(self.count + 1):
            rows = self.rows(draw)
            rows = rows[by[rows] >= 0]
            model = by[rows]
            columns = self.traffic.columns(world.scenario.pool)[model]
            paid = world.cost[rows, model] * self._truth.tokens[draw, columns]
            # Rows that name no model of the pool cost as much as the others.
            cost.append(paid.mean() * len(by) / self.traffic.days if len(rows) else np.nan)
            quality.append(self.success(draw)[rows, columns].mean(dtype=np.float64) if len(rows) else np.nan)
        return Point(summarise(np.array(cost)), summarise(np.array(quality)))


def _outcome(
    world: World, draws: _Draws, today: Floats | None, progress: Callable[[int], object] | None
) -> tuple[Outcome, Floats]:
    whole = world.solve()
    binding = _binding(world, whole)
    seen, stepped = [], [[] for _ in binding]  # type: ignore[var-annotated]
    for draw in range(draws.count + 1):
        rows = draws.rows(draw)
        here = world if draw == 0 else world.take(rows)
        found = whole if draw == 0 else here.solve()
        figures = draws.figures(found, here, rows, draw)
        seen.append(figures)
        for at, lever in enumerate(binding):
            raised = here.raised(lever).solve()
            stepped[at].append(draws.figures(raised, here, rows, draw) - figures)
        if progress is not None and draw:
            progress(1)
    told = np.array(seen)
    quality, first = told[:, 1] / told[:, 2], told if today is None else today
    counts = np.bincount(whole.model[whole.model >= 0], minlength=len(world.columns))
    worth = [_worth(lever, np.array(change)) for lever, change in zip(binding, stepped, strict=True)]
    free = [f"{each.limit}: {each.step}" for each in world.levers if each not in binding]
    outcome = Outcome(
        scenario=world.scenario,
        status=str(whole.status),
        cost=summarise(told[:, 0]),
        quality=summarise(quality),
        deferred=summarise(1.0 - told[:, 2] / told[:, 3]),
        saved=summarise(_beyond_tolerance(first[:, 0] - told[:, 0], first[:, 0])),
        gained=summarise(quality - first[:, 1] / first[:, 2]),
        shares=dict(zip(world.scenario.pool.names, (counts / len(whole.model)).tolist(), strict=True)),
        worth=worth,
        free=free,
        waiting=_waiting(whole, world, draws),
    )
    return outcome, told


def _beyond_tolerance(change: Floats, cost: Floats) -> Floats:
    """Return savings, 0 where they are less than two solutions of one problem may be apart."""
    return np.where(np.abs(change) <= _TOLERANCE * cost, 0.0, change)


def _binding(world: World, found: Assignment) -> list[Lever]:
    """Return the limits of which more would help; the objective is concave in each, so no others do."""
    if (found.model < 0).any():
        return [each for each in world.levers if each.at[0] != "goal"]
    return [each for each in world.levers if world.price(found, each) > 0.0]


def _worth(lever: Lever, change: Floats) -> Worth:
    return Worth(
        lever.limit, lever.step, summarise(-change[:, 0]), summarise(change[:, 1]), summarise(change[:, 2])
    )


def _is_measured(traffic: LoggedTraffic) -> bool:
    # A sample's arrivals are too few, and a row without a time would not queue.
    return traffic.arrival is not None and traffic.scale == 1.0 and bool(np.isfinite(traffic.arrival).all())


def _waiting(found: Assignment, world: World, draws: _Draws) -> list[Waiting]:
    """Return how requests wait for each model with slots, in as many draws of lengths."""
    traffic, listed = draws.traffic, []
    measured = _is_measured(traffic) and world.scenario.factor == 1.0
    spread = traffic.prediction.log_tokens_std[:, world.columns].astype(np.float64)
    for at, model in enumerate(world.scenario.pool):
        if model.slots is None:
            continue
        rows = np.flatnonzero((found.model == at) & (world.load[0, :, at] > 0))
        expected, told = world.seconds[rows, at], []
        for draw in range(draws.count + 1):
            longer = draws.lengths(draw, int(world.columns[at]))
            if measured and traffic.arrival is not None:
                std = spread[rows, at]
                noise = np.random.default_rng(draw).normal(size=len(rows))
                seconds = longer * expected * np.exp(std * noise - 0.5 * std**2)
                told.append(
                    simulated_queueing(model.slots, traffic.arrival[rows], seconds, traffic.days * DAY)
                )
            else:
                mean = float(expected.mean()) if len(rows) else 0.0
                weight = traffic.scale * world.scenario.factor
                span = traffic.days * DAY
                told.append(formula_queueing(model.slots, len(rows) * weight, longer * mean, span))
        listed.append(Waiting(model.name, model.slots, *map(summarise, np.array(told).T)))
    return listed


def _frontier(world: World, traffic: LoggedTraffic) -> list[tuple[float, float]]:
    found = frontier(
        world.cost, world.quality, max_points=_FRONTIER_POINTS, time_limit=_FRONTIER_SECONDS, **world.limits()
    )
    return list(zip(found.quality.tolist(), (found.cost / traffic.days).tolist(), strict=True))
