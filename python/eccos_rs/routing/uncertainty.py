"""What is not known of a batch as a whole, and what it takes from a promise or adds to a cost.

Coin flips of single queries average out over a batch; an error that queries share does not. Three are
counted: how hard and how long traffic unlike any known is (all models together), how well each model's level
is known, and the spread of single lengths.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

from eccos_rs.predict.familiarity import AWAY_LENGTH_STD, AWAY_LEVEL_STD, away_share
from eccos_rs.predict.shared import AWAY_PROMPT_STD, usual_errors

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from eccos_rs.predict.shared import SharedErrors

__all__ = ["Uncertainty", "labels_needed", "quality_std"]

#: A single length is no better known than a log-normal of at most this spread says.
MOST_SPREAD = 1.5
#: More labels than this are no advice.
MOST_LABELS = 100_000


@dataclass(frozen=True, eq=False)
class Uncertainty:
    """What a prediction leaves open for N queries and M models.

    Attributes
    ----------
    familiar : ndarray of float32, shape (N,), or None
        How like known ground each query is, 0 to 1; None where the predictor does not say.
    level_std : ndarray of float32, shape (M,), or None
        Standard deviation of the error that all forecasts of a model share, log odds.
    log_tokens_std : ndarray of float32, shape (N, M)
        Standard deviation of ln(1 + output tokens).
    output_cost : ndarray of float64, shape (N, M)
        US dollars of the expected output tokens.
    shared : SharedErrors or None
        Of `Prediction.shared`.
    """

    familiar: NDArray[np.float32] | None
    level_std: NDArray[np.float32] | None
    log_tokens_std: NDArray[np.float32]
    output_cost: NDArray[np.float64]
    shared: SharedErrors | None = None

    def away(self, rows: NDArray[np.integer[Any]]) -> float:
        """Say how far some of the queries lie from known ground, 0 to 1."""
        return 0.0 if self.familiar is None else away_share(self.familiar[rows])

    def level_error(
        self, quality: NDArray[np.float64], rows: NDArray[np.integer[Any]], models: NDArray[np.integer[Any]]
    ) -> float:
        """Return the standard deviation of the mean success of chosen pairs that shared errors leave.

        Parameters
        ----------
        quality : ndarray, shape (n,)
            Predicted success of the pairs.
        rows, models : ndarray of int, shape (n,)
            The pairs.
        """
        coin = quality * (1.0 - quality)
        if self.shared is not None and self.shared.level is not None:
            weight = np.bincount(models, weights=coin, minlength=len(self.shared.level)) / len(rows)
            return math.sqrt(max(float(weight @ self.shared.level @ weight), 0.0))
        variance = (float(coin.mean()) * AWAY_LEVEL_STD * self.away(rows)) ** 2
        if self.level_std is not None:
            weight = np.bincount(models, weights=coin, minlength=len(self.level_std)) / len(rows)
            variance += float(np.sum(np.square(weight * self.level_std)))
        return math.sqrt(variance)

    def cost_bound(
        self,
        cost: NDArray[np.float64],
        rows: NDArray[np.integer[Any]],
        models: NDArray[np.integer[Any]],
        confidence: float,
    ) -> float:
        """Return US dollars that the realised cost of chosen pairs stays below with this confidence.

        Parameters
        ----------
        cost : ndarray, shape (n,)
            Predicted US dollars of the pairs.
        rows, models : ndarray of int, shape (n,)
            The pairs.
        confidence : float
            In (0.5, 1).

        Notes
        -----
        Output tokens of a model are off by a common factor (log-normal), those of foreign traffic by one that
        all models share; single lengths vary around that independently; input tokens are off by a factor too.
        The bound adds up the parts as if they were off together, which is on the safe side.
        """
        z = NormalDist().inv_cdf(confidence)
        shared = usual_errors(self.output_cost.shape[1]) if self.shared is None else self.shared
        length, prompt_std = shared.common_length, shared.common_prompt
        if length is None or prompt_std is None:
            away = self.away(rows)
            length = AWAY_LENGTH_STD * away if length is None else length
            prompt_std = AWAY_PROMPT_STD * away if prompt_std is None else prompt_std
        output = self.output_cost[rows, models]
        total = float(output.sum())
        shares = np.bincount(models, weights=output, minlength=len(shared.length)) / max(total, 1e-300)
        own = float(np.sum(np.square(shares * shared.length)))
        factor = math.exp(z * math.sqrt(length**2 + own))
        spread = np.minimum(self.log_tokens_std[rows, models].astype(np.float64), MOST_SPREAD)
        single = math.sqrt(float(np.sum(np.square(output) * np.expm1(np.square(spread)))))
        prompt = max(float(cost.sum()) - total, 0.0) * math.exp(z * (shared.prompt + prompt_std))
        return factor * (total + z * single) + prompt


def quality_std(quality: NDArray[np.float64], level_error: float) -> float:
    """Return the standard deviation of the realised mean of n pairs: coin flips and shared errors."""
    coin = float(np.mean(quality * (1.0 - quality))) / len(quality)
    return math.sqrt(coin + level_error**2)


def labels_needed(level_error: float, coin: float, allowed: float) -> int | None:
    """Return how many labelled queries of the traffic bring the level error down to what is allowed.

    Parameters
    ----------
    level_error : float
        Standard deviation of the mean success now.
    coin : float
        Mean p (1 - p) of the chosen pairs.
    allowed : float
        Standard deviation that may be left.

    Returns
    -------
    int or None
        None where no number does: nothing may be left.

    Notes
    -----
    In log odds the level's standard deviation is s = level_error / coin; n labels leave
    1 / sqrt(1 / s^2 + n coin), each label telling coin of it.
    """
    if level_error <= allowed:
        return 0
    if allowed <= 0.0 or coin <= 0.0:
        return None
    wanted, now = (coin / allowed) ** 2, (coin / level_error) ** 2
    count = math.ceil((wanted - now) / coin)
    return count if count <= MOST_LABELS else None
