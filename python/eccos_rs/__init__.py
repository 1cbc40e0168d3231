"""Route batches of queries to LLMs at least cost, under a promised quality and hard workload limits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__all__ = [
    "LLM",
    "Alternatives",
    "Assignment",
    "Bundle",
    "BundleError",
    "Certificate",
    "Chance",
    "Commitment",
    "DeviceError",
    "EccosError",
    "Endpoint",
    "Frontier",
    "HybridPredictor",
    "InputError",
    "InternalError",
    "Limit",
    "Minimum",
    "MissingExtraError",
    "ModelShare",
    "NoModelError",
    "Overage",
    "OverageTier",
    "Overloaded",
    "Plan",
    "PlanRow",
    "Policy",
    "PolicyError",
    "Pool",
    "PoolError",
    "PooledCapacity",
    "Prediction",
    "Predictor",
    "PriceStep",
    "ProblemError",
    "Query",
    "QueryError",
    "Record",
    "RecordError",
    "RecordTable",
    "RetrievalPredictor",
    "Router",
    "Session",
    "SideLimit",
    "SideRow",
    "Status",
    "StoreError",
    "SyncSession",
    "TrainedPredictor",
    "__version__",
    "assign",
    "certify",
    "frontier",
    "read_records",
    "route",
    "write_records",
]

# Where each public name lives. A name is imported when it is first used, so that `import eccos_rs` loads
# neither onnxruntime nor a server.
_HOMES = {
    "route": "routing.call",
    "Router": "routing.router",
    "Plan": "routing.plan",
    "PlanRow": "routing.plan",
    "LLM": "pools.pool",
    "Endpoint": "pools.pool",
    "Limit": "pools.pool",
    "Minimum": "pools.pool",
    "OverageTier": "pools.pool",
    "SideLimit": "routing.side_limits",
    "PriceStep": "pools.pool",
    "Pool": "pools.pool",
    "Policy": "routing.policy",
    "Query": "domain.query",
    "assign": "solver.assignment",
    "Assignment": "solver.assignment",
    "Status": "solver.assignment",
    "Alternatives": "solver.assignment",
    "Certificate": "solver.assignment",
    "Frontier": "solver.assignment",
    "certify": "solver.assignment",
    "frontier": "solver.assignment",
    "PooledCapacity": "solver.assignment",
    "SideRow": "solver.assignment",
    "ModelShare": "solver.kinds",
    "Overage": "solver.assignment",
    "Commitment": "solver.assignment",
    "Chance": "solver.assignment",
    "Prediction": "predict.protocol",
    "Predictor": "predict.protocol",
    "TrainedPredictor": "predict.trained",
    "RetrievalPredictor": "predict.trained",
    "HybridPredictor": "predict.hybrid",
    "Bundle": "predict.bundle",
    "Session": "session.facade",
    "SyncSession": "session.blocking",
    "Record": "records",
    "RecordTable": "records",
    "read_records": "records",
    "write_records": "records",
    "BundleError": "errors",
    "DeviceError": "errors",
    "EccosError": "errors",
    "InputError": "errors",
    "InternalError": "errors",
    "MissingExtraError": "errors",
    "NoModelError": "errors",
    "Overloaded": "errors",
    "PolicyError": "errors",
    "PoolError": "errors",
    "ProblemError": "errors",
    "QueryError": "errors",
    "RecordError": "errors",
    "StoreError": "errors",
}

if TYPE_CHECKING:
    from eccos_rs.domain.query import Query
    from eccos_rs.errors import (
        BundleError,
        DeviceError,
        EccosError,
        InputError,
        InternalError,
        MissingExtraError,
        NoModelError,
        Overloaded,
        PolicyError,
        PoolError,
        ProblemError,
        QueryError,
        RecordError,
        StoreError,
    )
    from eccos_rs.pools.pool import LLM, Endpoint, Limit, Minimum, OverageTier, Pool, PriceStep
    from eccos_rs.predict.bundle import Bundle
    from eccos_rs.predict.hybrid import HybridPredictor
    from eccos_rs.predict.protocol import Prediction, Predictor
    from eccos_rs.predict.trained import RetrievalPredictor, TrainedPredictor
    from eccos_rs.records import Record, RecordTable, read_records, write_records
    from eccos_rs.routing.call import route
    from eccos_rs.routing.plan import Plan, PlanRow
    from eccos_rs.routing.policy import Policy
    from eccos_rs.routing.router import Router
    from eccos_rs.routing.side_limits import SideLimit
    from eccos_rs.session.blocking import SyncSession
    from eccos_rs.session.facade import Session
    from eccos_rs.solver.assignment import (
        Alternatives,
        Assignment,
        Certificate,
        Chance,
        Commitment,
        Frontier,
        Overage,
        PooledCapacity,
        SideRow,
        Status,
        assign,
        certify,
        frontier,
    )
    from eccos_rs.solver.kinds import ModelShare

    __version__: str


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name == "__version__":
        from importlib.metadata import version

        value: Any = version("eccos-rs")
    elif name in _HOMES:
        value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
