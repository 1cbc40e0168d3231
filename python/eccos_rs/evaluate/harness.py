"""Sweeps each method through each setting and compares them at equal realised cost."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from eccos_rs.errors import InputError
from eccos_rs.evaluate.curves import Curve
from eccos_rs.evaluate.methods.base import Batch, operating_points, place

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from eccos_rs.evaluate.methods.base import RoutingMethod
    from eccos_rs.evaluate.settings import Setting
    from eccos_rs.records import RecordTable

__all__ = ["HeldOutSet", "Run", "RunStatistics", "sweep"]


@dataclass(frozen=True, eq=False)
class HeldOutSet:
    """The queries that are judged: none of them was seen by any predictor.

    Attributes
    ----------
    table : RecordTable
        N queries and M models, every pair observed.
    hardness : ndarray, shape (N,)
        The higher, the harder the query looks before it is answered.
    prices : ndarray of float64, shape (M, 2)
        US dollars per million input and output tokens; NaN where unknown.
    parts : tuple of ndarray of int64
        Rows that one training left out, each row in one part; a batch is dealt from one part. All rows by
        default.
    """

    table: RecordTable
    hardness: npt.NDArray[np.floating]
    prices: npt.NDArray[np.float64]
    parts: tuple[npt.NDArray[np.int64], ...] = ()
    strength: npt.NDArray[np.float64] = field(init=False)
    mean_cost: npt.NDArray[np.float64] = field(init=False)

    def __post_init__(self) -> None:
        table = self.table
        if not len(table) or len(table.models) < 2:
            raise InputError(
                f"data: got {len(table)} queries and {len(table.models)} models to judge, wanted 1 and 2 or "
                "more"
            )
        if not (np.isfinite(table.quality).all() and np.isfinite(table.cost).all()):
            raise InputError("data: some (query, model) pairs are not observed; judge complete rows only")
        if not self.parts:
            object.__setattr__(self, "parts", (np.arange(len(table)),))
        object.__setattr__(self, "strength", table.quality.astype(np.float64).mean(axis=0))
        object.__setattr__(self, "mean_cost", table.cost.mean(axis=0))
        if not self.mean_cost[self.strongest] > 0:
            raise InputError(
                f"data: the strongest model, {table.models[self.strongest]!r}, cost nothing, so there is no "
                "money to compare at; price the outputs first (eccos import --pool prices.toml --reprice)"
            )

    @property
    def strongest(self) -> int:
        """Column of the best single model; of equally good ones the cheapest."""
        return int(np.lexsort((self.mean_cost, -self.strength))[0])

    @property
    def weakest(self) -> int:
        """Column of the cheapest single model: where the gap that a router recovers begins."""
        return int(np.lexsort((-self.strength, self.mean_cost))[0])

    def deal(self, setting: Setting, repeat: int, part: int | None = None) -> Iterator[npt.NDArray[np.int64]]:
        """Yield the rows of each batch of a setting, of one part or of all; see `Setting.batches`."""
        for rows in self.parts if part is None else (self.parts[part],):
            for some in setting.batches(self.hardness[rows], repeat):
                yield rows[some]

    def batch(self, rows: npt.NDArray[np.int64], capacity: npt.NDArray[np.float64]) -> Batch:
        """Return what a method is shown of these rows."""
        texts = [self.table.query[row] for row in rows.tolist()]
        return Batch(texts, rows, self.table.models, self.prices, capacity)


@dataclass(frozen=True)
class RunStatistics:
    """How a method kept the limits, and how long it took.

    Attributes
    ----------
    batches : int
        Batches times operating points.
    over_capacity : float
        Share of those in which some model got more than it may take.
    excess : float
        Mean share of a batch's queries that were too many, over the batches that broke a limit; 0 if none.
    seconds : float
        Per query, for choosing alone: the predictor's time is not in it.
    """

    batches: int
    over_capacity: float
    excess: float
    seconds: float


@dataclass(frozen=True, eq=False)
class Run:
    """One method in one setting."""

    curve: Curve
    statistics: RunStatistics

    @classmethod
    def joined(cls, runs: Sequence[Run]) -> Run:
        """Put together what one method, fitted anew for each, did on the parts of the judged queries."""
        if len(runs) == 1:
            return runs[0]
        curves, conducts = [run.curve for run in runs], [run.statistics for run in runs]
        served = np.array([curve.count.sum() for curve in curves])
        batches = np.array([each.batches for each in conducts])
        broke = batches * [each.over_capacity for each in conducts]
        return cls(
            Curve(
                curves[0].name,
                np.sum([curve.quality for curve in curves], axis=0),
                np.sum([curve.cost for curve in curves], axis=0),
                np.sum([curve.count for curve in curves], axis=0),
                np.average([curve.share for curve in curves], axis=0, weights=served),
            ),
            RunStatistics(
                batches=int(batches.sum()),
                over_capacity=float(broke.sum() / batches.sum()),
                excess=float((broke * [each.excess for each in conducts]).sum() / max(broke.sum(), 1e-300)),
                seconds=float(np.average([each.seconds for each in conducts], weights=served)),
            ),
        )


def sweep(method: RoutingMethod, setting: Setting, test_set: HeldOutSet, part: int | None = None) -> Run:
    """Let a method serve every batch of a setting at each of its operating points.

    Parameters
    ----------
    method : RoutingMethod
        Fitted.
    setting : Setting
        Limits and batches.
    test_set : HeldOutSet
        The judged queries.
    part : int, optional
        Serve this part of them alone.

    Returns
    -------
    Run
        Realised quality and cost are those of the models that it chose.
    """
    table, swept = test_set.table, operating_points(method)
    n, m = table.quality.shape
    quality, cost = np.zeros((len(swept), n)), np.zeros((len(swept), n))
    count, share = np.zeros(n), np.zeros((len(swept), m))
    excess: list[float] = []
    spent, served = 0.0, 0
    for repeat in range(setting.repeats(n)):
        for rows in test_set.deal(setting, repeat, part):
            batch = test_set.batch(rows, setting.capacity(len(rows), test_set.strength))
            count[rows] += 1
            for position, operating_point in enumerate(swept):
                started = time.perf_counter()
                columns = place(method.choose(batch, operating_point), batch)
                spent += time.perf_counter() - started
                taken = np.bincount(columns, minlength=m)
                quality[position, rows] += table.quality[rows, columns]
                cost[position, rows] += table.cost[rows, columns]
                share[position] += taken
                excess.append(float(np.clip(taken - batch.capacity, 0, None).sum()) / len(rows))
                served += len(rows)
    broke = np.asarray(excess) > 0
    statistics = RunStatistics(
        batches=len(excess),
        over_capacity=float(broke.mean()),
        excess=float(np.asarray(excess)[broke].mean()) if broke.any() else 0.0,
        seconds=spent / served,
    )
    return Run(Curve(method.name, quality, cost, count, share / count.sum()), statistics)
