"""One sentence at the end: is routing worth it, against what is done today and against a blind mix."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from eccos_rs.errors import InputError
from eccos_rs.evaluate.curves import Estimate, Resamples
from eccos_rs.evaluate.outcomes import FEWEST, Expected, Figures, Outcomes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eccos_rs.records import RecordTable

__all__ = [
    "TOLERANCE",
    "Decision",
    "Verdict",
    "decide",
    "judge_routing",
    "judge_table",
]

Floats = npt.NDArray[np.float64]
Decision = Literal["deploy", "do not", "undecided"]

TOLERANCE = 0.05
"""Quality that may be lost at the lower end of the interval, unless the user says otherwise."""
WORTH = 0.01
"""Quality over the blind mix that is worth nothing: an interval that ends below it decides against."""
MOST_LABELS = 100_000
"""More queries than this are no advice."""
LIKELY = 0.43
"""Share of the interval's half by which a router must be ahead of the blind mix: four to one, by chance
alone. One that is no better costs no more than the mix, so that it need not be shown beyond doubt."""
_NOTHING = 1e-9


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the evidence says of one router.

    Attributes
    ----------
    decision : {"deploy", "do not", "undecided"}
    reason : str
        What decides it, or what keeps it open: ``"same quality"``, ``"better quality"``, ``"quality"``,
        ``"cost"``, ``"mix"``, ``"few"``.
    reference : str
        What it is compared with: a model, or today's traffic.
    queries : int
        Judged, each with an answer of every model.
    quality : Estimate
        Mean success of the routed queries minus that of the reference.
    cost : Estimate
        Their cost as a part of the reference's.
    over_mix : Estimate
        Mean success minus that of the blind mix of `mix` at the same cost.
    mix : tuple of str
        The one or two models that a blind mix takes for that money.
    tolerance : float
        Quality that may be lost at the lower end of the interval.
    needed : int or None
        Labelled queries in all that would decide it; None where it is decided, or no number is advice.
    measured : bool
        False where it rests on forecasts alone.
    price : float or None
        US dollars that one more labelled query costs, where that is known.
    quality_value : float or None
        The policy it was judged at: US dollars that one more good answer is worth.
    """

    decision: Decision
    reason: str
    reference: str
    queries: int
    quality: Estimate
    cost: Estimate
    over_mix: Estimate
    mix: tuple[str, ...]
    tolerance: float = TOLERANCE
    needed: int | None = None
    measured: bool = True
    price: float | None = None
    quality_value: float | None = None

    @property
    def sentence(self) -> str:
        """The verdict as it is printed."""
        quality = f"{_signed(self.quality)} points"
        found = f"at {_share(self.cost)} of the spend of {self.reference}"
        mixed = f"{_signed(self.over_mix)} points at the same cost"
        names = f"mixing {' and '.join(self.mix)} blindly" if len(self.mix) > 1 else f"{self.mix[0]} alone"
        if self.decision == "deploy":
            better = "better quality" if self.reason == "better quality" else "same quality"
            sure = "better" if self.over_mix.low > 0.0 else "probably better"
            return f"{better} ({quality}) {found}, {sure} than {names} ({mixed}): deploy"
        if self.decision == "do not":
            return {
                "mix": f"not better than {names} ({mixed}): do not",
                "cost": f"no cheaper than {self.reference} ({_share(self.cost)} of its spend): do not",
                "quality": f"quality is lost ({quality}) {found}: do not",
            }[self.reason] + ("" if self.measured else " (forecast, no answer was graded)")
        basis = f"{self.queries:,} queries" if self.measured else "published scores alone"
        more = f"; {self.needed:,} labelled queries in all would decide it" if self.needed else ""
        if self.needed and self.price is not None:
            left = max(self.needed - (self.queries if self.measured else 0), 0) * self.price
            more = f"{more}, about US$ {left:.2f} more"
        return f"undecided by {basis}: quality {quality} {found}, {mixed} as {names}{more}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain data with the sentence, ready for JSON; what is not finite is None."""
        told: dict[str, Any] = {**asdict(self), "sentence": self.sentence}
        for name in ("quality", "cost", "over_mix"):
            estimate: Estimate = getattr(self, name)
            told[name] = {key: _finite(value) for key, value in estimate._asdict().items()}
        return told


