"""What is known of a model before any label, in the terms of the curves: from the catalogue or one's own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from eccos_rs.catalogue.contradiction import unused_scores
from eccos_rs.catalogue.scores import REFERENCE, benchmarks, knowledge
from eccos_rs.predict.prior.ability import Known
from eccos_rs.predict.prior.curves import benchmark_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eccos_rs.catalogue.scores import ModelKnowledge
    from eccos_rs.pools.pool import LLM

__all__ = ["CATEGORY_STD", "PUBLISHED_CATEGORY_STD", "ModelPrior", "model_prior"]

CATEGORY_STD, PUBLISHED_CATEGORY_STD = 0.25, 0.1
"""Standard deviation of a category's level, log odds, without and with published category scores."""
SAME_SKILL = {
    "llmrouter/trivia_qa": "triviaqa",
    "llmrouter/natural_qa": "natural_questions",
    "llmrouter/mmlu": "mmlu",
    "llmrouter/gpqa": "gpqa",
    "llmrouter/mbpp": "mbpp",
    "llmrouter/human_eval": "humaneval",
    "llmrouter/math": "math",
    "llmrouter/agentverse-mgsm": "mgsm",
    "llmrouter/arc_challenge": "arc_challenge",
}
"""Categories whose marks came of matching strings: models of today are known by the same questions under
a usual harness, else the capital of France would be beyond them."""
_CATEGORY_SCORES = 4
"""From so many published category scores on, a model's profile is known."""


@dataclass(frozen=True, eq=False)
class ModelPrior:
    """One model before any label.

    Attributes
    ----------
    name : str
        As the pool has it.
    known : Known
        Means by category of the curves.
    level_std : float
        Standard deviation of its level, log odds.
    basis : str
        What that rests on: ``"category scores"``, ``"overall score"``, ``"other benchmarks"``, ``"arena"``,
        ``"nothing"``.
    category_std : float
        Standard deviation of a category's level, log odds.
    tokens_told : bool
        Whether any count of its output tokens is known.
    note : str
        What differs between the model asked for and the one that is known, and what of its scores cannot be
        used.
    """

    name: str
    known: Known
    level_std: float
    basis: str
    category_std: float
    tokens_told: bool
    note: str = ""


def model_prior(model: LLM, categories: Sequence[str]) -> ModelPrior:
    """Look a model up in the catalogue.

    Parameters
    ----------
    model : LLM
        Its own scores, where it has some, go before the table's.
    categories : sequence of str
        Of the curves.

    Returns
    -------
    ModelPrior
        Of a model nobody lists too: its `basis` is ``"nothing"``.
    """
    return replace(make_prior(knowledge(model), categories), name=model.name)


def make_prior(found: ModelKnowledge, categories: Sequence[str]) -> ModelPrior:
    """Put what the catalogue knows in the terms of the curves."""
    listed = frozenset(benchmarks())
    # Of what is published some says nothing here; only one's own may be a slip of the pen.
    told = [name for name, score in found.scores.items() if score.source == "own"]
    used = {*listed, *categories, *map(benchmark_name, categories)}
    level, success, tokens = [], [], []
    for category in categories:
        benchmark = benchmark_name(category)
        level.append(_level(found, benchmark, listed))
        own = found.scores.get(category) if category != benchmark else None
        success.append(np.nan if own is None else own.value)
        tokens.append(found.tokens.get(category, found.tokens.get(benchmark, np.nan)))
    # Nobody counted: by its kind, so that one which thinks aloud is not taken for a short one.
    mean_tokens = found.expected_tokens()[0] if found.mean_tokens is None else found.mean_tokens
    published = int(np.isfinite(success).sum()) >= _CATEGORY_SCORES
    return ModelPrior(
        found.name,
        Known(np.array(level), np.array(success), np.array(tokens), mean_tokens),
        found.level_sd,
        found.basis,
        PUBLISHED_CATEGORY_STD if published else CATEGORY_STD,
        bool(np.isfinite(tokens).any()) or found.mean_tokens is not None,
        "; ".join(filter(None, (found.note, unused_scores(told, used)))),
    )


def _level(found: ModelKnowledge, benchmark: str, listed: frozenset[str]) -> float:
    """Return what a model scores on a benchmark, 0 to 1, by the nearest that anybody lists."""
    also = SAME_SKILL.get(benchmark, REFERENCE)
    if benchmark in found.scores or (benchmark not in SAME_SKILL and benchmark in listed):
        return float(found.expected(benchmark).value)
    return float(found.expected(also if also in listed else REFERENCE).value)
