"""Control of a stream: the shadow price of quality, budgets over time, corrections from feedback."""

from eccos_rs.session.control.clock import Rate, WallClock
from eccos_rs.session.control.dual import DualController, History
from eccos_rs.session.control.pacing import EvenPacer, Pace, Pacer, PaceShare, make_pacer
from eccos_rs.session.control.tracking import Alarm, Drift, ModelRecord, Tracker

__all__ = [
    "Alarm",
    "Drift",
    "DualController",
    "EvenPacer",
    "History",
    "ModelRecord",
    "Pace",
    "PaceShare",
    "Pacer",
    "Rate",
    "Tracker",
    "WallClock",
    "make_pacer",
]
