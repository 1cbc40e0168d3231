"""How many tokens go in and come out, from counts of answers: levels only, the shape is the forecast's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from eccos_rs.predict.familiarity import AWAY_LENGTH_STD, away_share
from eccos_rs.predict.prior.posterior import FILLED_COUNTS, TOLD_COUNTS, token_factor
from eccos_rs.predict.prior.prompts import PromptFit, fit_prompts
from eccos_rs.predict.shared import (
    AWAY_PROMPT_STD,
    LENGTH_LEVEL_STD,
    PROMPT_STD,
    SINGLE_LENGTH_STD,
    SINGLE_PROMPT_STD,
    SharedErrors,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from eccos_rs.predict.protocol import Prediction, Predictor

__all__ = ["TokenLevels", "distinct_rows"]

_MODEL_STD = 0.3
"""Standard deviation of ln of a usual length on traffic of another kind, around what that does to all."""
_ALIKE = 0.005
"""A model that counts prompts within this share of the others counts alike."""


@dataclass(frozen=True, eq=False)
class TokenLevels:
    """What counts say of M models.

    Attributes
    ----------
    factor : ndarray, shape (M,)
        What forecasts of output tokens are multiplied by.
    length_std : ndarray, shape (M,)
        Standard deviation of ln of each model's total output tokens before any count.
    carried : ndarray, shape (M,)
        Share of that error which is left in the forecast.
    noise : ndarray, shape (M,)
        Standard deviation, in ln, of what the counts themselves put into it.
    prompt : PromptFit or None
        None where no prompt was counted.
    prompt_std : float
        Standard deviation of ln of total input tokens.
    prompt_factor : ndarray, shape (M,)
        What each model counts of a prompt over what the others count.
    away_length, away_prompt : float
        Standard deviations, in ln, of errors that all models share on traffic wholly unlike known ground.
    """

    factor: NDArray[np.float64]
    length_std: NDArray[np.float64]
    carried: NDArray[np.float64]
    noise: NDArray[np.float64]
    prompt: PromptFit | None
    prompt_std: float
    prompt_factor: NDArray[np.float64]
    away_length: float = AWAY_LENGTH_STD
    away_prompt: float = AWAY_PROMPT_STD

    @classmethod
    def unknown(cls, base: Predictor) -> TokenLevels:
        """Return those of a predictor of which nothing was counted."""
        one = np.ones(len(base.models))
        usual = np.full(len(one), LENGTH_LEVEL_STD)
        std = np.asarray(getattr(base, "length_std", usual), dtype=np.float64)
        return cls(one, std, one, 0.0 * one, None, getattr(base, "prompt_std", PROMPT_STD), one)

    @classmethod
    def fitted(cls, base: Predictor, kept: Mapping[str, NDArray[Any]]) -> TokenLevels:
        """Return those after the outcomes that are kept, arrays of one row an outcome."""
        before = cls.unknown(base)
        told = np.array([getattr(each, "tokens_told", True) for each in getattr(base, "priors", base.models)])
        weight = np.where(told, TOLD_COUNTS, FILLED_COUNTS)
        model, seen, expected = kept["model"], kept["output_tokens"], kept["expected"]
        counted = np.isfinite(seen)
        common, away = _common(model[counted], seen[counted], expected[counted], kept["foreign"][counted])
        factor, count = np.full(len(told), common), np.bincount(model[counted], minlength=len(told))
        for at, counts in enumerate(weight):
            rows = counted & (model == at)
            factor[at] = token_factor(seen[rows], expected[rows], float(counts), common)
        share = count / (count + weight)
        noise = share * SINGLE_LENGTH_STD / np.sqrt(np.maximum(count, 1))
        sent, prompt_factor, away_prompt = _prompts(kept, before, len(told))
        return cls(
            factor=factor,
            length_std=before.length_std,
            carried=1.0 - share,
            noise=noise,
            prompt=sent,
            prompt_std=before.prompt_std if sent is None else sent.std,
            prompt_factor=prompt_factor,
            away_length=away,
            away_prompt=away_prompt,
        )

    def corrected(self, made: Prediction) -> dict[str, Any]:
        """Return the fields of a prediction that the counts change."""
        fields: dict[str, Any] = {
            "output_tokens": np.maximum(made.output_tokens * self.factor, 1.0).astype(np.float32)
        }
        if self.prompt is not None:
            sent = self.prompt(made.input_tokens.astype(np.float64), made.embedding)
            fields["input_tokens"] = np.rint(sent).astype(np.int64)
        if np.abs(self.prompt_factor - 1.0).max(initial=0.0) > _ALIKE:
            before = 1.0 if made.input_factor is None else made.input_factor
            fields["input_factor"] = (before * self.prompt_factor).astype(np.float32)
        return fields

    def shared(self, level: NDArray[np.float64], away: float) -> SharedErrors:
        """Return the errors that queries share; `away` is how unlike known ground they are, 0 to 1."""
        before = np.hypot(self.length_std, self.away_length * away)
        length = np.hypot(self.carried * before, self.noise).astype(np.float32)
        return SharedErrors(length, self.prompt_std, level, 0.0, self.away_prompt * away)


def distinct_rows(vectors: NDArray[np.float32]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return where each distinct row of a matrix is first, and the number of each row's among them."""
    if not vectors.shape[1]:
        return np.arange(len(vectors)), np.arange(len(vectors))
    rows = np.ascontiguousarray(vectors)
    one = rows.view(np.dtype((np.void, rows.dtype.itemsize * rows.shape[1]))).ravel()
    _, first, number = np.unique(one, return_index=True, return_inverse=True)
    return first, number


