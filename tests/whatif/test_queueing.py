"""Waiting for a slot: the formula against the textbook, and the simulation against the formula."""

from __future__ import annotations

import math

import numpy as np
import pytest

from eccos_rs import LLM, Pool
from eccos_rs.whatif import forecast
from eccos_rs.whatif.queueing import erlang_c, formula_queueing, simulated_queueing
from tests.whatif.given import given_traffic, today


def textbook(slots: int, offered: float) -> float:
    """Return Erlang C by its definition."""
    last = offered**slots / math.factorial(slots) * slots / (slots - offered)
    return last / (sum(offered**k / math.factorial(k) for k in range(slots)) + last)


@pytest.mark.parametrize(("slots", "offered"), [(1, 0.3), (2, 1.9), (10, 7.0), (40, 36.0)])
def test_the_share_that_waits(slots, offered):
    assert erlang_c(slots, offered) == pytest.approx(textbook(slots, offered), rel=1e-9)


def test_the_simulation_agrees_with_the_formula_where_both_hold():
    rng, slots, rate, service = np.random.default_rng(1), 4, 3.2, 1.0
    arrival = np.cumsum(rng.exponential(1 / rate, 200_000))
    seen = simulated_queueing(slots, arrival, rng.exponential(service, len(arrival)), float(arrival[-1]))
    told = formula_queueing(slots, len(arrival), service, float(arrival[-1]))
    assert tuple(seen) == pytest.approx(tuple(told), rel=0.06)


def test_a_queue_without_end_is_told():
    told = formula_queueing(2, 100, 3.0, 100.0)
    assert (told.busy, told.waits, told.mean) == (1.5, 1.0, math.inf)


def test_bursts_wait_longer_than_random_arrivals():
    """All requests of a day come within two minutes: the log's own times tell, the formula cannot."""
    pool = Pool([LLM("small", 1.0, 1.0, slots=4)])
    burst = given_traffic(names=("small",), arrival=np.linspace(0.0, 120.0, 100))
    even = given_traffic(names=("small",))
    measured = forecast(burst, [today(pool, min_quality=0.5)], resamples=5)
    formula = forecast(even, [today(pool, min_quality=0.5)], resamples=5)
    assert (measured.measured, formula.measured) == (True, False)
    (seen,), (told,) = measured.outcomes[0].waiting, formula.outcomes[0].waiting
    # 100 answers of 10 s on 4 slots take 250 s, and come in 120.
    assert seen.mean.value == pytest.approx(65.0, rel=0.2)
    assert told.mean.value < 0.01
    assert seen.busy.value == pytest.approx(told.busy.value, rel=0.2)
    assert seen.mean.low < seen.mean.value < seen.mean.high
