"""Doubts about the scores that are told of a model: those that cannot all be right, and those of no use."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from eccos_rs.catalogue.factor import log_odds
from eccos_rs.domain.validation import nearest_name

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from eccos_rs.catalogue.score import Score

__all__ = ["Contradictions", "contradictions", "unused_scores"]

_LEAST_CATEGORIES = 4
"""From so many categories on their mean says something of the whole."""
_FAR = 0.5
"""Log odds: a few categories are easier or harder than the whole by less (about 10 points near a half)."""
_FAR_FROM_PUBLISHED = 1.0
"""Log odds: two harnesses that run one benchmark differ by less (about 25 points near a half)."""


class Contradictions(NamedTuple):
    """What does not fit together.

    Parameters
    ----------
    gap : float
        The largest distance in log odds that the level is in doubt by; 0 where it is not.
    words : tuple of str
        A sentence for each benchmark.
    """

    gap: float
    words: tuple[str, ...]


def contradictions(
    scores: Mapping[str, Score], published: Mapping[str, Score], reference: str
) -> Contradictions:
    """Compare scores of one source with each other, and with what others published of the same model.

    An overall score is compared with the mean of its categories.

    Parameters
    ----------
    scores : mapping of str to Score
        By benchmark (``"mmlu_pro"``) or benchmark and category (``"mmlu_pro/law"``), of one source.
    published : mapping of str to Score
        By benchmark, of other sources. What is known of another release or effort is left aside.
    reference : str
        The benchmark of the level: elsewhere a harness that differs says little of it.
    """
    gap, words = 0.0, []
    for name, score in scores.items():
        parts = [each.value for key, each in scores.items() if key.startswith(f"{name}/")]
        mean = sum(parts) / max(len(parts), 1)
        if len(parts) >= _LEAST_CATEGORIES and (distance := _distance(score.value, mean)) > _FAR:
            gap = max(gap, distance)
            words.append(
                f"{name} is {score.value:.2f}, its {len(parts)} categories are {mean:.2f} on average"
            )
        other = published.get(name)
        if other is None or other.note:
            continue
        if (distance := _distance(score.value, other.value)) > _FAR_FROM_PUBLISHED:
            gap = max(gap, distance if name == reference else 0.0)
            words.append(f"{name} is {score.value:.2f}, {other.source} has {other.value:.2f}")
    return Contradictions(gap, tuple(f"scores contradict: {each}" for each in words))


def unused_scores(names: Iterable[str], used: Collection[str]) -> str:
    """Name benchmarks that say nothing here, with near ones: a slip of the pen is no knowledge."""
    strange = []
    for name in names:
        if name not in used:
            near = nearest_name(name, sorted(used), cutoff=0.8)
            strange.append(name if near is None else f"{name} (near {near})")
    return f"not used, no board lists it: {', '.join(strange)}" if strange else ""


def _distance(one: float, other: float) -> float:
    return abs(float(log_odds(one)) - float(log_odds(other)))
