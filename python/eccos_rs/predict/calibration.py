"""From raw scores to probabilities that can be promised: blend, two parts, back-off, expected length.

Everything here is arithmetic on arrays, and the same code runs in training and in the router.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from eccos_rs.domain.renamed import renamed
from eccos_rs.errors import BundleError
from eccos_rs.predict.familiarity import (
    AWAY_LENGTH_STD,
    AWAY_LEVEL_STD,
    BACK_OFF,
    KNOWN_GROUND,
    familiarity,
    kept_share,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    Array = NDArray[np.floating[Any]]

__all__ = ["BackOff", "Calibrated", "Calibration", "Scores", "blend", "expit", "logit"]

# Further out than this a log odds is a claim that no data set of a practical size supports.
_LIMIT = 1e-4


def logit(probability: Array) -> NDArray[np.float32]:
    """Return the log odds, of probabilities kept within [1e-4, 1 - 1e-4]."""
    clipped = np.clip(np.asarray(probability, dtype=np.float32), _LIMIT, 1.0 - _LIMIT)
    return np.asarray(np.log(clipped / (1.0 - clipped)), dtype=np.float32)


def expit(log_odds: Array) -> NDArray[np.float32]:
    """Return the probability; the inverse of `logit`."""
    half = 0.5 * np.asarray(log_odds, dtype=np.float32)
    return np.asarray(0.5 * (1.0 + np.tanh(half)), dtype=np.float32)


@dataclass(frozen=True, eq=False)
class Scores:
    """What one source says of N queries and M models, before calibration.

    Attributes
    ----------
    success_logit : ndarray, shape (N, M)
        Log odds of success.
    length_mean, length_std : ndarray, shape (N, M)
        Of ln(1 + output tokens).
    """

    success_logit: NDArray[np.float32]
    length_mean: NDArray[np.float32]
    length_std: NDArray[np.float32]


def blend(heads: Scores, neighbours: Scores, *, success_weight: float, length_weight: float) -> Scores:
    """Mix two sources, in log odds for success and in log tokens for length.

    Parameters
    ----------
    heads, neighbours : Scores
        Of the same queries and models.
    success_weight, length_weight : float
        Share of `heads`, in [0, 1].

    Returns
    -------
    Scores
    """
    other = 1.0 - length_weight
    variance = length_weight * np.square(heads.length_std) + other * np.square(neighbours.length_std)
    return Scores(
        success_weight * heads.success_logit + (1.0 - success_weight) * neighbours.success_logit,
        length_weight * heads.length_mean + other * neighbours.length_mean,
        np.sqrt(variance),
    )


@dataclass(frozen=True)
class BackOff:
    """How much a forecast is believed as the nearest known query is further away.

    A ramp: `floor` at or below the similarity `low`, 1 at or above `high`.

    Attributes
    ----------
    low, high : float
        Cosine similarities.
    common_floor : float
        For the part all models share: how hard the query is.
    deviation_floor : float
        For what sets the models apart.
    length_floor : float
        For the log length.
    """

    low: float = 0.3
    high: float = 0.6
    common_floor: float = 1.0
    deviation_floor: float = 1.0
    length_floor: float = 1.0

    def shares(self, similarity: Array | None, rows: int) -> tuple[NDArray[np.float32], ...]:
        """Return the three shares, each (N, 1); all 1 where no similarity is known.

        None is above `eccos_rs.predict.familiarity.kept_share`, whatever the floors.
        """
        if similarity is None:
            return (np.ones((rows, 1), dtype=np.float32),) * 3
        known = np.asarray(similarity, dtype=np.float32)[:, None]
        span = max(self.high - self.low, 1e-6)
        ramp = np.where(np.isnan(known), 1.0, np.clip((known - self.low) / span, 0.0, 1.0))
        most = kept_share(known)
        floors = (self.common_floor, self.deviation_floor, self.length_floor)
        return tuple(np.minimum(floor + (1.0 - floor) * ramp, most).astype(np.float32) for floor in floors)


@dataclass(frozen=True, eq=False)
class Calibrated:
    """Calibrated forecasts for N queries and M models, all float32 of shape (N, M).

    Attributes
    ----------
    quality : ndarray
        Probability of success.
    output_tokens : ndarray
        Expected tokens.
    quality_std : ndarray
        Standard deviation of a query's own success rate around `quality`.
    log_tokens_std : ndarray
        Standard deviation of ln(1 + tokens).
    log_tokens : ndarray or None
        Mean of ln(1 + tokens), where it was asked for.
    """

    quality: NDArray[np.float32]
    output_tokens: NDArray[np.float32]
    quality_std: NDArray[np.float32]
    log_tokens_std: NDArray[np.float32]
    log_tokens: NDArray[np.float32] | None = None


@dataclass(frozen=True, eq=False)
class Calibration:
    """The calibration of one kind of predictor for M models.

    Attributes
    ----------
    success_weight, length_weight : float
        Share of the heads in the blend; see `blend`.
    intercept, common_slope, deviation_slope : ndarray, shape (M,)
        Two-part calibration: with c the mean over models of a query's log odds z, the calibrated log odds
        are intercept + common_slope c + deviation_slope (z - c).
    prior_logit, prior_length : ndarray, shape (M,)
        Where a forecast backs off to: log odds of the mean success, mean of ln(1 + tokens).
    back_off : BackOff
        When it goes there.
    length_factor : ndarray, shape (M,)
        Multiplies the mean of the log-normal, so that the expected tokens add up to what was seen.
    length_std_scale : ndarray, shape (M,)
        Multiplies the spread of the log length.
    residual_share : ndarray, shape (M,)
        Share of the variance p (1 - p) that is a property of the query and not a coin flip: the covariance of
        the errors of two models on one query. `quality_std` is sqrt(share p (1 - p)).
    """

    success_weight: float
    length_weight: float
    intercept: NDArray[np.float32]
    common_slope: NDArray[np.float32]
    deviation_slope: NDArray[np.float32]
    prior_logit: NDArray[np.float32]
    prior_length: NDArray[np.float32]
    back_off: BackOff
    length_factor: NDArray[np.float32]
    length_std_scale: NDArray[np.float32]
    residual_share: NDArray[np.float32]

    @classmethod
    def from_table(cls, table: Mapping[str, Any], models: int) -> Calibration:
        """Read one table of ``calibration.toml``.

        Raises
        ------
        BundleError
            If a key is missing or a list has not one number for each of the `models` models.
        """
        values: dict[str, Any] = {}
        for name in _VECTORS:
            vector = np.asarray(table.get(name, ()), dtype=np.float32)
            if vector.shape != (models,) or not np.isfinite(vector).all():
                raise BundleError(f"calibration: {name}: wanted {models} finite numbers, one per model")
            values[name] = vector
        try:
            back_off = BackOff(**{name: float(value) for name, value in table["fade"].items()})
            values |= {name: float(table[name]) for name in ("success_weight", "length_weight")}
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BundleError(f"calibration: missing or malformed: {error}") from None
        return cls(**values, back_off=back_off)

    def to_table(self) -> dict[str, Any]:
        """Return plain numbers and lists that `from_table` reads back."""
        vectors = {name: [round(float(v), 6) for v in getattr(self, name)] for name in _VECTORS}
        back_off = {name: float(value) for name, value in vars(self.back_off).items()}
        return {
            "success_weight": float(self.success_weight),
            "length_weight": float(self.length_weight),
            **vectors,
            "fade": back_off,
        }

    def constants(self) -> dict[str, Any]:
        """Return plain numbers and lists, unrounded and laid flat, as `_core.Forecaster` takes them."""
        vectors = {name: getattr(self, name).tolist() for name in _VECTORS}
        weights = {"success_weight": self.success_weight, "length_weight": self.length_weight}
        ground = {
            "back_off": list(BACK_OFF),
            "known_ground": list(KNOWN_GROUND),
            "away_level_std": AWAY_LEVEL_STD,
            "away_length_std": AWAY_LENGTH_STD,
        }
        return {**vectors, **weights, **vars(self.back_off), **ground}

    def calibrated_logit(self, success_logit: Array) -> NDArray[np.float32]:
        """Apply the two-part calibration to log odds of shape (N, M), without back-off."""
        common = success_logit.mean(axis=1, keepdims=True)
        parts = self.common_slope * common + self.deviation_slope * (success_logit - common)
        return np.asarray(self.intercept + parts, dtype=np.float32)

    def apply(self, scores: Scores, similarity: Array | None = None) -> Calibrated:
        """Calibrate blended scores.

        Parameters
        ----------
        scores : Scores
            Of N queries and M models.
        similarity : ndarray, shape (N,), optional
            Of the nearest known query; without it, or where it is NaN, nothing backs off.

        Returns
        -------
        Calibrated
        """
        common, deviation, length = self.back_off.shares(similarity, len(scores.success_logit))
        off = self.calibrated_logit(scores.success_logit) - self.prior_logit
        shared = off.mean(axis=1, keepdims=True)
        quality = expit(self.prior_logit + common * shared + deviation * (off - shared))

        away = scores.length_mean - self.prior_length
        mean = self.prior_length + length * away
        # What backing off takes from the mean is not known any more, so it goes to the spread.
        lost = (1.0 - np.square(length)) * np.square(away)
        std = self.length_std_scale * np.sqrt(np.square(scores.length_std) + lost)
        tokens = np.expm1(np.minimum(mean + 0.5 * np.square(std), 20.0)) * self.length_factor
        # How hard and how long foreign traffic is as a whole is not known either. It widens what is said of
        # single queries; the expected tokens stay, for lengths are skewed to the left.
        unknown = np.zeros((len(std), 1)) if similarity is None else 1.0 - familiarity(similarity)[:, None]
        std = np.sqrt(np.square(std) + np.square(AWAY_LENGTH_STD * unknown))
        coin = quality * (1.0 - quality)
        variance = self.residual_share * coin + np.square(AWAY_LEVEL_STD * unknown * coin)
        return Calibrated(
            quality=quality,
            output_tokens=np.maximum(tokens, 1.0).astype(np.float32),
            quality_std=np.sqrt(np.minimum(variance, coin)).astype(np.float32),
            log_tokens_std=std.astype(np.float32),
            log_tokens=mean.astype(np.float32),
        )


_VECTORS = (
    "intercept",
    "common_slope",
    "deviation_slope",
    "prior_logit",
    "prior_length",
    "length_factor",
    "length_std_scale",
    "residual_share",
)


def __getattr__(name: str) -> Any:
    """Give what was renamed under its old name."""
    return renamed(__name__, name, {"Fade": BackOff})
