"""What a plan cannot stand for: queries unlike anything known, and promises that no label backs."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from eccos_rs.predict.familiarity import away_share
from eccos_rs.routing.uncertainty import Uncertainty

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from eccos_rs.predict.protocol import Prediction

__all__ = ["LIKE", "familiar_share", "foreign_warning", "known_similarity", "plan_warnings"]

#: From this familiarity on a query counts as like known ground.
LIKE = 0.5
#: A batch is foreign when it lies further from known ground than this and than chance brings a few queries of
#: the training data (its share varies by this over the square root of their number).
FOREIGN, CHANCE = 0.2, 0.75
#: A promise counts as validated while the shared error of its mean quality has at most this standard
#: deviation.
VALIDATED = 0.025
#: Labelled queries that the advice is about.
ADVICE = 30


def familiar_share(familiar: NDArray[np.floating] | None) -> float | None:
    """Return the share of queries that are like known ground; None where nothing is known of it."""
    if familiar is None or not len(familiar):
        return None
    return float(np.mean(familiar >= LIKE))


def foreign_warning(familiar: NDArray[np.floating] | None) -> str | None:
    """Say that queries lie away from known ground; None where they do not, or nothing is known of it.

    Parameters
    ----------
    familiar : ndarray, shape (n,), or None
        From `eccos_rs.predict.familiarity.familiarity`.
    """
    if familiar is None or not len(familiar):
        return None
    if away_share(familiar) <= FOREIGN + CHANCE / math.sqrt(len(familiar)):
        return None
    unlike = 1.0 - (familiar_share(familiar) or 0.0)
    return (
        f"{unlike:.0%} of these queries are unlike anything learned; their figures rest on each model's mean"
    )


def plan_warnings(
    prediction: Prediction, quality: NDArray[np.float64], models: NDArray[np.integer], *, promised: bool
) -> tuple[str, ...]:
    """Say in sentences what the figures of a batch do not rest on.

    Parameters
    ----------
    prediction : Prediction
        N queries and M models.
    quality : ndarray, shape (N,)
        Predicted success of each query at its model; NaN for a deferred one.
    models : ndarray of int, shape (N,)
        The model of each query; -1 for a deferred one.
    promised : bool
        Whether a mean quality was promised.
    """
    rows = np.flatnonzero(np.asarray(models) >= 0)
    if not len(rows):
        return ()
    left_open = Uncertainty(
        prediction.familiar,
        prediction.level_std,
        prediction.log_tokens_std,
        prediction.output_tokens.astype(np.float64),
        prediction.shared,
    )
    found = []
    foreign = foreign_warning(None if prediction.familiar is None else prediction.familiar[rows])
    if foreign is None:
        left_open = replace(left_open, familiar=None)
    else:
        found.append(foreign)
    chosen = np.asarray(quality, dtype=np.float64)[rows]
    error = left_open.level_error(chosen, rows, np.asarray(models, dtype=np.intp)[rows])
    if promised and error > VALIDATED:
        coin = float(np.mean(chosen * (1.0 - chosen)))
        labelled = coin / math.sqrt((coin / error) ** 2 + ADVICE * coin)
        found.append(
            f"the promise is not validated: the level of this traffic is known to ±{100 * error:.0f} points "
            f"(one standard deviation); {ADVICE} labelled queries of it would bring this to "
            f"±{100 * labelled:.0f}"
        )
    return tuple(found)


def known_similarity(similarity: Sequence[float] | NDArray[np.floating] | None, index: int) -> float | None:
    """Return one similarity as plain data; None where it is not known."""
    if similarity is None or not math.isfinite(similarity[index]):
        return None
    return float(similarity[index])
