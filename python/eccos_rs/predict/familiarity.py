"""How far a query is like the queries whose outcomes are known, and what follows for its forecast.

The measure is the cosine similarity of the nearest known query. Over 72 categories that were left out of
training it says better than any other measure tried whether a forecast from the text is worth something:
below 0.46 it is not, above 0.6 always.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.floating[Any]]

__all__ = [
    "ABROAD",
    "AWAY_LENGTH_STD",
    "AWAY_LEVEL_STD",
    "BACK_OFF",
    "HOME",
    "KNOWN_GROUND",
    "away_share",
    "familiarity",
    "kept_share",
]

#: Similarities at which a query counts as unlike, as half like, and as like known ground.
KNOWN_GROUND = (0.46, 0.5, 0.6)
#: At or below the first similarity a forecast from the text is dropped for the model's mean, whatever the
#: training found; at or above the second it is left as the training found. Known traffic has 5 % of its
#: queries below 0.44, so that at home this costs 0.0001 of AUC.
BACK_OFF = (0.3, 0.5)
#: Mean familiarity of a batch: that of queries of the training data among each other, and that from which on
#: traffic counts as wholly foreign (datasets that were left out of training stand at 0.1 to 0.35).
HOME, ABROAD = 0.75, 0.3
#: Standard deviation, in log odds, of the error that all models share on traffic unlike any known: how hard
#: it is cannot be read off texts of another kind.
AWAY_LEVEL_STD = 0.9
#: The same of ln tokens.
AWAY_LENGTH_STD = 1.2


def familiarity(similarity: Array) -> NDArray[np.float32]:
    """Return how familiar queries are, 0 to 1, (N,), from the similarity of the nearest known one.

    NaN, where nothing was searched, counts as familiar.
    """
    near = np.asarray(similarity, dtype=np.float32)
    ramp = np.interp(near, KNOWN_GROUND, (0.0, 0.5, 1.0))
    return np.asarray(np.where(np.isnan(near), 1.0, ramp), dtype=np.float32)


def kept_share(similarity: Array) -> NDArray[np.float32]:
    """Return the most that is kept of a forecast from the text, 0 to 1, (N,); see `BACK_OFF`."""
    near = np.asarray(similarity, dtype=np.float32)
    low, high = BACK_OFF
    ramp = np.clip((near - low) / np.float32(high - low), 0.0, 1.0)
    return np.asarray(np.where(np.isnan(near), 1.0, ramp), dtype=np.float32)


def away_share(familiar: Array) -> float:
    """Say how far a batch lies from known ground, 0 to 1: 0 where it is as familiar as training data.

    Parameters
    ----------
    familiar : ndarray, shape (n,)
        From `familiarity`.
    """
    if not len(familiar):
        return 0.0
    mean = float(np.mean(familiar, dtype=np.float64))
    return min(max((HOME - mean) / (HOME - ABROAD), 0.0), 1.0)
