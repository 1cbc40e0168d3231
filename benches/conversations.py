"""What counting the prompt cache is worth: simulated conversations, played by the product's own policy.

400 conversations of 20 turns, "chat" and "agent"; four models; success a logistic of skill less the turn's
difficulty (a conversation's mean and a turn's own noise); caches that live 300 s. Cost at equal expected
quality, as a share of the cheapest blind mix of single models that each conversation stays with. Forecasts
are the true odds: no predictor takes part.

    python -m benches.conversations
"""

from __future__ import annotations

import argparse
import json
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from eccos_rs import LLM, Pool
from eccos_rs.routing.conversation import ConversationPolicy, ConversationState

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

MODELS = [
    # input, output, cached, written: US dollars per million tokens
    LLM("tiny", 0.15, 0.60, cached_input_price=0.015, cache_write_price=0.15, cache_lifetime=300.0),
    LLM("small", 0.60, 2.4, cached_input_price=0.06, cache_write_price=0.60, cache_lifetime=300.0),
    LLM("medium", 2.0, 10.0, cached_input_price=0.2, cache_write_price=2.5, cache_lifetime=300.0),
    LLM("large", 5.0, 25.0, cached_input_price=0.25, cache_write_price=6.25, cache_lifetime=300.0),
]
SKILL = np.array([0.0, 0.7, 1.5, 2.1])
MEDIANS = {"chat": (1500, 250, 300, 90.0, 0.0), "agent": (12000, 870, 220, 8.0, 0.3)}


@dataclass(frozen=True)
class World:
    """Prompt and answer tokens (N, T), success (N, T, M), seconds before each turn (N, T)."""

    prompt: Array
    answer: Array
    quality: Array
    gap: Array


def draw(kind: str, count: int, turns: int, seed: int = 0) -> World:
    rng = np.random.default_rng(seed)
    first, more, out, gap, mean = MEDIANS[kind]
    start = rng.lognormal(np.log(first), 0.5, count)
    added = rng.lognormal(np.log(more), 0.8, (count, turns))
    answer = rng.lognormal(np.log(out), 0.7, (count, turns))
    difficulty = rng.normal(0, 0.9, (count, 1)) + rng.normal(0, 1.0, (count, turns)) + mean
    gaps = rng.lognormal(np.log(gap), 1.2, (count, turns))
    prompt = start[:, None] + np.cumsum(added, 1)
    prompt[:, 1:] += np.cumsum(answer, 1)[:, :-1]
    return World(prompt, answer, 1 / (1 + np.exp(-(SKILL - difficulty[:, :, None] - 0.2))), gaps)


def turn_costs(world: World) -> tuple[Array, Array]:
    """Return the cost of every turn with a cold and with a warm cache, (N, T, M)."""
    read, write, out = (
        np.array([getattr(llm, name) for llm in MODELS]) / 1e6
        for name in ("cached_input_price", "cache_write_price", "output_price")
    )
    prompt, answer = world.prompt[:, :, None], world.answer[:, :, None]
    cold = prompt * write + answer * out
    held = np.zeros_like(prompt)
    held[:, 1:] = world.prompt[:, :-1, None]
    warm = held * read + (prompt - held) * write + answer * out
    alive = (world.gap <= 300.0) & (np.arange(world.gap.shape[1]) > 0)
    return cold, np.where(alive[:, :, None], warm, cold)


def settle(chosen: NDArray[np.int64], cold: Array, warm: Array, quality: Array) -> tuple[float, float, float]:
    n, turns = chosen.shape
    rows = np.arange(n)
    cost, moves = cold[rows, 0, chosen[:, 0]].sum(), 0
    for t in range(1, turns):
        same = chosen[:, t] == chosen[:, t - 1]
        cost += np.where(same, warm[rows, t, chosen[:, t]], cold[rows, t, chosen[:, t]]).sum()
        moves += int((~same).sum())
    reached = quality[rows[:, None], np.arange(turns)[None], chosen].mean()
    return float(cost), float(reached), moves / (n * (turns - 1))


def hindsight(cold: Array, warm: Array, quality: Array, price: float) -> NDArray[np.int64]:
    """Return the best assignment that knows everything: the bound."""
    n, turns, m = quality.shape
    ahead, back, rows = np.zeros((n, m)), np.empty((n, turns, m), int), np.arange(n)
    for t in range(turns - 1, -1, -1):
        move = cold[:, t] - price * quality[:, t] + ahead
        best = move.argmin(1)
        stay = warm[:, t] - price * quality[:, t] + ahead
        least = move[rows, best][:, None]
        keep = (stay <= least) & (t > 0)
        back[:, t] = np.where(keep, np.arange(m)[None], best[:, None])
        ahead = np.where(keep, stay, least)
    chosen = np.empty((n, turns), int)
    chosen[:, 0] = back[:, 0, 0]
    for t in range(1, turns):
        chosen[:, t] = back[rows, t, chosen[:, t - 1]]
    return chosen


