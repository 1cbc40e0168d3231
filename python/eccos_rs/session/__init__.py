"""Streaming: sessions, live limits, budgets over time, feedback that is kept."""

from eccos_rs.session.blocking import SyncSession
from eccos_rs.session.facade import Session
from eccos_rs.session.feedback import Alarm, ModelRecord
from eccos_rs.session.lease import Acknowledgement, Lease
from eccos_rs.session.pacing import Pace
from eccos_rs.session.stats import ModelStats, SessionStats

__all__ = [
    "Acknowledgement",
    "Alarm",
    "Lease",
    "ModelRecord",
    "ModelStats",
    "Pace",
    "Session",
    "SessionStats",
    "SyncSession",
]
