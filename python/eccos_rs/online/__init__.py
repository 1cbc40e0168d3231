"""Streaming: sessions, live limits, budgets over time, feedback that is kept."""

from eccos_rs.online.blocking import SyncSession
from eccos_rs.online.feedback import Alarm, ModelRecord
from eccos_rs.online.lease import Acknowledgement, Lease
from eccos_rs.online.pacing import Pace
from eccos_rs.online.session import Session
from eccos_rs.online.stats import ModelStats, SessionStats

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
