"""Budgets and promises on data that a bundle was not trained on: how often batches keep them.

    python benches/unseen.py DATA.parquet [--bundle FOLDER] [--size 256] [--batches 200]

Batches are drawn at random from the queries that every model of the bundle answered. Budgets lie between the
cheapest and the strongest model's predicted cost; a budget is kept when the realised cost of the chosen
answers, as the data have it, is within it. Promises are kept when their realised mean success reaches them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from eccos_rs import Policy, Pool, Query
from eccos_rs.predict.bundle import Bundle
from eccos_rs.predict.open import open_predictor
from eccos_rs.records import RecordTable
from eccos_rs.routing.problem import build_problem
from eccos_rs.routing.promise import solve

SHARES = (0.02, 0.05, 0.1, 0.2, 0.5)
PROMISES = (0.6, 0.7, 0.8)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--bundle")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batches", type=int, default=200)
    parser.add_argument("--confidence", type=float, default=0.95)
    chosen = parser.parse_args()
    bundle = Bundle.load(chosen.bundle)
    table = RecordTable.read(chosen.data)
    names = [name for name in bundle.models if name in table.models]
    table = table.select_models(names)
    whole = np.isfinite(table.quality).all(axis=1) & np.isfinite(table.cost).all(axis=1)
    table, pool = table.select(whole), Pool.load(bundle.pool_path).select(names)
    queries = [Query(text) for text in table.query]
    prediction = (
        open_predictor(bundle, "hybrid", device="cpu").predict(queries).select(names).without_embedding()
    )
    rng = np.random.default_rng(0)
    size = min(chosen.size, len(table))
    batches = [rng.choice(len(table), size, replace=False) for _ in range(chosen.batches)]
    print(f"{chosen.data.name}: {len(table)} queries, {len(names)} models, batches of {size}, {bundle.name}")
    familiar = prediction.familiar
    print(f"mean familiarity {1.0 if familiar is None else float(familiar.mean()):.2f}")

    def run(policy: Policy, rows: np.ndarray):
        some = prediction.rows(rows)
        problem = build_problem(pool, some, [queries[row] for row in rows], policy)
        answer, _, margin = solve(problem, policy)
        return problem, answer, margin

    strongest = float(np.mean(run(Policy(quality_value=1e3), batches[0])[1].cost)) / size
    print("| goal | without confidence: broken | with confidence: broken | refused | realised / promised |")
    print("|---|---|---|---|---|")
    goals = [{"budget": share * strongest * size} for share in SHARES]
    goals += [{"min_quality": promise} for promise in PROMISES]
    for goal in goals:
        (name, value), told = next(iter(goal.items())), {}
        for confidence in (None, chosen.confidence):
            policy, broken, refused, part = Policy(confidence=confidence, **goal), [], 0, []
            for rows in batches:
                _, answer, margin = run(policy, rows)
                if "unreachable" in str(answer.status) or (margin is not None and not margin.kept):
                    refused += 1
                    continue
                if name == "budget":
                    spent = float(table.cost[rows, answer.model].sum())
                    broken.append(spent > value)
                    part.append(spent / value)
                else:
                    reached = float(table.quality[rows, answer.model].mean(dtype=np.float64))
                    broken.append(reached < value)
                    part.append(reached / value)
            told[confidence] = broken, refused, part
        cells = [f"{np.mean(broken):.1%}" if broken else "-" for broken, _, _ in told.values()]
        _, refused, part = told[chosen.confidence]
        ratio = f"{np.mean(part):.2f}" if part else "-"
        label = (
            f"budget, {value / (strongest * size):.0%} of the best" if name == "budget" else f"mean {value}"
        )
        print(f"| {label} | {' | '.join(cells)} | {refused / len(batches):.0%} | {ratio} |", flush=True)


if __name__ == "__main__":
    main()
