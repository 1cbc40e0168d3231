"""What cannot be promised for one batch: causes of a `Diagnosis` that the solver alone does not know."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eccos_rs.solver.diagnosis import Names

__all__ = ["BudgetNotAssured", "QualityNotAssured"]


@dataclass(frozen=True, slots=True)
class QualityNotAssured:
    """The promised mean quality is beyond what the batch keeps to with the wanted confidence.

    Attributes
    ----------
    wanted, confidence : float
        The promise and the probability with which it is to be kept.
    count : int
        Queries of the batch that have a model.
    mean : float
        The highest predicted mean quality.
    lower_bound : float
        What can be promised.
    level_error : float
        The part of the uncertainty that all queries share; 0 where chance is all there is.
    labels : int or None
        Labelled queries of this traffic that would back the promise; None where no number would.
    """

    wanted: float
    confidence: float
    count: int
    mean: float
    lower_bound: float
    level_error: float
    labels: int | None

    @property
    def name(self) -> str:
        """Its kind."""
        return "quality_not_assured"

    def sentence(self, names: Names) -> str:
        """Return it in words."""
        chance = "chance alone" if self.level_error == 0.0 else "chance and what is not known of this traffic"
        words = (
            f"a mean of {self.wanted:.4f} cannot be promised for this batch of {self.count} with "
            f"{self.confidence:.0%} confidence: the highest predicted mean is {self.mean:.4f}, of which "
            f"{chance} may take {self.mean - self.lower_bound:.4f}; what can be promised is "
            f"{self.lower_bound:.4f}"
        )
        if self.labels:
            words += f". Not validated: {self.labels:,} labelled queries of this traffic would back it"
        return words


@dataclass(frozen=True, slots=True)
class BudgetNotAssured:
    """What the batch costs may exceed the budget, with the wanted confidence.

    Attributes
    ----------
    wanted : float
        The budget in US dollars.
    confidence : float
        The probability with which it is to be kept.
    count : int
        Queries of the batch that have a model.
    cost, upper_cost : float
        Of the cheapest assignment: what it is predicted to cost and what it may cost, in US dollars.
    """

    wanted: float
    confidence: float
    count: int
    cost: float
    upper_cost: float

    @property
    def name(self) -> str:
        """Its kind."""
        return "budget_not_assured"

    def sentence(self, names: Names) -> str:
        """Return it in words."""
        return (
            f"a budget of ${self.wanted:.6g} cannot be promised for this batch of {self.count} with "
            f"{self.confidence:.0%} confidence: the cheapest assignment is predicted to cost "
            f"${self.cost:.6g}, and may cost ${self.upper_cost:.6g}"
        )