def play(world: World, price: float, horizon: int) -> NDArray[np.int64]:
    """Play all conversations at once, turn by turn, by the policy that the gateway runs."""
    n, turns, _ = world.quality.shape
    policy = ConversationPolicy(Pool(MODELS), horizon=horizon)
    states = [ConversationState() for _ in range(n)]
    chosen = np.empty((n, turns), int)
    clock = np.cumsum(world.gap, 1)
    for t in range(turns):
        for row, state in enumerate(states):
            quality, prompt = world.quality[row, t].tolist(), float(world.prompt[row, t])
            answers, now = [float(world.answer[row, t])] * len(MODELS), float(clock[row, t])
            total = policy.costs(state, prompt, answers, now)
            if horizon:
                more = policy.surcharges(state, prompt, answers, quality, price)
                total = [a + b for a, b in zip(total, more, strict=True)]
            score = [cost - price * value for cost, value in zip(total, quality, strict=True)]
            model = score.index(min(score))
            chosen[row, t] = model
            policy.note(state, model, prompt=prompt, answer=answers[0], quality=quality, now=now)
    return chosen


def hull(points: list[tuple[float, float, float]]) -> list[tuple[float, float]]:
    """Return the lower hull of cost over quality: conversations may be mixed."""
    kept: list[tuple[float, float]] = []
    for cost, quality, _ in sorted(points):
        while len(kept) > 1 and (kept[-1][1] - kept[-2][1]) * (cost - kept[-2][0]) <= (
            quality - kept[-2][1]
        ) * (kept[-1][0] - kept[-2][0]):
            kept.pop()
        if not kept or quality > kept[-1][1]:
            kept.append((cost, quality))
    return kept


def compare(kind: str, count: int, turns: int, prices: Array) -> list[dict[str, object]]:
    world = draw(kind, count, turns)
    cold, warm = turn_costs(world)
    quality = world.quality
    curves: dict[str, list[tuple[float, float, float]]] = {}
    ways = {
        "cache not counted": lambda price: (cold - price * quality).argmin(2),
        "first turn, then sticky": lambda price: np.repeat(
            (warm.mean((0, 1))[None] - price * quality[:, 0]).argmin(1)[:, None], turns, 1
        ),
        "this turn's cache counted": lambda price: play(world, price, 0),
        "gateway (look-ahead)": lambda price: play(world, price, 8),
        "bound (hindsight)": lambda price: hindsight(cold, warm, quality, price),
    }
    for name, way in ways.items():
        curves[name] = [settle(way(float(price)), cold, warm, quality) for price in prices]
    single = [
        (cold[:, 0, m].sum() + warm[:, 1:, m].sum(), quality[:, :, m].mean()) for m in range(len(MODELS))
    ]
    low = max(min(point[1] for point in curve) for curve in curves.values())
    high = min(max(point[1] for point in curve) for curve in curves.values())
    rows: list[dict[str, object]] = []
    for share in (0.35, 0.55, 0.75, 0.9):
        target = low + share * (high - low)
        blind = float(np.interp(target, [q for _, q in single], [c for c, _ in single]))
        row: dict[str, object] = {"kind": kind, "quality": round(target, 3)}
        for name, curve in curves.items():
            points = hull(curve)
            cost = float(np.interp(target, [q for _, q in points], [c for c, _ in points]))
            moves = min(curve, key=lambda point: abs(point[1] - target))[2]
            row[name] = {"cost": round(cost / blind, 3), "moves": round(moves, 3)}
        rows.append(row)
    return rows


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--conversations", type=int, default=400)
    options.add_argument("--prices", type=int, default=24, help="points on each curve")
    options.add_argument("--json", action="store_true")
    given = options.parse_args()
    once = bool(os.environ.get("ECCOS_BENCH_ONCE"))
    count, points = (10, 4) if once else (given.conversations, given.prices)
    start = time.perf_counter()
    rows = [row for kind in MEDIANS for row in compare(kind, count, 20, np.geomspace(2e-4, 6, points))]
    if given.json:
        print(json.dumps({"conversations": count, "seconds": time.perf_counter() - start, "rows": rows}))
        return
    took = time.perf_counter() - start
    print(f"{count} conversations of 20 turns, {took:.0f} s; blind mix of sticky models 1.00")
    for row in rows:
        print(f"{row['kind']} at quality {row['quality']:.3f}")
        for name, got in row.items():
            if isinstance(got, dict):
                print(f"  {name:28} {got['cost']:.3f}   turns that move {got['moves']:.1%}")


if __name__ == "__main__":
    main()
