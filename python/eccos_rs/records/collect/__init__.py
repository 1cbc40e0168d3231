"""Make labelled data: ask a pool of models, grade and price the answers, keep a journal of every call."""

from eccos_rs.records.collect.grade import grade
from eccos_rs.records.collect.options import CollectOptions, CollectSummary, Progress
from eccos_rs.records.collect.start import collect, collect_async, estimate
from eccos_rs.records.collect.task import Task, read_tasks

__all__ = [
    "CollectOptions",
    "CollectSummary",
    "Progress",
    "Task",
    "collect",
    "collect_async",
    "estimate",
    "grade",
    "read_tasks",
]
