"""A log of a hundred requests with forecasts that can be worked out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np

from eccos_rs import LLM, Pool, Query
from eccos_rs.predict.protocol import Prediction
from eccos_rs.whatif import LoggedTraffic, Scenario

POOL = Pool([LLM("small", 1.0, 1.0), LLM("large", 10.0, 10.0)])
"""Every request costs US$ 0.001 at `small` and 0.010 at `large`."""


def given_traffic(
    count: int = 100, names: tuple[str, ...] = ("small", "large"), **more: Any
) -> LoggedTraffic:
    """Return requests of 500 + 500 tokens; `small` is right at 0.5 to 0.7, any other at 0.9."""
    quality = np.full((count, len(names)), 0.9, np.float32)
    quality[:, 0] = np.linspace(0.5, 0.7, count)
    shape = quality.shape
    prediction = Prediction(
        names, quality, np.full(shape, 500, np.float32), np.full(shape, 0.05, np.float32),
        np.full(shape, 0.5, np.float32), np.full(count, 500, np.int64),
        level_std=np.full(len(names), 0.1, np.float32),
    )  # fmt: skip
    queries = tuple(Query(f"request {number}") for number in range(count))
    told = np.ones(len(names), dtype=bool)
    return LoggedTraffic("log.jsonl", queries, prediction, told, **{"days": 1.0, **more})


def today(pool: Pool = POOL, **goal: float) -> Scenario:
    ((word, value),) = (goal or {"min_quality": 0.59}).items()
    return Scenario("today", pool, (word, value))