def _common(
    model: NDArray[np.int64],
    seen: NDArray[np.float64],
    expected: NDArray[np.float64],
    foreign: NDArray[np.float64],
) -> tuple[float, float]:
    """Return by what the answers of all models differ from their forecasts, and what is left open of it.

    Only traffic unlike known ground is longer or shorter for all; elsewhere a model's counts tell of itself.
    """
    away = away_share(1.0 - foreign)
    found, weight = [], []
    for at in np.unique(model):
        rows = model == at
        found.append(np.log(max(float(seen[rows].sum()), 1.0) / max(float(expected[rows].sum()), 1.0)))
        weight.append(1.0 / (_MODEL_STD**2 + SINGLE_LENGTH_STD**2 / float(rows.sum())))
    told = float(np.sum(weight))
    left = (AWAY_LENGTH_STD**-2.0 + told * away**2) ** -0.5
    if away <= 0.0:
        return 1.0, float(left)
    return float(np.exp(np.dot(weight, found) / (told + (AWAY_LENGTH_STD * away) ** -2.0))), float(left)


def _prompts(
    kept: Mapping[str, NDArray[Any]], before: TokenLevels, models: int
) -> tuple[PromptFit | None, NDArray[np.float64], float]:
    """Return the fit of prompts, each model's factor, and what is left open of foreign traffic."""
    counted = np.isfinite(kept["prompt"])
    model, seen, estimate = (kept[name][counted] for name in ("model", "prompt", "prompt_expected"))
    vectors = kept["embedding"][counted]
    first, number = distinct_rows(vectors)
    once = np.maximum(np.bincount(number, minlength=len(first)), 1)
    sent = np.bincount(number, weights=seen, minlength=len(first)) / once
    fit = fit_prompts(sent, estimate[first], vectors[first], before.prompt_std)
    if fit is None:
        return None, before.prompt_factor, before.away_prompt
    expected = fit(estimate, vectors)
    factor = np.ones(models)
    for at in range(models):
        rows = model == at
        factor[at] = token_factor(seen[rows], expected[rows], TOLD_COUNTS)
    foreign = float(kept["foreign"][counted][first].sum())
    return fit, factor, float((AWAY_PROMPT_STD**-2.0 + foreign / SINGLE_PROMPT_STD**2) ** -0.5)
