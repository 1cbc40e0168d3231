"""Looks for an assignment that is better than a claimed bound: what branching proved, tested from the data.

With reduced costs `d` of the reported multipliers (a pair's score above the least of its query), every
assignment is worse than the dual bound by at least the sum of its `d`. One that beats the claim may therefore
only use pairs whose `d` fit into the distance between the two. Few do: they are enumerated, cheapest
first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

NODES = 20_000
"""Partial assignments looked at; some tenths of a second."""


@dataclass(frozen=True)
class Program:
    """Least sum of `price` with `use[k] @ x <= limit[k]` for every row k, one allowed pair for each query.

    `reduced` holds the score of every pair above the least of its query, infinite where it is not allowed.
    """

    price: Floats
    reduced: Floats
    use: Floats
    limit: Floats


def refute(program: Program, claim: float, distance: float, nodes: int = NODES) -> bool | None:
    """Say whether an assignment has a smaller total price than `claim`; None when the effort was too little.

    Parameters
    ----------
    program : Program
    claim : float
        Total price that nothing is claimed to beat.
    distance : float
        How far the claim lies above what the multipliers prove.
    nodes : int
        Partial assignments to look at.
    """
    fits = program.reduced <= distance
    order = np.argsort(fits.sum(axis=1), kind="stable")
    options = [
        np.flatnonzero(row)[np.argsort(line[row], kind="stable")]
        for row, line in zip(fits, program.reduced, strict=True)
    ]
    # What the queries after a place use at least of every row, and pay at least.
    least_use = np.where(fits, program.use, np.inf).min(axis=2)[:, order]
    least_price = np.where(fits, program.price, np.inf).min(axis=1)[order]
    after_use = np.concatenate(
        [np.cumsum(least_use[:, ::-1], axis=1)[:, ::-1], np.zeros((len(least_use), 1))], axis=1
    )
    after_price = np.concatenate([np.cumsum(least_price[::-1])[::-1], [0.0]])
    stack = [(0, distance, 0.0, np.zeros(len(program.limit)))]
    for _ in range(nodes):
        if not stack:
            return False
        at, left, paid, used = stack.pop()
        if paid + after_price[at] >= claim or (used + after_use[:, at] > program.limit).any():
            continue
        if at == len(order):
            return True
        i = int(order[at])
        for j in options[i][::-1]:
            if program.reduced[i, j] <= left:
                use = used + program.use[:, i, j]
                stack.append((at + 1, left - program.reduced[i, j], paid + program.price[i, j], use))
    return None if stack else False
