"""A model nobody was trained on: its forecasts from those of the others and a few labels of its own.

With 50 labels all that can be learned is how the head stands to the models that are known: a regression
of its outcomes on their forecasts, pulled to "as good as the others on average". With hundreds, what its
own labels say beyond that is added by kernel ridge regression over the embeddings, as strongly as leaving
labels out shows it to help.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from eccos_rs.domain.renamed import renamed
from eccos_rs.errors import InputError
from eccos_rs.predict.calibration import expit, logit
from eccos_rs.predict.logistic import fit_logistic
from eccos_rs.predict.shared import SINGLE_LENGTH_STD

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from eccos_rs.domain.query import Query
    from eccos_rs.predict.protocol import Prediction, Predictor

__all__ = [
    "LEAST_LABELS",
    "NewModelHead",
    "PredictorWithNewModels",
    "fit_new_model",
    "kernel_ridge",
    "kernel_rows",
]

LEAST_LABELS = 10
#: Reach of a label over the unit vectors: it counts exp((cosine - 1) / REACH).
REACH = 0.3
#: Ridges of the kernel regression that are tried; infinity leaves the regression on the others alone.
KERNEL_RIDGES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, np.inf)
#: The kernel regression must save this share of the error per step to be taken: less is within the noise.
WORTH = 0.005
# How strongly the slope on what all models share is pulled to 1, and those on what sets them apart to 0.
COMMON_RIDGE, DEVIATION_RIDGE = 4.0, 10.0
# How strongly a new model's level is pulled to the mean of the others: models of a pool differ by about 0.6
# log odds. With 20 labels a free level is off by 10 points, and a model that looks too good by chance is
# taken.
LEVEL_RIDGE = 1.0
#: Forecasts stay this far from 0 and 1.
MARGIN = 0.02


@dataclass(frozen=True, eq=False)
class NewModelHead:
    """What was learned of a new model from n labelled queries.

    Attributes
    ----------
    name : str
        Of the model.
    success, length : ndarray, shape (M + 1,)
        Coefficients on the other models' forecasts; see `_inputs`.
    vectors : ndarray, shape (n, D), or None
        Embeddings of the labelled queries; None where the predictor makes none.
    success_dual, length_dual : ndarray, shape (n,)
        Kernel weights of the labels' residuals.
    length_std : float
        Spread of the errors of ln(1 + tokens).
    length_factor : float
        Brings expected tokens to the total that was seen.
    residual_share : float
        As in `eccos_rs.predict.calibration.Calibration`, the known models' mean, more with few labels.
    """

    name: str
    success: NDArray[np.float64]
    length: NDArray[np.float64]
    vectors: NDArray[np.float32] | None
    success_dual: NDArray[np.float64]
    length_dual: NDArray[np.float64]
    length_std: float
    length_factor: float
    residual_share: float

    def column(self, known: Prediction) -> dict[str, NDArray[np.float32]]:
        """Forecast the model on N queries.

        Parameters
        ----------
        known : Prediction
            Of the models it was fitted against, in the same columns.

        Returns
        -------
        dict
            ``quality``, ``output_tokens``, ``quality_std``, ``log_tokens_std``, each float32 of shape (N,).
        """
        quality = expit(_inputs(logit(known.quality)) @ self.success).astype(np.float64)
        length = _inputs(np.log1p(known.output_tokens)) @ self.length
        if self.vectors is not None and known.embedding is not None:
            near = kernel_rows(known.embedding, self.vectors)
            quality = quality + near @ self.success_dual
            length = length + near @ self.length_dual
        quality = np.clip(quality, MARGIN, 1.0 - MARGIN)
        tokens = np.expm1(np.clip(length + 0.5 * self.length_std**2, 0.0, 20.0)) * self.length_factor
        columns = {
            "quality": quality,
            "output_tokens": np.maximum(tokens, 1.0),
            "quality_std": np.sqrt(self.residual_share * quality * (1.0 - quality)),
            "log_tokens_std": np.full(len(quality), self.length_std),
        }
        return {name: values.astype(np.float32) for name, values in columns.items()}


def fit_new_model(
    name: str,
    known: Prediction,
    quality: NDArray[np.floating[Any]],
    output_tokens: NDArray[np.floating[Any]],
) -> NewModelHead:
    """Learn a new model from labelled queries.

    Parameters
    ----------
    name : str
        Of the new model.
    known : Prediction
        Forecasts of the known models for the n labelled queries. They should not be queries that the
        predictor was trained on: it knows those too well.
    quality : ndarray, shape (n,)
        How well the new model answered them, in [0, 1]; NaN where it was not asked.
    output_tokens : ndarray, shape (n,)
        Length of its answers, tokens; NaN where unknown.

    Returns
    -------
    NewModelHead

    Raises
    ------
    InputError
        Fewer than 10 labels, a quality outside [0, 1], or a name that is known already.
    """
    good, spent = (np.asarray(each, dtype=np.float64) for each in (quality, output_tokens))
    if name in known.models:
        raise InputError(f"model {name!r} is known to the predictor already")
    for label, values in (("quality", good), ("output_tokens", spent)):
        if values.shape != (len(known),):
            raise InputError(
                f"{label}: got shape {values.shape}, wanted ({len(known)},), one a labelled query"
            )
    seen = np.flatnonzero(np.isfinite(good) & np.isfinite(spent))
    if len(seen) < LEAST_LABELS:
        raise InputError(
            f"records: got {len(seen)} labelled queries for model {name!r}, wanted at least {LEAST_LABELS}"
        )
    good, spent, known = good[seen], spent[seen], known.rows(seen)
    if good.min() < 0.0 or good.max() > 1.0:
        raise InputError(f"quality: got {good.min():g} to {good.max():g}, wanted 0 to 1")

    x = _inputs(logit(known.quality))
    success = _logistic(x, good)
    logs = np.log1p(np.maximum(spent, 0.0))
    y = _inputs(np.log1p(known.output_tokens))
    length = _ridge(y, logs)
    success_dual, length_dual = np.zeros(len(seen)), np.zeros(len(seen))
    length_left = logs - y @ length
    if known.embedding is not None:
        kernel = kernel_rows(known.embedding, known.embedding)
        success_dual, _ = kernel_ridge(kernel, good - expit(x @ success))
        length_dual, length_left = kernel_ridge(kernel, length_left)
    made = NewModelHead(
        name, success, length, known.embedding, success_dual, length_dual,
        float(np.clip(np.sqrt(np.mean(length_left**2)), 0.05, 5.0)), 1.0, _residual_share(known, len(seen)),
    )  # fmt: skip
    expected = made.column(known)["output_tokens"].astype(np.float64).sum()
    return replace(made, length_factor=float(np.clip(spent.sum() / max(expected, 1.0), 0.2, 5.0)))


class PredictorWithNewModels:
    """A predictor with further columns for models that it was not trained on.

    Parameters
    ----------
    base : Predictor
        Knows the other models.
    added : sequence of NewModelHead
        Each fitted against the columns of `base`, in this order.
    """

    def __init__(self, base: Predictor, added: Sequence[NewModelHead]) -> None:
        names = [head.name for head in added]
        twice = [name for name in names if names.count(name) > 1 or name in base.models]
        if twice:
            raise InputError(f"added: {twice[0]!r} is there twice")
        self.base, self.added = base, tuple(added)

    @property
    def models(self) -> tuple[str, ...]:
        """The names of the models it knows, the added last."""
        return (*self.base.models, *(head.name for head in self.added))

    def predict(self, queries: Sequence[Query]) -> Prediction:
        """Predict every query for every model; see `Predictor`."""
        known = self.base.predict(queries)
        columns = [head.column(known) for head in self.added]
        wide: dict[str, Any] = {
            name: np.column_stack([getattr(known, name), *(column[name] for column in columns)])
            for name in ("quality", "output_tokens", "quality_std", "log_tokens_std")
        }
        # A level taken from n labels is known to about 1 / sqrt(n p (1 - p)).
        levels = [float(np.sqrt(5.0 / len(head.success_dual))) for head in self.added]
        if known.level_std is not None:
            wide["level_std"] = np.append(known.level_std, levels).astype(np.float32)
        if known.input_factor is not None:
            # Nothing is known of how a new model counts: as the others do.
            usual = np.full(len(self.added), known.input_factor.mean())
            wide["input_factor"] = np.append(known.input_factor, usual).astype(np.float32)
        if known.shared is not None:
            # A mean taken from n lengths is known to about one length's error over sqrt(n).
            counted = [float(SINGLE_LENGTH_STD / np.sqrt(len(head.success_dual))) for head in self.added]
            wide["shared"] = known.shared.widened(counted, levels)
        return replace(known, models=self.models, **wide)

    def __getattr__(self, name: str) -> Any:
        # Device, variant, cache and the like are the base's.
        if name in ("base", "added"):
            raise AttributeError(name)
        return getattr(self.base, name)


def _inputs(values: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Return a one, the mean over the models, and all but the last model's deviation from it, (N, M + 1)."""
    values = np.asarray(values, dtype=np.float64)
    common = values.mean(axis=1, keepdims=True)
    return np.column_stack([np.ones(len(values)), common, (values - common)[:, :-1]])