def judge_routing(
    quality: npt.NDArray[np.floating],
    cost: Floats,
    predicted: tuple[npt.NDArray[np.floating], Floats],
    models: Sequence[str],
    reference: int | npt.NDArray[np.integer],
    *,
    name: str | None = None,
    weights: Floats | None = None,
    resamples: int = 1000,
    seed: int = 0,
    tolerance: float = TOLERANCE,
) -> Verdict:
    """Judge a router on queries that it has not learned from.

    It is asked for the mean quality of the reference at least cost; where that saves nothing, for the best
    that the reference's predicted cost buys. Its price of quality is set for each part of the queries on the
    other parts. What the chosen models really did is
    compared with what the reference did, and with the best blind mix of two models at the same cost, whose
    means are taken in hindsight.

    Parameters
    ----------
    quality : ndarray, shape (N, M)
        Graded outcomes, in [0, 1]; every pair observed.
    cost : ndarray, shape (N, M)
        US dollars.
    predicted : (quality, cost), each (N, M)
        What the router expected.
    models : sequence of str, length M
    reference : int or ndarray of int, shape (N,)
        The column that is used today, for all queries or each.
    name : str, optional
        What the reference is called; by default the model's name.
    weights : ndarray, shape (N,), optional
        Traffic that each query stands for.
    resamples, seed : int
        Bootstrap draws.
    tolerance : float
        Quality that may be lost at the lower end of the interval.

    Raises
    ------
    InputError
        Shapes do not agree, or a pair is not observed.
    """
    n, m = np.shape(quality)
    columns = np.broadcast_to(np.asarray(reference, dtype=np.intp), (n,))
    given = {"cost": cost, "predicted quality": predicted[0], "predicted cost": predicted[1]}
    for what, array in given.items():
        if np.shape(array) != (n, m):
            raise InputError(f"{what}: got shape {np.shape(array)}, wanted {(n, m)}")
    if not n or not (np.isfinite(quality).all() and np.isfinite(cost).all()):
        raise InputError("verdict: wanted at least one query, and every pair observed")
    called = name or models[int(np.bincount(columns, minlength=m).argmax())]
    mass = np.ones(n) if weights is None else np.asarray(weights, dtype=np.float64)
    draws = Resamples.draw(n, resamples, seed)
    outcomes = Outcomes(quality.astype(np.float64), cost, mass, tuple(models))
    hoped, priced = (np.asarray(each, dtype=np.float64) for each in predicted)
    expected = Expected(hoped, priced, columns, mass)
    verdicts = []
    for criterion in ("cost", "quality"):
        pick, mixed, price = outcomes.routed(expected, criterion, seed)
        found = decide(called, n, outcomes.figures(pick, mixed, columns, draws), tolerance=tolerance)
        verdicts.append(replace(found, quality_value=price))
    # Where today's model is the cheapest already, there is nothing to save, but there may be better answers.
    saving, better = verdicts
    return better if saving.cost.value > 0.97 and better.decision == "deploy" else saving


def judge_table(
    table: RecordTable, predicted: tuple[npt.NDArray[np.floating], Floats], **options: Any
) -> Verdict | None:
    """Judge a router on labelled queries, against sending everything to the strongest model.

    Parameters
    ----------
    table : RecordTable
        N queries and M models; those that a model was not asked are left out.
    predicted : (quality, cost), each (N, M)
    **options
        Of `judge_routing`.

    Returns
    -------
    Verdict or None
        None for one model, or where no query was answered by all.
    """
    rows = np.flatnonzero((np.isfinite(table.quality) & np.isfinite(table.cost)).all(axis=1))
    if not len(rows) or len(table.models) < 2:
        return None
    quality, cost = table.quality[rows], table.cost[rows]
    strongest = int(np.lexsort((cost.mean(axis=0), -quality.astype(np.float64).mean(axis=0)))[0])
    hoped = predicted[0][rows], predicted[1][rows]
    return judge_routing(quality, cost, hoped, table.models, strongest, **options)


