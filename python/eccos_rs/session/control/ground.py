"""How like known ground the queries of a stream are."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

import numpy as np

from eccos_rs.predict.familiarity import familiarity
from eccos_rs.routing.warnings import LIKE, familiar_share, foreign_warning

__all__ = ["Ground", "GroundTracker"]

_RECENT = 1024


@dataclass(frozen=True, slots=True)
class Ground:
    """How like known ground a stream is.

    Attributes
    ----------
    familiar : float
        Share of the recent queries (at most 1,024) that are like known ground, 0 to 1; NaN before the first
        query and where the predictor does not say.
    recent : int
        How many queries that is of.
    known, unlike : int
        Queries since the session began that were like known ground, and that were not.
    warning : str or None
        What the figures of the recent queries do not rest on; None where there is nothing to say.
    """

    familiar: float = math.nan
    recent: int = 0
    known: int = 0
    unlike: int = 0
    warning: str | None = None


class GroundTracker:
    """Counts queries by whether they are like known ground."""

    def __init__(self) -> None:
        self._recent: deque[float] = deque(maxlen=_RECENT)
        self._known = 0
        self._unlike = 0

    def add(self, similarity: float | None) -> None:
        """Count a query; None, where the predictor does not say, counts for nothing."""
        if similarity is None:
            return
        familiar = float(familiarity(np.array([similarity]))[0])
        self._recent.append(familiar)
        self._known += familiar >= LIKE
        self._unlike += familiar < LIKE

    def snapshot(self) -> Ground:
        """Return what is known so far."""
        recent = np.fromiter(self._recent, np.float64)
        share = familiar_share(recent)
        return Ground(
            math.nan if share is None else share,
            len(recent),
            self._known,
            self._unlike,
            foreign_warning(recent),
        )
