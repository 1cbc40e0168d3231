"""What a session says of itself, at any time."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from eccos_rs.session.control.ground import Ground

if TYPE_CHECKING:
    from eccos_rs.session.control.pacing import Pace
    from eccos_rs.session.control.tracking import Alarm, ModelRecord

__all__ = ["ModelStats", "Overhead", "SessionStats"]


@dataclass(frozen=True, slots=True)
class ModelStats:
    """One model of a session.

    Attributes
    ----------
    name : str
    up : bool
        False while it takes nothing.
    in_flight : int
        Requests that run.
    slots : int or None
        How many may.
    requests_used, requests_per_minute : int or None
        Of the sliding window; None without a limit.
    tokens_used, tokens_per_minute : int or None
        Of the sliding window, reserved ones included; None without a limit.
    slot_price : float
        US dollars that one more request is worth to the stream, 0 while the model is not short.
    decisions, failures : int
    spend : float
        US dollars settled.
    record : ModelRecord
        Predicted against realised.
    """

    name: str
    up: bool
    in_flight: int
    slots: int | None
    requests_used: int | None
    requests_per_minute: int | None
    tokens_used: int | None
    tokens_per_minute: int | None
    slot_price: float
    decisions: int
    failures: int
    spend: float
    record: ModelRecord


@dataclass(frozen=True, slots=True)
class SessionStats:
    """A snapshot of a session.

    Attributes
    ----------
    models : tuple of ModelStats
        In the order of the pool.
    waiting : int
        Queries without a model yet, those being predicted included.
    decisions, deferred, refused, failures, cancelled : int
        Since the session began.
    quality_price : float
        US dollars that one more success is worth; NaN before the first query.
    promised_quality : float
        Mean asked of the stream; NaN for a budget or a price.
    predicted_quality : float
        Mean over all decisions, as predicted and corrected by feedback; NaN before the first.
    realised_quality : float
        Mean over the recently judged answers; NaN before the first.
    feedback : int
        Judged answers.
    spend : float
        US dollars settled by this session.
    pace : Pace or None
        Of a budget.
    overhead_p50, overhead_p99 : float
        Seconds from arrival to decision, prediction included and waiting for a free model not; over the last
        4,096 decisions. NaN before the first.
    alarms : tuple of Alarm
        That are on.
    alarms_raised : int
    store : {"none", "ok", "failing"}
        "none" for a store in memory.
    store_errors, store_dropped : int
        Failed commits; decisions given up because the store took none for long.
    limits : {"local", "shared", "local-share", "refuse"}
        How limits are kept: by this session alone, together with others, or, while what they share cannot be
        reached, as `on_store_loss` says.
    limit_losses : int
        How often that was lost.
    ground : Ground
        How like known ground the queries are.
    """

    models: tuple[ModelStats, ...]
    waiting: int
    decisions: int
    deferred: int
    refused: int
    failures: int
    cancelled: int
    quality_price: float
    promised_quality: float
    predicted_quality: float
    realised_quality: float
    feedback: int
    spend: float
    pace: Pace | None
    overhead_p50: float
    overhead_p99: float
    alarms: tuple[Alarm, ...]
    alarms_raised: int
    store: str
    store_errors: int
    store_dropped: int
    limits: str = "local"
    limit_losses: int = 0
    ground: Ground = field(default_factory=Ground)

    @property
    def in_flight(self) -> int:
        """Requests that run, over all models."""
        return sum(model.in_flight for model in self.models)


class Overhead:
    """The last durations, for their quantiles."""

    __slots__ = ("_at", "_seconds")

    def __init__(self, size: int = 4096) -> None:
        self._seconds = np.full(size, np.nan)
        self._at = 0

    def add(self, seconds: float) -> None:
        """Remember one."""
        self._seconds[self._at % len(self._seconds)] = seconds
        self._at += 1

    def quantiles(self) -> tuple[float, float]:
        """Return the median and the 99th percentile, in seconds."""
        if not self._at:
            return math.nan, math.nan
        half, most = np.quantile(self._seconds[: self._at], (0.5, 0.99))
        return float(half), float(most)
