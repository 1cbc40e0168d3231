"""Slots and sliding windows: never more than the limit, and no longer in the way than need be."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eccos_rs.pools.pool import LLM
from eccos_rs.session.limits import LocalLimiter, ModelLoad, Window

steps = st.lists(st.tuples(st.floats(0, 20, allow_nan=False), st.integers(1, 30)), min_size=1, max_size=120)


@given(steps)
def test_no_minute_holds_more_than_the_limit(steps):
    window, now, uses = Window(50), 0.0, []
    for passed, amount in steps:
        now += passed
        if window.free(now) >= amount:
            window.add(amount, now)
            uses.append((now, amount))
    for start, _ in uses:
        # Any 60 seconds that begin with a use, the moment of the next forgetting left out.
        assert sum(amount for at, amount in uses if start <= at < start + 60.0) <= 50


@given(steps)
def test_a_use_is_forgotten_soon_after_a_minute(steps):
    window, now = Window(1_000_000), 0.0
    uses = []
    for passed, amount in steps:
        now += passed
        window.add(amount, now)
        uses.append((now, amount))
    counted = 1_000_000 - window.free(now)
    assert counted >= sum(amount for at, amount in uses if at > now - 60.0)
    assert counted <= sum(amount for at, amount in uses if at > now - 60.6)


def test_seconds_until_is_when_it_fits():
    window = Window(10)
    window.add(6, 100.0)
    window.add(4, 130.0)
    assert window.seconds_until(1, 140.0) == pytest.approx(20.25, abs=0.25)
    assert window.seconds_until(7, 140.0) == pytest.approx(50.25, abs=0.25)
    assert window.seconds_until(11, 140.0) == math.inf
    at = 140.0 + window.seconds_until(7, 140.0)
    assert window.free(at) >= 7
    assert window.seconds_until(0, 140.0) == 0.0


def test_real_tokens_take_the_place_of_predicted_ones():
    window = Window(1000)
    time_slot = window.add(300, 5.0)
    window.settle(time_slot, -250, 20.0)
    assert window.used == 50
    window.settle(time_slot, 900, 21.0)
    assert window.used == 950
    assert window.free(65.6) == 1000  # what is settled leaves with what it belongs to


def test_a_late_surplus_counts_when_it_is_known_and_a_late_rest_is_not_given_back_twice():
    window = Window(1000)
    time_slot = window.add(300, 5.0)
    window.settle(time_slot, -300, 100.0)
    assert window.used == 0
    window.settle(time_slot, 200, 100.0)
    assert window.used == 200
    assert window.free(161.0) == 1000


def test_a_clock_that_runs_backwards_stands_still():
    window = Window(10)
    window.add(10, 1000.0)
    assert window.free(10.0) == 0
    window.add(0, 10.0)
    assert window.free(1059.0) == 0
    assert window.free(1061.0) == 10


def test_slots_come_back_and_the_smaller_limit_holds():
    model = ModelLoad(LLM("m", 1, 1, slots=3, requests_per_minute=5), slots=2)
    assert model.free(0.0) == 2
    time_slots = [model.take(0, 0.0) for _ in range(2)]
    assert not model.fits(0, 0.0)
    model.release(time_slots[0], 0, held=4.0, now=4.0)
    assert model.fits(0, 4.0)
    assert model.seconds == 4.0
    for _ in range(3):
        model.take(0, 4.0)
        model.release(-1, 0, held=0.0, now=4.0)
    assert model.free(4.0) == 0  # five requests this minute, one of them still running
    assert model.seconds_until(0, 4.0) == pytest.approx(56.25, abs=0.3)


def test_a_model_that_is_down_has_no_room():
    model = ModelLoad(LLM("m", 1, 1))
    assert model.free(0.0) == math.inf
    model.up = False
    assert model.free(0.0) == 0
    assert 0 < model.seconds_until(0, 0.0) < math.inf


def test_limits_of_a_pool():
    limits = LocalLimiter(
        [LLM("a", 1, 1, slots=4), LLM("b", 1, 1, tokens_per_minute=100), LLM("c", 1, 1)], {"a": 2.9}
    )
    assert limits.free(0.0) == [2, math.inf, math.inf]
    assert limits.free_tokens(0.0) == [math.inf, 100, math.inf]
    assert limits.counts_tokens
    assert limits.next_change(0.0) == math.inf
    limits.models[1].take(100, 0.0)
    assert limits.free(0.0) == [2, 0, math.inf]
    assert limits.next_change(1.0) == pytest.approx(59.25, abs=0.3)
