"""Evidence: any router against the field's baselines, at equal realised cost, on queries it never saw.

A router is judged through `fit(table)` and `choose(batch, operating_point)`; see `RoutingMethod`.
"""

from eccos_rs.evaluate.bundles import evidence_from_bundle, evidence_from_folds
from eccos_rs.evaluate.evidence import Evidence
from eccos_rs.evaluate.harness import HeldOutSet, sweep
from eccos_rs.evaluate.methods.base import Batch, Predictions, RoutingMethod
from eccos_rs.evaluate.routers import evidence_from_router
from eccos_rs.evaluate.settings import FULL, SETTINGS, Setting, find_settings
from eccos_rs.evaluate.study import Study, study

__all__ = [
    "FULL",
    "SETTINGS",
    "Batch",
    "Evidence",
    "HeldOutSet",
    "Predictions",
    "RoutingMethod",
    "Setting",
    "Study",
    "evidence_from_bundle",
    "evidence_from_folds",
    "evidence_from_router",
    "find_settings",
    "study",
    "sweep",
]


_RENAMED = {"Contender": "RoutingMethod", "View": "Predictions", "Held": "HeldOutSet"}


def __getattr__(name: str) -> object:
    if name not in _RENAMED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import warnings

    now = _RENAMED[name]
    warnings.warn(
        f"eccos_rs.evaluate.{name} is now {now}; the old name goes in 0.3", DeprecationWarning, stacklevel=2
    )
    return globals()[now]
