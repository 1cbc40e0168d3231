"""How much a model writes: from counts on any benchmark, or from its kind alone.

``ln tokens[model, benchmark] = level[benchmark] + verbosity[model]``. A model that thinks before it answers
writes more than its text shows; where only the text was counted, what thinking adds on average is added.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from eccos_rs.catalogue.factor import Strength

if TYPE_CHECKING:
    from collections.abc import Mapping

    from eccos_rs.catalogue.board import ScoreTable

__all__ = ["COUNTED", "ELSEWHERE", "VISIBLE", "verbosity"]

COUNTED = 0.15
"""Standard deviation of ln tokens where the same model was counted on the same benchmark."""
ELSEWHERE = 0.4
"""The same at least, where it was counted on another benchmark."""
VISIBLE = frozenset({"mmlu-pro", "zeroeval", "shaberi-answers", "misguided", "llmrouter"})
"""Sources whose tokens were counted from the answer's text, so without hidden reasoning."""


def verbosity(
    table: ScoreTable, tokens: Mapping[str, float], told: float | None, *, reference: str, thinks: bool
) -> Strength:
    """Return how much more a model writes than others, in ln tokens, from counts or from its kind alone."""
    level, adds, spread = table.token_line
    mean, precision = level + adds * thinks, spread**-2
    counts = [(math.log(told), table.tokens_column(reference), COUNTED)] if told else []
    if not told:
        counts = [(math.log(value), table.tokens_column(name), ELSEWHERE) for name, value in tokens.items()]
    total = mean * precision
    for value, column, least in counts:
        if column is not None:
            # Counts of one board come together: each counts for a part of one of its own.
            weight = max(float(table.fitted.sigma[column]), least) ** -2 / max(len(counts) / 3, 1.0)
            total += weight * (value - float(table.fitted.mu[column]))
            precision += weight
    return Strength(total / precision, precision**-0.5)