def decide(
    reference: str,
    queries: int,
    figures: Figures,
    *,
    tolerance: float = TOLERANCE,
    measured: bool = True,
) -> Verdict:
    """Turn three figures with their intervals into a verdict.

    Routing must be worth it: a blind mix is simpler, so a router that is not ahead of it is not deployed.
    """
    decision, reason = _decision(queries, figures, tolerance, measured=measured)
    needed = None
    if decision == "undecided":
        needed = _needed(queries, figures, tolerance) if measured else FEWEST
        if needed is None:
            # No number of labels that anybody would pay for tells it from the mix.
            decision, reason = "do not", reason if reason in ("cost", "quality") else "mix"
    quality, cost, over_mix, mix = figures
    return Verdict(
        decision, reason, reference, queries, _bounded(quality), cost, _bounded(over_mix), mix, tolerance,
        needed, measured=measured,
    )  # fmt: skip


def _decision(queries: int, figures: Figures, tolerance: float, *, measured: bool) -> tuple[Decision, str]:
    """Return the decision and what it goes by; a forecast never speaks for deploying."""
    quality, cost, over_mix, _ = figures
    no_better = over_mix.high < WORTH or abs(over_mix.value) <= _NOTHING
    against = {
        "quality": quality.high < -tolerance,
        "mix": no_better,
        "cost": cost.low >= 1.0 and quality.low <= 0.0,
    }
    if queries < FEWEST:
        return "undecided", "few"
    if any(against.values()):
        return "do not", next(reason for reason, holds in against.items() if holds)
    if not measured:
        return "undecided", "forecast"
    for_it = {
        "quality": quality.low >= -tolerance,
        "mix": over_mix.value > LIKELY * 0.5 * (over_mix.high - over_mix.low),
        "cost": cost.high < 1.0 or quality.low > 0.0,
    }
    if all(for_it.values()):
        return "deploy", "better quality" if quality.low > 0.0 else "same quality"
    return "undecided", next(reason for reason, holds in for_it.items() if not holds)


def _needed(queries: int, figures: Figures, tolerance: float) -> int | None:
    """Return how many queries would decide it if the figures stay: intervals shrink by the square root."""
    quality, cost, over_mix, _ = figures
    if queries < FEWEST:
        return FEWEST
    ways = [
        (0.5 * (quality.high - quality.low), quality.value + tolerance),
        (LIKELY * 0.5 * (over_mix.high - over_mix.low), over_mix.value),
    ]
    if not quality.low > 0.0:
        ways.append((0.5 * (cost.high - cost.low), 1.0 - cost.value))
    most = float(FEWEST)
    for half, distance in ways:
        if distance == 0.0 or not math.isfinite(half):
            return None
        most = max(most, queries * (half / distance) ** 2)
    return math.ceil(most) if most <= MOST_LABELS else None


def _signed(estimate: Estimate) -> str:
    value = f"{100 * estimate.value:+.1f}".replace("-", "−")
    half = _half(estimate)
    return value if half is None else f"{value} ±{100 * half:.1f}"


def _share(estimate: Estimate) -> str:
    if math.isnan(estimate.value):
        return "an unknown share"
    half = _half(estimate)
    return f"{100 * estimate.value:.0f} %" + ("" if half is None else f" (±{100 * half:.0f})")


def _half(estimate: Estimate) -> float | None:
    half = 0.5 * (estimate.high - estimate.low)
    return half if math.isfinite(half) else None


def _bounded(estimate: Estimate) -> Estimate:
    """Return a difference of two shares within -1 to 1: a handful of queries cannot say more than nothing."""
    return Estimate(*(min(max(each, -1.0), 1.0) for each in estimate))


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
