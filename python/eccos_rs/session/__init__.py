"""Streaming: sessions, live limits, budgets over time, feedback that is kept."""

from typing import Any

from eccos_rs.session.blocking import SyncSession
from eccos_rs.session.control import Alarm, DualController, EvenPacer, ModelRecord, Pace, Pacer
from eccos_rs.session.facade import Session
from eccos_rs.session.lease import FeedbackReceipt, Lease
from eccos_rs.session.limits import LocalLimiter, RateLimiter
from eccos_rs.session.limits.shared import OnStoreLoss
from eccos_rs.session.stats import ModelStats, SessionStats
from eccos_rs.session.store import Store, check_store, open_store

__all__ = [
    "Alarm",
    "DualController",
    "EvenPacer",
    "FeedbackReceipt",
    "Lease",
    "LocalLimiter",
    "ModelRecord",
    "ModelStats",
    "OnStoreLoss",
    "Pace",
    "Pacer",
    "RateLimiter",
    "Session",
    "SessionStats",
    "Store",
    "SyncSession",
    "check_store",
    "open_store",
]


def __getattr__(name: str) -> Any:
    if name == "Acknowledgement":
        import warnings

        warnings.warn(
            "eccos_rs.session.Acknowledgement is now FeedbackReceipt; the old name goes in 0.3",
            DeprecationWarning,
            stacklevel=2,
        )
        return FeedbackReceipt
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
