"""Scores of one model that cannot all be right: an overall score far from the mean of its categories."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from eccos_rs.catalogue.factor import log_odds

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Contradictions", "contradictions"]

_LEAST_CATEGORIES = 4
"""From so many categories on their mean says something of the whole."""
_FAR = 0.5
"""Log odds: a few categories are easier or harder than the whole by less (about 10 points near a half)."""


class Scored(Protocol):
    """What is asked of a score."""

    @property
    def value(self) -> float: ...


class Contradictions(NamedTuple):
    """What does not fit together.

    Parameters
    ----------
    gap : float
        The largest distance in log odds; 0 where there is none.
    words : tuple of str
        A sentence for each benchmark.
    """

    gap: float
    words: tuple[str, ...]


def contradictions(scores: Mapping[str, Scored]) -> Contradictions:
    """Compare each overall score with the mean of the scores by category of the same benchmark.

    Parameters
    ----------
    scores : mapping of str to Score
        By benchmark (``"mmlu_pro"``) or benchmark and category (``"mmlu_pro/law"``), of one source.
    """
    gap, words = 0.0, []
    for name, overall in scores.items():
        parts = [score.value for key, score in scores.items() if key.startswith(f"{name}/")]
        if len(parts) < _LEAST_CATEGORIES:
            continue
        mean = sum(parts) / len(parts)
        distance = abs(float(log_odds(overall.value)) - float(log_odds(mean)))
        if distance > _FAR:
            gap = max(gap, distance)
            words.append(
                f"scores contradict: {name} is {overall.value:.2f}, its {len(parts)} categories are "
                f"{mean:.2f} on average"
            )
    return Contradictions(gap, tuple(words))
