"""What steering a stream costs and keeps on real queries that no predictor has seen.

Every query is forecast by models that were fitted without it (five folds, near-identical questions in one
fold): word statistics into logistic and linear regressions. The bundle that is shipped was trained on these
queries, so it cannot be used here; these forecasts are plainer than its own. The queries then go through a
`Session` with a floor under the mean quality, from clients in a circle, in a random order and data set by
data set. Beside it, on the same forecasts and in the same order: one joint solve that knows all queries
beforehand, and the floor forced on every micro-batch. Quality is in points; costs are in US dollars for a
thousand queries.

    python -m benches.steering ../shared/data/qaserve_public.parquet
"""

from __future__ import annotations

import argparse
import asyncio
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GroupKFold

from eccos_rs.domain.query import Query
from eccos_rs.pools.pool import Pool
from eccos_rs.predict.bundle import Bundle
from eccos_rs.predict.protocol import Prediction
from eccos_rs.records.grouping import text_groups
from eccos_rs.records.table import RecordTable
from eccos_rs.routing.policy import Policy
from eccos_rs.routing.router import Router
from eccos_rs.session import Session
from eccos_rs.solver.assignment import assign

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Choice = NDArray[np.int64]


def forecast(table: RecordTable) -> Prediction:
    """Predict every query by models that were fitted on the folds without it and its near-twins."""
    n, m = table.quality.shape
    quality, tokens = np.zeros((n, m), np.float32), np.zeros((n, m), np.float32)
    folds = GroupKFold(5).split(table.query, groups=text_groups(table.query))
    for known, held in folds:
        words = TfidfVectorizer(ngram_range=(1, 2), min_df=3, max_features=50_000, sublinear_tf=True)
        seen = words.fit_transform([table.query[row] for row in known])
        new = words.transform([table.query[row] for row in held])
        for at in range(m):
            success = LogisticRegression(C=1.0, max_iter=300).fit(seen, table.quality[known, at] >= 0.5)
            quality[held, at] = success.predict_proba(new)[:, 1]
            real = table.output_tokens[known, at].astype(np.float64)
            length = Ridge(2.0).fit(seen, np.log1p(real))
            # The mean of what was seen is met; the exponential of a mean logarithm alone falls far short.
            scale = real.mean() / np.expm1(length.predict(seen)).mean()
            tokens[held, at] = np.clip(np.expm1(length.predict(new)) * scale, 1.0, 8_000.0)
    return Prediction(
        models=table.models,
        quality=quality,
        output_tokens=tokens,
        quality_std=np.full((n, m), 0.1, np.float32),
        log_tokens_std=np.full((n, m), 0.6, np.float32),
        input_tokens=table.input_tokens.astype(np.int64),
    )


class Given:
    """Stands where a predictor would; every prediction is given."""

    def __init__(self, models: Sequence[str]) -> None:
        self.models = tuple(models)

    def predict(self, queries: Any) -> Prediction:
        """Predict nothing: no query comes without its prediction."""
        raise NotImplementedError(f"{len(queries)} queries came without a prediction")


@dataclass(frozen=True)
class World:
    """The queries, what is forecast of them, and what came of each model's answer."""

    table: RecordTable
    known: Prediction
    pool: Pool
    cost: NDArray[np.float64]

    def figures(self, name: str, choice: Choice) -> dict[str, Any]:
        """Return predicted and realised mean quality (points) and cost (dollars for 1,000 queries)."""
        rows = np.arange(len(choice))
        return {
            "way": name,
            "predicted": 100 * float(self.known.quality[rows, choice].mean(dtype=np.float64)),
            "realised": 100 * float(self.table.quality[rows, choice].mean(dtype=np.float64)),
            "predicted cost": 1000 * float(self.cost[rows, choice].mean()),
            "realised cost": 1000 * float(self.table.cost[rows, choice].mean()),
        }


def streamed(world: World, floor: float, order: NDArray[np.int64], *, judged: float, at_once: int) -> Choice:
    """Send the queries through a session in this order; a share of the answers is judged as it comes."""
    table, draw = world.table, np.random.default_rng(1)
    judge = draw.random(len(order)) < judged
    choice = np.zeros(len(order), np.int64)
    router = Router(world.pool, Given(table.models), Policy(min_quality=floor))

    async def story() -> None:
        async with Session(router) as session:
            left = iter(order.tolist())

            async def client() -> None:
                for row in left:
                    given = world.known.rows(slice(row, row + 1))
                    lease = await session.acquire(Query("?"), prediction=given)
                    choice[row] = lease.index
                    lease.release(
                        output_tokens=float(table.output_tokens[row, lease.index]),
                        quality=float(table.quality[row, lease.index]) if judge[row] else None,
                    )

            await asyncio.gather(*(client() for _ in range(at_once)))

    asyncio.run(story())
    return choice


def forced(world: World, floor: float, order: NDArray[np.int64], size: int) -> Choice:
    """Solve micro-batch by micro-batch, each with the floor of its own."""
    choice = np.zeros(len(order), np.int64)
    for start in range(0, len(order), size):
        rows = order[start : start + size]
        choice[rows] = assign(world.cost[rows], world.known.quality[rows], min_quality=floor).model
    return choice


def compare(world: World, floor: float, order: NDArray[np.int64], at_once: int) -> list[dict[str, Any]]:
    joint = assign(world.cost, world.known.quality, min_quality=floor)
    ways = [("one joint solve of all", joint.model)]
    for share, name in ((0.0, "session"), (0.1, "session, 10 % judged"), (1.0, "session, all judged")):
        ways.append((name, streamed(world, floor, order, judged=share, at_once=at_once)))
    ways += [(f"floor on every {size}", forced(world, floor, order, size)) for size in (16, 64, 256)]
    return [world.figures(name, choice) for name, choice in ways]


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("data", type=Path)
    options.add_argument("--floor", type=float, action="append", help="repeatable; 0.66, 0.70 and 0.74")
    options.add_argument("--at-once", type=int, default=64, help="clients")
    options.add_argument("--json", action="store_true")
    given = options.parse_args()
    table = RecordTable.read(given.data)
    pool = Pool.load(Bundle.load().pool_path).select(table.models)
    known = forecast(table)
    world = World(table, known, pool, Router(pool, Given(table.models)).costs(known))
    orders = {
        "at random": np.random.default_rng(0).permutation(len(table)),
        "data set by data set": np.argsort(np.asarray(table.dataset), kind="stable"),
    }
    single = [world.figures(name, np.full(len(table), at)) for at, name in enumerate(table.models)]
    report: dict[str, Any] = {"queries": len(table), "single models": single, "streams": []}
    for floor in given.floor or (0.66, 0.70, 0.74):
        for name, order in orders.items():
            rows = compare(world, floor, order, given.at_once)
            report["streams"].append({"floor": 100 * floor, "order": name, "ways": rows})
    if given.json:
        print(json.dumps(report, indent=2))
        return
    print(f"{len(table):,} queries; single models:")
    show(single)
    for stream in report["streams"]:
        print(f"\npromised {stream['floor']:.1f}, {stream['order']}:")
        show(stream["ways"])


def show(rows: list[dict[str, Any]]) -> None:
    print(f"{'':26}{'predicted':>10}{'realised':>10}{'predicted $':>13}{'realised $':>12}")
    for row in rows:
        print(
            f"{row['way']:26}{row['predicted']:10.2f}{row['realised']:10.2f}"
            f"{row['predicted cost']:13.4f}{row['realised cost']:12.4f}"
        )


if __name__ == "__main__":
    main()
