"""What routing would do, by forecasts alone: before anything is asked, or where nothing may be spent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from eccos_rs.evaluate.curves import Estimate, summarise
from eccos_rs.evaluate.outcomes import Figures, blind_mix, route_like
from eccos_rs.evaluate.verdict import Verdict, decide
from eccos_rs.pools.columns import find_column
from eccos_rs.start.draws import ForecastDraws, lengths_told
from eccos_rs.start.measured import Measured, measured_costs, sum_counts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from eccos_rs.predict.protocol import Prediction
    from eccos_rs.routing.pool import Pool
    from eccos_rs.routing.router import Router
    from eccos_rs.start.log import Entry, Log

    Floats = NDArray[np.float64]

__all__ = [
    "Outlook",
    "ReferenceRouting",
    "Traffic",
    "build_traffic",
    "look_ahead",
    "pick_reference",
]

DRAWS = 300


@dataclass(frozen=True, eq=False)
class Traffic:
    """Requests that every model of the pool may take, with what is forecast of them.

    Attributes
    ----------
    entries : tuple of Entry
        N of them.
    mass : ndarray, shape (N,)
        Rows of the log that each stands for.
    prediction : Prediction
        (N, M), with embeddings.
    cost : ndarray, shape (N, M)
        US dollars expected.
    counted : dict of str to Measured
        What the log counts of the pool's models.
    measured : ndarray, shape (N, M)
        US dollars at the pool's prices for the tokens that the log counts; NaN where it counts none.
    left_out : int
        Rows whose requests some model may not take (vision, tools, a window too small).
    """

    entries: tuple[Entry, ...]
    mass: Floats
    prediction: Prediction
    cost: Floats
    counted: dict[str, Measured]
    measured: Floats
    left_out: int

    @property
    def paid(self) -> Floats:
        """US dollars of each request at each model, (N, M): measured where the log counts them."""
        return np.where(np.isfinite(self.measured), self.measured, self.cost)

    @property
    def quality(self) -> NDArray[np.float32]:
        """Predicted success, (N, M)."""
        return self.prediction.quality


@dataclass(frozen=True, eq=False)
class ReferenceRouting:
    """What routing is compared with.

    Attributes
    ----------
    name : str
    columns : ndarray of int, shape (N,)
        The model of each request today.
    from_log : bool
        Whether the log says so; else it is the strongest model of the pool.
    """

    name: str
    columns: NDArray[np.intp]
    from_log: bool


@dataclass(frozen=True, slots=True)
class Outlook:
    """What is expected of routing, with 95 % intervals.

    Attributes
    ----------
    verdict : Verdict
        Not measured; against today.
    strongest : Verdict
        The same against sending everything to the strongest model.
    spend, strongest_spend : Estimate
        US dollars that the log's requests would cost routed, and all at the strongest model.
    familiar : float or None
        Share of the requests that are like known ground.
    """

    verdict: Verdict
    strongest: Verdict
    spend: Estimate
    strongest_spend: Estimate
    familiar: float | None


def build_traffic(log: Log, router: Router) -> Traffic:
    """Forecast the requests of a log."""
    queries = [entry.query for entry in log.entries]
    prediction = router.predict(queries)
    policy = router.policy.replace(unroutable="defer")
    takes = router.problem(prediction, queries, policy).allowed.all(axis=1)
    rows = np.flatnonzero(takes)
    entries = tuple(log.entries[row] for row in rows.tolist())
    counts = np.array([entry.count for entry in log.entries], dtype=np.float64)
    return Traffic(
        entries,
        counts[rows],
        prediction.rows(rows),
        router.costs(prediction, queries)[rows],
        sum_counts(log.entries, router.pool),
        measured_costs(entries, router.pool),
        int(counts[~takes].sum()),
    )


def pick_reference(traffic: Traffic, pool: Pool) -> ReferenceRouting:
    """Find the model that each request goes to today; without one in the pool, the strongest."""
    places = {
        name: find_column(name, pool) for name in {e.today for e in traffic.entries} if name is not None
    }
    columns = np.array([-1 if e.today is None else places[e.today] for e in traffic.entries], dtype=np.intp)
    if not (columns >= 0).any():
        strongest = int((traffic.mass @ traffic.quality).argmax())
        return ReferenceRouting(pool.names[strongest], np.full(len(columns), strongest), from_log=False)
    mass = np.bincount(columns[columns >= 0], weights=traffic.mass[columns >= 0], minlength=len(pool))
    columns[columns < 0] = int(mass.argmax())
    names = [pool.names[at] for at in np.flatnonzero(mass)]
    return ReferenceRouting(names[0] if len(names) == 1 else "today's models", columns, from_log=True)


def look_ahead(
    traffic: Traffic,
    reference: ReferenceRouting,
    router: Router,
    *,
    scale: float,
    tolerance: float,
    seed: int,
) -> Outlook:
    """Say what routing would do if the forecasts hold, and how far they may be off.

    What is not known of the models' levels, of how hard and how long foreign traffic is, and of each model's
    lengths is drawn; coin flips of single requests average out over a log.

    Parameters
    ----------
    traffic, reference, router
    scale : float
        By which sums over the rows looked at are multiplied to those of the whole log.
    tolerance, seed
    """
    strongest = int((traffic.mass @ traffic.quality).argmax())
    today = _Drawn(traffic, router, seed)
    every = np.full(len(traffic.entries), strongest, dtype=np.intp)
    names = router.pool.names
    verdicts, picks = [], []
    for called, columns in ((reference.name, reference.columns), (names[strongest], every)):
        pick = route_like((traffic.quality, traffic.cost), columns, traffic.mass)
        figures = today.figures(pick, columns, names)
        verdicts.append(decide(called, len(traffic.entries), figures, tolerance=tolerance, measured=False))
        picks.append(pick)
    known = traffic.prediction.familiar
    return Outlook(
        verdict=verdicts[0],
        strongest=verdicts[1],
        spend=today.spend(picks[0], scale),
        strongest_spend=today.spend(every, scale),
        familiar=None if known is None else float(np.average(known >= 0.5, weights=traffic.mass)),
    )


class _Drawn:
    """Draws of what every request would bring and cost at every model; the first is the forecast itself."""

    def __init__(self, traffic: Traffic, router: Router, seed: int) -> None:
        self._traffic, self._rows = traffic, np.arange(len(traffic.entries))
        self._draws = ForecastDraws(traffic.prediction, lengths_told(router), DRAWS, seed)
        self.tokens = self._draws.tokens
        self._share = traffic.mass / traffic.mass.sum()

    def figures(self, pick: NDArray[np.intp], columns: NDArray[np.intp], names: tuple[str, ...]) -> Figures:
        rows, share = self._rows, self._share
        told = []
        mix: tuple[int, ...] = ()
        for draw in range(DRAWS + 1):
            p, cost = self._draws.success(draw), self._cost(draw)
            routed, paid = float(share @ p[rows, pick]), float(share @ cost[rows, pick])
            before, spent = float(share @ p[rows, columns]), float(share @ cost[rows, columns])
            mixed, used = blind_mix(share @ p, share @ cost, paid)
            mix = mix or used
            told.append((routed - before, paid / spent if spent > 0 else np.nan, routed - mixed))
        estimates = [summarise(each) for each in np.array(told).T]
        return Figures(estimates[0], estimates[1], estimates[2], tuple(names[at] for at in mix))

    def spend(self, pick: NDArray[np.intp], scale: float) -> Estimate:
        """Return US dollars of the whole log at these models."""
        traffic, rows = self._traffic, self._rows
        paid = np.array([traffic.mass @ self._cost(draw)[rows, pick] for draw in range(DRAWS + 1)])
        return summarise(scale * paid)

    def _cost(self, draw: int) -> Floats:
        """Return US dollars in a draw, (N, M): what was measured is not drawn."""
        measured = self._traffic.measured
        return np.where(np.isfinite(measured), measured, self._traffic.cost * self.tokens[draw])
