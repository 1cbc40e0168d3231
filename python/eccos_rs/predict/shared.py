"""Errors that all queries of a batch share: they do not average out, so promises leave room for them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Array = NDArray[np.floating[Any]]

__all__ = [
    "AWAY_PROMPT_STD",
    "LENGTH_LEVEL_STD",
    "PROMPT_STD",
    "SINGLE_LENGTH_STD",
    "SINGLE_PROMPT_STD",
    "SharedErrors",
    "usual_errors",
]

#: Of a predictor that does not say, one that was trained on labels of its models: standard deviations, in ln,
#: of a model's total output tokens and of the total of input tokens on traffic like the training data.
LENGTH_LEVEL_STD, PROMPT_STD = 0.08, 0.03
#: What foreign traffic adds for input tokens: system texts, examples that are sent along, another count.
AWAY_PROMPT_STD = 0.4
#: Standard deviation, in ln, of one answer's length around its forecast, and of one prompt's.
SINGLE_LENGTH_STD, SINGLE_PROMPT_STD = 0.8, 0.5


@dataclass(frozen=True, eq=False)
class SharedErrors:
    """How well the levels behind the forecasts of a batch are known, for M models.

    Attributes
    ----------
    length : ndarray of float32, shape (M,)
        Standard deviation of ln of each model's total output tokens.
    prompt : float
        The same of the input tokens of the batch.
    level : ndarray of float64, shape (M, M), or None
        Covariance of the errors of the models' levels on these queries, log odds squared. None where
        `Prediction.level_std` and how unlike known ground the queries are say all.
    common_length, common_prompt : float or None
        Standard deviation of an error of ln tokens that all models share; None: by how unlike known ground.
    """

    length: NDArray[np.float32]
    prompt: float
    level: NDArray[np.float64] | None = None
    common_length: float | None = None
    common_prompt: float | None = None

    def select(self, columns: Sequence[int]) -> SharedErrors:
        """Take the columns of some models, in the given order."""
        level = None if self.level is None else self.level[np.ix_(columns, columns)]
        return replace(self, length=self.length[list(columns)], level=level)

    def widened(self, length: Sequence[float], level_std: Sequence[float]) -> SharedErrors:
        """Add models whose levels are known independently of the others'."""
        level, own = self.level, np.square(np.asarray(level_std, dtype=np.float64))
        if level is not None:
            known, size = len(level), len(level) + len(own)
            level = np.zeros((size, size))
            level[:known, :known] = self.level
            level[range(known, size), range(known, size)] = own
        return replace(self, length=np.append(self.length, length).astype(np.float32), level=level)


def usual_errors(models: int) -> SharedErrors:
    """Return the errors of a predictor that was trained on labels of its models."""
    return SharedErrors(np.full(models, LENGTH_LEVEL_STD, dtype=np.float32), PROMPT_STD)
