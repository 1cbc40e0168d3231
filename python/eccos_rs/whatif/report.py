"""A forecast in words and numbers: tables, JSON, one HTML page."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from eccos_rs.evaluate.report.page import page
from eccos_rs.evaluate.report.tables import NONE, Section, Table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from eccos_rs.evaluate.curves import Estimate
    from eccos_rs.whatif.forecast import Forecast, Outcome, Worth

__all__ = ["CAPTIONS", "as_dict", "as_html", "sections", "worth_sentence"]

SCHEMA_VERSION = 1
"""Version of the JSON."""
_NOTHING = 5e-5
"""Below it a figure is written as 0."""
CAPTIONS = {
    "frontier": "The least cost of every mean success under today's limits, and each world's point; 95 % "
    "intervals where they stay in the picture.",
    "worlds": "US dollars per day in each world with 95 % intervals, and which models answer.",
}


def as_dict(found: Forecast) -> dict[str, Any]:
    """Return everything that was found as JSON takes it; what is infinite or not defined is null."""
    traffic = found.traffic
    whole = {
        "schema_version": SCHEMA_VERSION,
        "log": {
            "name": traffic.name,
            "rows": len(traffic.queries),
            "days": traffic.days,
            "requests_per_day": traffic.per_day,
            "remarks": list(traffic.all_remarks),
        },
        "waiting_by": "arrival times" if found.measured else "M/M/c",
        "resamples": found.resamples,
        "as_is": None if found.as_is is None else {
            "usd_per_day": _bounds(found.as_is.cost), "quality": _bounds(found.as_is.quality),
        },
        "frontier": [{"quality": quality, "usd_per_day": cost} for quality, cost in found.frontier],
        "worlds": [_world(each) for each in found.outcomes],
    }  # fmt: skip
    return {name: _plain(value) for name, value in whole.items()}


def _world(outcome: Outcome) -> dict[str, Any]:
    word, value = outcome.scenario.goal
    return {
        "name": outcome.scenario.name,
        "goal": {word: value},
        "status": outcome.status,
        "usd_per_day": _bounds(outcome.cost),
        "quality": _bounds(outcome.quality),
        "not_served": _bounds(outcome.deferred),
        "saved_usd_per_day": _bounds(outcome.saved),
        "quality_gained": _bounds(outcome.gained),
        "shares": outcome.shares,
        "binding": [
            {
                "limit": each.limit,
                "step": each.step,
                "saved_usd_per_day": _bounds(each.saved),
                "good_answers_per_day": _bounds(each.gained),
                "requests_per_day": _bounds(each.served),
            }
            for each in outcome.worth
        ],
        "not_binding": outcome.free,
        "waiting": [
            {
                "model": each.model,
                "slots": each.slots,
                "busy": _bounds(each.busy),
                "waits": _bounds(each.waits),
                "mean_seconds": _bounds(each.mean),
                "p95_seconds": _bounds(each.p95),
            }
            for each in outcome.waiting
        ],
    }


def _bounds(estimate: Estimate) -> dict[str, float]:
    return dict(zip(("value", "low", "high"), estimate, strict=True))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return value


def as_html(found: Forecast, pictures: Mapping[str, str]) -> str:
    """Write one page that needs nothing else; it repeats no request.

    Parameters
    ----------
    found : Forecast
    pictures : mapping of str to str
        Name to SVG in base64; see `eccos_rs.whatif.picture`.
    """
    shown = {name: (CAPTIONS[name], picture) for name, picture in pictures.items()}
    return page(f"What if: {found.traffic.name}", sections(found), shown)


def sections(found: Forecast) -> Iterator[Section]:
    """Yield the parts of the report."""
    today = found.outcomes[0]
    words = [*_log_words(found), *_status_words(found)]
    yield Section("Worlds", words, [_worlds(found)], ["frontier"])
    binding = [worth_sentence(each, today) for each in today.worth]
    nothing = ["Today no limit binds, and the promise costs nothing: the cheapest choice keeps it."]
    yield Section("What binds", binding or nothing, [_worths(found)] if _any_worth(found) else [])
    yield Section("Who answers", [], [_shares(found)], ["worlds"])
    if any(each.waiting for each in found.outcomes):
        yield Section("Waiting for a slot", [_waiting_words(found)], [_waiting(found)])


def _log_words(found: Forecast) -> Iterator[str]:
    traffic = found.traffic
    yield (
        f"{traffic.name}: {len(traffic.queries):,} requests, {traffic.per_day:,.4g} per day. All figures are "
        "forecasts per day; intervals of 95 % hold other such logs and what is not known of the models' "
        "levels and lengths."
    )
    word, value = found.outcomes[0].scenario.goal
    goal = f"US$ {value:.4g} per day" if word == "budget" else f"mean success of {100 * value:.1f} %"
    yield f"Goal, where a world states no other: {goal}."
    if found.as_is is not None:
        yield (
            f"As the log has it, its own models come to US$ {_money(found.as_is.cost)} per day at "
            f"{_percent(found.as_is.quality)} % success, by the same forecasts."
        )
    yield from (f"{remark[0].upper()}{remark[1:]}." for remark in traffic.all_remarks)


def _status_words(found: Forecast) -> Iterator[str]:
    for outcome in found.outcomes:
        name, value = outcome.scenario.name, outcome.scenario.goal[1]
        if outcome.deferred.value > 0:
            left = 100 * outcome.deferred.value
            yield f"**{name}:** the limits leave {left:.1f} % of the requests unserved."
        if outcome.status == "quality_unreachable":
            best = 100 * outcome.quality.value
            wanted = 100 * value
            yield f"**{name}:** {wanted:.1f} % success is out of reach; the limits allow {best:.1f} %."
        elif outcome.status == "budget_unreachable":
            yield (
                f"**{name}:** US$ {value:.4g} per day are too few; the cheapest choice comes to US$ "
                f"{outcome.cost.value:.4g}."
            )


def worth_sentence(worth: Worth, outcome: Outcome) -> str:
    """Say what a step of a limit is worth: ``10 more slots of large: US$ 3.2 (2.9 to 3.6) per day``."""
    word = outcome.scenario.goal[0]
    what = f"{worth.step} of {worth.limit}"
    if worth.served.value > 0.5 and word != "budget":
        return (
            f"{what}: {_count(worth.served)} more requests served per day, for US$ {_money(worth.saved, -1)}"
        )
    if word == "budget":
        return f"{what}: {_count(worth.gained)} more good answers per day"
    return f"{what}: US$ {_money(worth.saved)} per day"


def _worlds(found: Forecast) -> Table:
    rows = []
    for at, each in enumerate(found.outcomes):
        against = [_money(each.saved), _signed_points(each.gained)] if at else [NONE, NONE]
        rows.append(
            [each.scenario.name, _money(each.cost), _percent(each.quality), *against, _percent(each.deferred)]
        )
    columns = ["world", "US$ per day", "success, %", "saves, US$ per day", "success, points", "not served, %"]
    return Table(columns, rows, "Savings and points are against today, routed.", frozenset({rows[0][0]}))


def _any_worth(found: Forecast) -> bool:
    return any(each.worth for each in found.outcomes)


def _worths(found: Forecast) -> Table:
    rows = [
        [
            outcome.scenario.name, f"{each.step} of {each.limit}", _money(each.saved), _count(each.gained),
            _count(each.served),
        ]
        for outcome in found.outcomes
        for each in outcome.worth
    ]  # fmt: skip
    columns = ["world", "a step", "saves, US$ per day", "good answers per day", "requests per day"]
    return Table(columns, rows, "Limits that are not named do not bind: more of them changes nothing.")


def _shares(found: Forecast) -> Table:
    names = list(dict.fromkeys(name for each in found.outcomes for name in each.shares))
    rows = [
        [
            each.scenario.name,
            *(f"{100 * each.shares[name]:.1f}" if name in each.shares else NONE for name in names),
        ]
        for each in found.outcomes
    ]
    return Table(["share of the requests, %", *names], rows)


def _waiting_words(found: Forecast) -> str:
    how = (
        "By the log's own arrival times, first come first served (worlds with other traffic: M/M/c)"
        if found.measured
        else "By the formula for random arrivals (M/M/c): the log does not say when each request came, or "
        "was sampled"
    )
    return f"{how}; an answer takes its tokens at {found.traffic.tokens_per_second:g} per second."


def _waiting(found: Forecast) -> Table:
    rows = [
        [
            outcome.scenario.name, each.model, str(each.slots), _percent(each.busy), _percent(each.waits),
            _seconds(each.mean), _seconds(each.p95),
        ]
        for outcome in found.outcomes
        for each in outcome.waiting
    ]  # fmt: skip
    columns = ["world", "model", "slots", "busy, %", "wait, %", "mean wait, s", "95 % wait less than, s"]
    return Table(columns, rows)


def _interval(estimate: Estimate, write: Any) -> str:
    value, low, high = estimate
    if math.isnan(value):
        return NONE
    told = [write(each) for each in (value, low, high)]
    if math.isnan(low) or len(set(told)) == 1:
        return str(told[0])
    return f"{told[0]} ({told[1]} to {told[2]})"


def _money(estimate: Estimate, sign: int = 1) -> str:
    value, low, high = estimate if sign > 0 else (-estimate[0], -estimate[2], -estimate[1])
    return _interval(type(estimate)(value, low, high), _plain_number)


def _percent(estimate: Estimate) -> str:
    return _interval(estimate, lambda value: "more" if math.isinf(value) else f"{100 * value:.1f}")


def _signed_points(estimate: Estimate) -> str:
    return _interval(
        estimate, lambda value: f"{100 * value + 0.0:+.1f}".replace("-", "−").replace("−0.0", "+0.0")
    )


def _count(estimate: Estimate) -> str:
    return _interval(estimate, _plain_number)


def _seconds(estimate: Estimate) -> str:
    def write(value: float) -> str:
        # Milliseconds of waiting are none beside seconds of answering.
        return "no end" if math.isinf(value) else "0" if value < 0.005 else f"{value:,.2f}"

    return _interval(estimate, write)


def _plain_number(value: float) -> str:
    """Write three digits of a number, whatever its size, without an exponent."""
    if abs(value) < _NOTHING:
        return "0"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{digits}f}".replace("-", "−")
