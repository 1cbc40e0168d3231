"""Evidence: any router against the field's baselines, at equal realised cost, on queries it never saw.

A router is judged through two methods, `fit(table)` and `choose(batch, dial)`; see `Contender`.
"""

from eccos_rs.evaluate.bundles import evidence_from_bundle, evidence_from_folds
from eccos_rs.evaluate.contender import Batch, Contender, View
from eccos_rs.evaluate.evidence import Evidence
from eccos_rs.evaluate.harness import Held, sweep
from eccos_rs.evaluate.settings import FULL, SETTINGS, Setting, find_settings
from eccos_rs.evaluate.study import Study, study

__all__ = [
    "FULL",
    "SETTINGS",
    "Batch",
    "Contender",
    "Evidence",
    "Held",
    "Setting",
    "Study",
    "View",
    "evidence_from_bundle",
    "evidence_from_folds",
    "find_settings",
    "study",
    "sweep",
]
