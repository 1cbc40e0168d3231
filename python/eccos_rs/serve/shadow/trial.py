"""What is recorded of one request of a shadow run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eccos_rs.domain.query import Query

__all__ = ["Trial"]


@dataclass(frozen=True)
class Trial:
    """What is recorded of one request.

    Attributes
    ----------
    unit : str
        What it is known by: a hash of its user, or of its conversation.
    as_is : str
        Where it goes without routing.
    routed : bool
        Whether it is routed for real.
    query : Query
        As it would be routed.
    judged : bool
        Whether its answer is graded, while there is money.
    """

    unit: str
    as_is: str
    routed: bool
    query: Query
    judged: bool
