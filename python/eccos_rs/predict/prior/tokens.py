"""How many tokens go in and come out, from counts of answers: levels only, the shape is the forecast's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from eccos_rs.predict.familiarity import AWAY_LENGTH_STD
from eccos_rs.predict.prior.posterior import FILLED_COUNTS, TOLD_COUNTS, token_factor
from eccos_rs.predict.prior.prompts import PromptFit, fit_prompts
from eccos_rs.predict.shared import AWAY_PROMPT_STD, LENGTH_LEVEL_STD, PROMPT_STD, SharedErrors

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from eccos_rs.predict.protocol import Prediction, Predictor

__all__ = ["TokenLevels", "distinct_rows"]

_SINGLE_STD = 0.8
"""Standard deviation of ln of one answer's length around its forecast."""
_SINGLE_PROMPT_STD = 0.5
"""The same of a prompt's."""
_ALIKE = 0.005
"""A model that counts prompts within this share of the others counts alike."""


@dataclass(frozen=True, eq=False)
class TokenLevels:
    """What counts say of M models.

    Attributes
    ----------
    factor : ndarray, shape (M,)
        What forecasts of output tokens are multiplied by.
    length_std : ndarray of float32, shape (M,)
        Standard deviation of ln of each model's total output tokens.
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
    length_std: NDArray[np.float32]
    prompt: PromptFit | None
    prompt_std: float
    prompt_factor: NDArray[np.float64]
    away_length: float = AWAY_LENGTH_STD
    away_prompt: float = AWAY_PROMPT_STD

    @classmethod
    def unknown(cls, base: Predictor) -> TokenLevels:
        """Return those of a predictor of which nothing was counted."""
        one = np.ones(len(base.models))
        usual = np.full(len(one), LENGTH_LEVEL_STD, dtype=np.float32)
        return cls(
            one, getattr(base, "length_std", usual), None, getattr(base, "prompt_std", PROMPT_STD), one
        )

    @classmethod
    def fitted(cls, base: Predictor, kept: Mapping[str, NDArray[Any]]) -> TokenLevels:
        """Return those after the outcomes that are kept, arrays of one row an outcome."""
        before = cls.unknown(base)
        told = np.array([getattr(each, "tokens_told", True) for each in getattr(base, "priors", base.models)])
        weight = np.where(told, TOLD_COUNTS, FILLED_COUNTS)
        model, seen, expected = kept["model"], kept["output_tokens"], kept["expected"]
        counted = np.isfinite(seen)
        # What all models have in common first: traffic of another kind is longer or shorter for all of them.
        usual = np.array([_mean(expected[counted & (model == at)]) for at in range(len(told))])
        scale = np.maximum(usual[model[counted]], 1e-9)
        common = token_factor(seen[counted] / scale, expected[counted] / scale, FILLED_COUNTS)
        factor, std = np.full(len(told), common), before.length_std.astype(np.float64)
        for at, counts in enumerate(weight):
            rows = counted & (model == at)
            factor[at] = token_factor(seen[rows], expected[rows], float(counts), common)
            count = float(rows.sum())
            share = count / (count + counts)
            noise = _SINGLE_STD**2 / max(count, 1.0)
            std[at] = np.sqrt(((1.0 - share) * std[at]) ** 2 + share**2 * noise)
        sent, prompt_factor, away_prompt = _prompts(kept, before, len(told))
        foreign = float(kept["foreign"][counted].sum()) / max(len(told), 1)
        return cls(
            factor, std.astype(np.float32), sent, before.prompt_std if sent is None else sent.std,
            prompt_factor, _narrowed(AWAY_LENGTH_STD, foreign, _SINGLE_STD), away_prompt,
        )  # fmt: skip

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
        return SharedErrors(
            self.length_std, self.prompt_std, level, self.away_length * away, self.away_prompt * away
        )


def distinct_rows(vectors: NDArray[np.float32]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return where each distinct row of a matrix is first, and the number of each row's among them."""
    if not vectors.shape[1]:
        return np.arange(len(vectors)), np.arange(len(vectors))
    rows = np.ascontiguousarray(vectors)
    one = rows.view(np.dtype((np.void, rows.dtype.itemsize * rows.shape[1]))).ravel()
    _, first, number = np.unique(one, return_index=True, return_inverse=True)
    return first, number


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
    return fit, factor, _narrowed(AWAY_PROMPT_STD, foreign, _SINGLE_PROMPT_STD)


def _narrowed(std: float, counts: float, single: float) -> float:
    """Return what so many counts leave of a standard deviation."""
    return float((std**-2.0 + counts / single**2) ** -0.5)


def _mean(values: NDArray[np.float64]) -> float:
    return float(np.mean(values)) if len(values) else 0.0
