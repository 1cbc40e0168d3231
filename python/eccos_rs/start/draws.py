"""Draws of what may come true, given the forecasts: how far they may be off together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from eccos_rs.predict.familiarity import AWAY_LENGTH_STD, AWAY_LEVEL_STD, away_share
from eccos_rs.predict.prior.posterior import FOREIGN_SD

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from eccos_rs.predict.protocol import Prediction
    from eccos_rs.routing.router import Router

    Floats = NDArray[np.float64]

__all__ = ["ForecastDraws", "lengths_told"]

TOLD_TOKENS_STD, OTHER_TOKENS_STD = 0.15, 0.4
"""Standard deviation of ln of a model's total tokens, where its lengths were counted and elsewhere."""
_TRAINED_LEVEL_STD = 0.1


class ForecastDraws:
    """Draws of what every request would bring at every model; the first is the forecast itself.

    What is not known of the models' levels, of how hard and how long foreign traffic is, and of each model's
    lengths is drawn; coin flips of single requests average out over a log.

    Parameters
    ----------
    prediction : Prediction
        (N, M).
    told : ndarray of bool, shape (M,)
        See `lengths_told`; where the prediction says what its lengths rest on, that counts.
    count : int
        Draws beside the forecast itself.
    seed : int

    Attributes
    ----------
    tokens : ndarray of float64, shape (count + 1, M)
        By which the tokens of a model's answers, and so their cost, are multiplied in each draw.
    """

    def __init__(self, prediction: Prediction, told: NDArray[np.bool_], count: int, seed: int) -> None:
        rng, made = np.random.default_rng(seed), prediction
        models = len(made.models)
        level = np.full(models, _TRAINED_LEVEL_STD) if made.level_std is None else made.level_std
        away = np.zeros(len(made)) if made.familiar is None else 1.0 - made.familiar.astype(np.float64)
        far = 0.0 if made.familiar is None else away_share(made.familiar)
        own, common = np.where(told, TOLD_TOKENS_STD, OTHER_TOKENS_STD), AWAY_LENGTH_STD * far
        if made.shared is not None:
            own = made.shared.length.astype(np.float64)
            common = common if made.shared.common_length is None else made.shared.common_length
        self._levels = rng.normal(size=(count + 1, models)) * level
        self._common = rng.normal(size=(count + 1, 1)) * AWAY_LEVEL_STD * far
        self._foreign = rng.normal(size=(count + 1, models)) * FOREIGN_SD
        self.tokens: Floats = np.exp(
            rng.normal(size=(count + 1, models)) * own + rng.normal(size=(count + 1, 1)) * common
        )
        for each in (self._levels, self._common, self._foreign):
            each[0] = 0.0
        self.tokens[0] = 1.0
        inside = np.clip(made.quality.astype(np.float64), 1e-4, 1.0 - 1e-4)
        self._odds, self._away = np.log(inside / (1.0 - inside)), away[:, None]

    def success(self, draw: int) -> Floats:
        """Return the success of every request at every model in a draw, (N, M)."""
        shift = self._levels[draw] + self._common[draw] + self._away * self._foreign[draw]
        return np.asarray(0.5 * (1.0 + np.tanh(0.5 * (self._odds + shift))))


def lengths_told(router: Router) -> NDArray[np.bool_]:
    """Say of which models of a router's pool the lengths of answers were counted, (M,)."""
    priors: dict[str, Any] = {each.name: each for each in getattr(router.predictor, "priors", ())}
    return np.array([getattr(priors.get(name), "tokens_told", True) for name in router.pool.names])
