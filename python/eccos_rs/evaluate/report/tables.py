"""What a report is made of: sections, tables, and how numbers are written in them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eccos_rs.evaluate.curves import Estimate

__all__ = ["NONE", "Section", "Table", "difference", "number", "percent", "points", "with_interval"]

NONE = "–"


@dataclass(frozen=True)
class Table:
    """A table of text; the first column names the row."""

    columns: list[str]
    rows: list[list[str]]
    note: str = ""
    strong: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Section:
    """A part of the report. `figures` are names of plots, without their ending."""

    title: str
    text: list[str] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    figures: list[str] = field(default_factory=list)


def percent(value: float, digits: int = 1) -> str:
    """Write a share as a percentage; a dash where it is not defined, ``never`` where it is infinite."""
    if math.isnan(value):
        return NONE
    return "never" if math.isinf(value) else f"{100 * value:.{digits}f}"


def points(value: float, digits: int = 1) -> str:
    """Write a difference of qualities in points, with its sign; never a minus before a zero."""
    if math.isnan(value):
        return NONE
    text = f"{100 * value:+.{digits}f}"
    return text[1:] if float(text) == 0 else text.replace("-", "−")


def number(value: float, digits: int = 3) -> str:
    """Write a plain number; a dash where it is not defined."""
    return NONE if math.isnan(value) else f"{value:.{digits}f}"


def with_interval(estimate: Estimate, digits: int = 1) -> str:
    """Write a percentage with its interval."""
    if math.isnan(estimate.value) or math.isnan(estimate.low):
        return percent(estimate.value, digits)
    value, low, high = (percent(each, digits) for each in estimate)
    return f"{value} ({low}–{high})"


def difference(estimate: Estimate, digits: int = 1) -> str:
    """Write a difference in points with its interval."""
    if math.isnan(estimate.value) or math.isnan(estimate.low):
        return points(estimate.value, digits)
    value, low, high = (points(each, digits) for each in estimate)
    return f"{value} ({low} to {high})"
