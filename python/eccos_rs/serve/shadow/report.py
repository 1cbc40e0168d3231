"""What a shadow run found: costs, quality and spread, and whether to go further."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from eccos_rs.errors import InputError
from eccos_rs.evaluate.curves import Estimate, summarise
from eccos_rs.evaluate.report.tables import NONE, Section, Table, difference
from eccos_rs.serve.shadow.record import read_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from os import PathLike

    Row = dict[str, Any]

__all__ = ["ShadowReport", "as_dict", "read_report", "sections"]

_DRAWS = 1_000
_FEWEST = 30
"""Users or conversations, and graded answers, below which nothing is decided."""


@dataclass(frozen=True, eq=False)
class ShadowReport:
    """What a log of `eccos serve --shadow` says; intervals of 95 % over users and conversations.

    Attributes
    ----------
    requests, units : int
        Decisions, and users or conversations that they are of.
    routed : int
        Requests that were routed for real.
    failed : dict of str to int
        Answers that failed, by arm.
    cost : Estimate
        Expected cost of routing as a share of that of what is done today, over all requests.
    quality : Estimate
        Expected success of routing minus that of what is done today.
    paid : Estimate
        What a routed request was paid for, as a share of what one that was not was; NaN without a share.
    judged : int
        Graded requests.
    graded : Estimate
        Mean grade of routed answers minus that of today's: pairs of one request where the shadow asked for
        both, else between the arms.
    judge_usd : float
        US dollars that grading took.
    moves : list of (str, str, int)
        From where, to where, and how many requests.
    decision : {"go on", "stop", "undecided"}
    sentence : str
    """

    requests: int
    units: int
    routed: int
    failed: dict[str, int]
    cost: Estimate
    quality: Estimate
    paid: Estimate
    judged: int
    graded: Estimate
    judge_usd: float
    moves: list[tuple[str, str, int]]
    decision: str
    sentence: str


def read_report(path: str | PathLike[str], *, tolerance: float = 0.05, seed: int = 0) -> ShadowReport:
    """Read a log and say whether to go further.

    Parameters
    ----------
    path : path
    tolerance : float
        Quality that may be lost at the lower end of the interval.
    seed : int
        Of the resamples.

    Raises
    ------
    InputError
        The file is no shadow log, or holds no decision.
    """
    decisions: list[Row] = []
    grades: dict[str, dict[str, float]] = {}
    spent: dict[str, float] = {}
    for row in read_rows(path):
        if row["kind"] == "decision":
            decisions.append(row)
            continue
        spent[row["id"]] = float(row["usd"])
        if row["kind"] == "judged":
            grades[row["id"]] = row["quality"]
    if not decisions:
        raise InputError(f"{path}: no request was decided yet")
    units = sorted({row["unit"] for row in decisions})
    draws = _UnitDraws(units, decisions, seed)
    cost = draws.ratio(
        lambda row: _expected(row, "routed", "usd"), lambda row: _expected(row, "as_is", "usd")
    )
    quality = draws.mean(lambda row: _expected(row, "routed", "quality") - _expected(row, "as_is", "quality"))
    arms = {arm: [row for row in decisions if row["arm"] == arm] for arm in ("as-is", "routed")}
    graded, judged = _graded(draws, decisions, grades)
    moves: dict[tuple[str, str], int] = {}
    for row in decisions:
        moves[row["as_is"], row["routed"]] = moves.get((row["as_is"], row["routed"]), 0) + 1
    decision, sentence = _decide(cost, graded, judged, len(units), tolerance)
    return ShadowReport(
        requests=len(decisions),
        units=len(units),
        routed=len(arms["routed"]),
        failed={arm: sum(bool(row["failed"]) for row in rows) for arm, rows in arms.items()},
        cost=cost,
        quality=quality,
        paid=draws.arms(lambda row: float(row["usd"])),
        judged=judged,
        graded=graded,
        judge_usd=sum(spent.values()),
        moves=sorted(((a, b, n) for (a, b), n in moves.items()), key=lambda move: -move[2]),
        decision=decision,
        sentence=sentence,
    )


def _expected(row: Row, way: str, what: str) -> float:
    return float(row["expected"][way][what])


def _decide(cost: Estimate, graded: Estimate, judged: int, units: int, tolerance: float) -> tuple[str, str]:
    lost = f"{100 * tolerance:g} points"
    if units < _FEWEST:
        return "undecided", f"undecided: {units} users or conversations; {_FEWEST} say more"
    if cost.low >= 1.0:
        return "stop", "stop: routing is not expected to cost less than what is done today"
    if judged < _FEWEST or math.isnan(graded.value):
        return "undecided", (
            f"undecided: {judged} graded answers say nothing of quality; let a judge grade more "
            "(--judge, --judge-share, --judge-budget)"
        )
    if graded.high < -tolerance:
        return "stop", f"stop: routed answers are graded lower by more than {lost}"
    if graded.low > -tolerance and cost.high < 1.0:
        return "go on", (
            f"go on: {100 * (1 - cost.value):.0f} % less is expected to be paid, and less than {lost} of "
            "quality are lost; raise --share"
        )
    half = (graded.high - graded.low) / 2
    room = abs(graded.value + tolerance)
    needed = math.ceil(judged * (half / max(room, 0.01)) ** 2)
    more = f"; about {needed:,} graded answers would tell" if needed > judged else ""
    return "undecided", f"undecided: whether more than {lost} of quality are lost is open{more}"


class _UnitDraws:
    """Resamples of whole users and conversations: their requests are not independent."""

    def __init__(self, units: Sequence[str], rows: Sequence[Row], seed: int) -> None:
        place = {unit: at for at, unit in enumerate(units)}
        self._rows = rows
        self._of = np.array([place[row["unit"]] for row in rows])
        rng, count = np.random.default_rng(seed), len(units)
        self._weights = np.ones((_DRAWS + 1, count))
        for draw in range(1, _DRAWS + 1):
            self._weights[draw] = np.bincount(rng.integers(0, count, count), minlength=count)

    def _sums(self, values: Sequence[float]) -> Any:
        by_unit = np.bincount(self._of, weights=np.asarray(values), minlength=self._weights.shape[1])
        return self._weights @ by_unit

    def ratio(self, above: Callable[[Row], float], below: Callable[[Row], float]) -> Estimate:
        return self._quotient([above(row) for row in self._rows], [below(row) for row in self._rows])

    def mean(self, value: Callable[[Row], float]) -> Estimate:
        return self._quotient([value(row) for row in self._rows], [1.0] * len(self._rows))

    def arms(self, value: Callable[[Row], float]) -> Estimate:
        """Return the mean of the routed as a share of that of the others."""
        found = [self._arm_mean(value, arm) for arm in ("routed", "as-is")]
        with np.errstate(divide="ignore", invalid="ignore"):
            return summarise(np.where(found[1] > 0, found[0] / found[1], np.nan))

    def difference(self, value: Callable[[Row], float | None]) -> Estimate:
        """Return the mean of the routed minus that of the others; rows without a value are left out."""
        return summarise(self._arm_mean(value, "routed") - self._arm_mean(value, "as-is"))

    def _arm_mean(self, value: Callable[[Row], float | None], arm: str) -> Any:
        told = [value(row) if row["arm"] == arm else None for row in self._rows]
        count = self._sums([float(each is not None) for each in told])
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(count > 0, self._sums([each or 0.0 for each in told]) / count, np.nan)

    def _quotient(self, above: Sequence[float], below: Sequence[float]) -> Estimate:
        top, bottom = self._sums(above), self._sums(below)
        with np.errstate(divide="ignore", invalid="ignore"):
            return summarise(np.where(bottom > 0, top / bottom, np.nan))

    def paired(self, gain: Callable[[Row], float | None]) -> Estimate:
        told = [gain(row) for row in self._rows]
        return self._quotient([each or 0.0 for each in told], [float(each is not None) for each in told])


def _graded(
    draws: _UnitDraws, rows: Sequence[Row], grades: dict[str, dict[str, float]]
) -> tuple[Estimate, int]:
    """Return the difference of grades with its interval, and how many requests it rests on."""

    def gain(row: Row) -> float | None:
        told = grades.get(row["id"], {})
        return told["routed"] - told["as_is"] if {"routed", "as_is"} <= told.keys() else None

    def own(row: Row) -> float | None:
        return grades.get(row["id"], {}).get("routed" if row["arm"] == "routed" else "as_is")

    pairs = sum(gain(row) is not None for row in rows)
    if pairs:
        return draws.paired(gain), pairs
    return draws.difference(own), sum(own(row) is not None for row in rows)


def as_dict(found: ShadowReport) -> dict[str, Any]:
    """Return the report as JSON takes it; what is not defined is null."""
    told: dict[str, Any] = dict(vars(found))
    for name, value in told.items():
        if isinstance(value, Estimate):
            bounds = zip(("value", "low", "high"), value, strict=True)
            told[name] = {key: each if math.isfinite(each) else None for key, each in bounds}
    told["moves"] = [{"as_is": a, "routed": b, "requests": n} for a, b, n in found.moves]
    return told


def sections(found: ShadowReport) -> Iterator[Section]:
    """Yield the parts of the report."""
    share = f"{100 * found.routed / found.requests:.1f} % of the requests routed for real"
    failed = ", ".join(f"{count:,} {arm}" for arm, count in found.failed.items())
    rows = [
        ["requests", f"{found.requests:,} of {found.units:,} users or conversations; {share}"],
        ["expected cost, % of today's", _percent(found.cost)],
        ["expected success minus today's, points", difference(found.quality)],
        ["paid per routed request, % of the others'", _percent(found.paid)],
        [f"grade minus today's, points, of {found.judged:,}", difference(found.graded)],
        ["answers that failed", failed],
        ["grading took", f"US$ {found.judge_usd:.4f}"],
    ]
    yield Section("Shadow", [f"**{found.sentence}**"], [Table(["figure", "value (95 % interval)"], rows)])
    moves = [[a, b, f"{n:,}", f"{100 * n / found.requests:.1f}"] for a, b, n in found.moves[:20]]
    yield Section("Where requests would go", [], [Table(["today", "routed", "requests", "%"], moves)])


def _percent(estimate: Estimate) -> str:
    if math.isnan(estimate.value):
        return NONE
    value, low, high = (f"{100 * each:.1f}" for each in estimate)
    return value if math.isnan(estimate.low) else f"{value} ({low} to {high})"
