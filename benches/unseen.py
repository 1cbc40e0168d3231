"""Budgets and promises on data that a bundle was not trained on: how often batches keep them.

    python -m benches.unseen DATA.parquet [--bundle FOLDER] [--same BUNDLE=DATA ...] [--labels 50]
    python -m benches.unseen DATA.parquet --day-one [--labels 50]

Batches are drawn at random from the queries that every model answered. `--same` says which model of the
data a model of the bundle is, where they are named apart. With `--day-one` models are known by their names
alone (prices as the data imply them). The answers to `--labels` queries are learned from; those queries are
not judged. Budgets lie between the cheapest and the strongest model's predicted cost; a budget is kept when
the realised cost of the chosen answers, as the data have it, is within it. Promises are kept when their
realised mean success reaches them.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from eccos_rs import LLM, Policy, Pool, Query, Router
from eccos_rs.records import RecordTable
from eccos_rs.routing.problem import build_problem
from eccos_rs.routing.promise import solve

if TYPE_CHECKING:
    from eccos_rs.solver.assignment import Assignment

SHARES = (0.02, 0.05, 0.1, 0.2, 0.5)
PROMISES = (0.6, 0.7, 0.8)


def trained(table: RecordTable, bundle: str | None, same: dict[str, str]) -> tuple[Router, RecordTable]:
    """Return the bundle's router for the models that the data have, and their complete rows."""
    pool = Router.load(bundle, device="cpu").pool
    names = [name for name in pool.names if same.get(name, name) in table.models]
    table = complete(table.select_models([same.get(name, name) for name in names]))
    return Router.load(bundle, pool=pool.select(names), device="cpu"), replace(table, models=tuple(names))


def day_one(table: RecordTable) -> tuple[Router, RecordTable]:
    """Return a router that knows the priced models by name, and their complete rows."""
    priced = [name for name, cost in zip(table.models, table.cost.T, strict=True) if np.isfinite(cost).any()]
    table = complete(table.select_models(priced))
    models = []
    for column, name in enumerate(priced):
        tokens = np.stack([counts(table.input_tokens, column), counts(table.output_tokens, column)], axis=1)
        prices = np.linalg.lstsq(tokens, table.cost[:, column], rcond=None)[0]
        models.append(LLM(name, *(round(float(price) * 1e6, 6) for price in prices)))
    return Router.day_one(Pool(models), device="cpu"), table


def learned(router: Router, table: RecordTable, labels: int) -> RecordTable:
    """Let a router learn from some rows, and return the others."""
    order = np.random.default_rng(1).permutation(len(table))
    if labels:
        router.learn(table.select(np.sort(order[:labels])).records())
    return table.select(np.sort(order[labels:]))


def complete(table: RecordTable) -> RecordTable:
    """Return the rows that every model answered, with what it cost."""
    return table.select(np.isfinite(table.quality).all(axis=1) & np.isfinite(table.cost).all(axis=1))


def counts(tokens: np.ndarray, column: int) -> np.ndarray:
    """Return one model's token counts; input tokens may be one number per query."""
    return np.asarray(tokens if tokens.ndim == 1 else tokens[:, column], dtype=np.float64)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--bundle")
    parser.add_argument("--same", nargs="*", default=[], metavar="BUNDLE=DATA")
    parser.add_argument("--day-one", action="store_true")
    parser.add_argument("--labels", type=int, default=0, help="queries whose answers are learned from")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batches", type=int, default=200)
    parser.add_argument("--confidence", type=float, default=0.95)
    chosen = parser.parse_args()
    same = dict(pair.split("=", 1) for pair in chosen.same)
    table = RecordTable.read(chosen.data)
    router, table = day_one(table) if chosen.day_one else trained(table, chosen.bundle, same)
    table = learned(router, table, chosen.labels)
    rng = np.random.default_rng(0)
    size = min(chosen.size, len(table))
    batches = [rng.choice(len(table), size, replace=False) for _ in range(chosen.batches)]
    judge = Judge(router, table, batches)
    print(f"{chosen.data.name}: {len(table)} queries, {len(table.models)} models, batches of {size}")
    knows = "names and scores" if chosen.day_one else f"bundle {chosen.bundle or 'in the wheel'}"
    print(f"{knows}, {chosen.labels} labelled queries")
    familiar = judge.prediction.familiar
    print(f"mean familiarity {1.0 if familiar is None else float(familiar.mean()):.2f}")
    strongest = float(np.mean(judge.route(Policy(quality_value=1e3), batches[0])[0].cost))
    print("| goal | without confidence: broken | with confidence: broken | refused | realised / promised |")
    print("|---|---|---|---|---|")
    for share in SHARES:
        print(judge.line(f"budget, {share:.0%} of the best", chosen.confidence, budget=share * strongest))
    for promise in PROMISES:
        print(judge.line(f"mean {promise}", chosen.confidence, min_quality=promise), flush=True)


class Judge:
    """Batches routed by what is predicted, judged by what the data have."""

    def __init__(self, router: Router, table: RecordTable, batches: list[np.ndarray]) -> None:
        self.pool, self.table, self.batches = router.pool, table, batches
        self.queries = [Query(text) for text in table.query]
        self.prediction = router.predict(self.queries).without_embedding()

    def route(self, policy: Policy, rows: np.ndarray) -> tuple[Assignment, bool]:
        """Return the assignment of a batch, and whether its promise or budget is said to hold."""
        some = self.prediction.rows(rows)
        problem = build_problem(self.pool, some, [self.queries[row] for row in rows], policy)
        answer, _, margin = solve(problem, policy)
        return answer, "unreachable" not in str(answer.status) and (margin is None or margin.kept)

    def line(self, label: str, confidence: float, **goal: float) -> str:
        """Return a row of the table: how often a goal was broken where it was said to hold."""
        broken, part = zip(*(self._judged(goal, each) for each in (None, confidence)), strict=True)
        shares = [f"{np.mean(each):.1%}" if len(each) else "-" for each in broken]
        refused = 1.0 - len(part[1]) / len(self.batches)
        ratio = f"{np.mean(part[1]):.2f}" if len(part[1]) else "-"
        return f"| {label} | {' | '.join(shares)} | {refused:.0%} | {ratio} |"

    def _judged(self, goal: dict[str, float], confidence: float | None) -> tuple[list[bool], list[float]]:
        policy, ((name, value),) = Policy(confidence=confidence, **goal), goal.items()
        broken, part = [], []
        for rows in self.batches:
            answer, kept = self.route(policy, rows)
            if not kept:
                continue
            if name == "budget":
                reached = float(self.table.cost[rows, answer.model].sum())
                broken.append(reached > value)
            else:
                reached = float(self.table.quality[rows, answer.model].mean(dtype=np.float64))
                broken.append(reached < value)
            part.append(reached / value)
        return broken, part


if __name__ == "__main__":
    main()