def _logistic(x: NDArray[np.float64], good: NDArray[np.float64]) -> NDArray[np.float64]:
    centre, ridge = _pulls(x.shape[1])
    ridge[0] = LEVEL_RIDGE
    return fit_logistic(x, good, ridge=ridge, centre=centre)


def _ridge(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    centre, ridge = _pulls(x.shape[1])
    move = np.linalg.solve(x.T @ x + np.diag(ridge), x.T @ (y - x @ centre))
    return np.asarray(centre + move, dtype=np.float64)


def _pulls(size: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return where the coefficients are pulled, to follow the others' mean, and how strongly."""
    centre, ridge = np.zeros(size), np.full(size, DEVIATION_RIDGE)
    centre[1], ridge[0], ridge[1] = 1.0, 0.1, COMMON_RIDGE
    return centre, ridge


def kernel_rows(one: NDArray[np.float32], two: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return how much each label counts for each query, (N, n), by their unit vectors."""
    return np.exp((np.asarray(one @ two.T, dtype=np.float64) - 1.0) / REACH)


def kernel_ridge(
    kernel: NDArray[np.float64], left: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Fit residuals with the ridge of the least error on labels left out; returns weights and errors."""
    values, vectors = np.linalg.eigh(kernel)
    values = np.maximum(values, 0.0)
    turned = vectors.T @ left
    best, errors, least = np.zeros(len(left)), left, float(np.mean(left**2))
    for ridge in KERNEL_RIDGES:
        if not np.isfinite(ridge):
            continue
        dual = vectors @ (turned / (values + ridge))
        # The error of a label that is left out, in closed form: its dual weight over the inverse's diagonal.
        inverse = np.sum(vectors**2 / (values + ridge), axis=1)
        out = dual / inverse
        if (error := float(np.mean(out**2))) < least * (1.0 - WORTH):
            best, errors, least = dual, out, error
    return best, errors


def _residual_share(known: Prediction, labels: int) -> float:
    """Take the known models' share of variance that is no coin flip, plus what few labels leave unknown."""
    p = known.quality.astype(np.float64)
    share = np.mean(np.square(known.quality_std) / np.maximum(p * (1.0 - p), 1e-4))
    return float(np.clip(share + (known.quality.shape[1] + 1) / labels, 0.01, 0.95))


def __getattr__(name: str) -> Any:
    """Give what was renamed under its old name."""
    old = {
        "Newcomer": NewModelHead,
        "PredictorWithNewcomers": PredictorWithNewModels,
        "fit_newcomer": fit_new_model,
    }
    return renamed(__name__, name, old)
