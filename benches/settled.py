"""The forecast cost of a turn against its settled cost: conversations through gateway and replay server.

Both run here over HTTP, the replay server with prompt caches on the pool's terms. A conversation begins with
a system text of about 1,500 (chat) or 12,000 tokens (agent), its questions and the lengths of its answers are
those of the data. `means` forecasts every length by the model's mean over the half of the rows that is not
replayed; `bundle` is the shipped one, which was trained on these texts. "Without caches" is the same turn at
the price of fresh input: what is forecast where caches are not counted.

    python -m benches.settled ../shared/data/qaserve_public.parquet --conversations 40
"""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
from tests.helpers.paths import ROOT
from tests.helpers.serving import running

from eccos_rs import Policy, Pool, Prediction, Router
from eccos_rs.dialects.usage import answer_cost, read_usage
from eccos_rs.domain.attachments import text_tokens
from eccos_rs.domain.pricing import model_cost
from eccos_rs.pools.pool import Endpoint
from eccos_rs.records.table import RecordTable
from eccos_rs.serve.app import GatewaySettings, build_app
from eccos_rs.serve.replay import ReplaySettings, build_replay_app

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eccos_rs.domain.query import Query

TURNS = 10
START = {"chat": 1_500, "agent": 12_000}


class Means:
    """Every length and every success by the model's mean."""

    def __init__(self, table: RecordTable) -> None:
        self.models = table.models
        self._quality = np.nanmean(table.quality, 0).astype(np.float32)
        self._tokens = np.nanmean(table.output_tokens, 0).astype(np.float32)

    def predict(self, queries: Sequence[Query]) -> Prediction:
        """Forecast the means."""
        ones = np.ones((len(queries), 1), np.float32)
        counted = [text_tokens(query.prompt) + query.attached_tokens for query in queries]
        return Prediction(
            self.models, quality=ones * self._quality, output_tokens=ones * self._tokens,
            quality_std=0.05 * ones + 0 * self._quality, log_tokens_std=ones + 0 * self._tokens,
            input_tokens=np.array(counted, np.int64), embedding=None, similarity=None, seconds={},
        )  # fmt: skip


def words(table: RecordTable, tokens: int, rng: np.random.Generator) -> str:
    """Return text of about so many tokens."""
    found: list[str] = []
    while sum(map(text_tokens, found)) < tokens:
        found.append(table.query[int(rng.integers(len(table.query)))])
    return "\n".join(found)[: 4 * tokens]


def play(
    front: str, table: RecordTable, rows: Sequence[int], start: int, rng: np.random.Generator
) -> list[Any]:
    """Play one conversation; return model, forecast, usage of every turn."""
    messages = [{"role": "system", "content": words(table, start, rng)}]
    turns = []
    for row in rows:
        messages.append({"role": "user", "content": table.query[row]})
        got = httpx.post(
            f"{front}/v1/chat/completions", json={"model": "eccos", "messages": messages}, timeout=60
        )
        got.raise_for_status()
        usage = read_usage(got.json())
        assert usage is not None
        turns.append((got.headers["x-eccos-model"], float(got.headers["x-eccos-cost"]), usage))
        messages.append({"role": "assistant", "content": words(table, usage.output_tokens or 1, rng)})
    return turns


def compare(table: RecordTable, router: Router, kind: str, count: int) -> str:
    rng = np.random.default_rng(0)
    rows = rng.permutation(len(table.query))
    off, uncached, shares = [], [], []
    caches = {model.name: model for model in router.pool if model.cached_input_price is not None}
    settings = ReplaySettings(tokens_per_second=float("inf"), ttft=0.0, caches=caches)
    with running(build_replay_app(table, settings)) as engine:
        endpoint = Endpoint(f"{engine}/v1")
        pool = router.pool
        for model in router.pool:
            pool = pool.replace(model.name, endpoint=endpoint)
        with running(build_app(Router(pool, router.predictor, router.policy), GatewaySettings())) as front:
            for at in range(count):
                chosen = rows[np.arange(at * TURNS, (at + 1) * TURNS) % len(rows)].tolist()
                for name, forecast, usage in play(front, table, chosen, START[kind], rng):
                    settled = answer_cost(pool[name], usage)
                    assert settled
                    off.append(abs(forecast - settled) / settled)
                    fresh = model_cost(pool[name], usage.input_tokens or 0, usage.output_tokens or 0)
                    uncached.append(abs(fresh - settled) / settled)
                    shares.append(usage.cached_tokens / (usage.input_tokens or 1))
    low, high = np.quantile(off, [0.25, 0.75])
    return (
        f"{kind:6} {len(off):5} turns  median error {np.median(off):6.1%} (quartiles {low:.1%} to {high:.1%})"
        f"  cached input {np.mean(shares):.0%}  caches not counted {np.median(uncached):.0%}"
    )


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("data", help="records, as `eccos import` writes them")
    options.add_argument("--conversations", type=int, default=40, help="of each kind")
    options.add_argument("--min-quality", type=float, default=0.7, help="what is promised")
    given = options.parse_args()
    count = 2 if os.environ.get("ECCOS_BENCH_ONCE") else given.conversations
    table = RecordTable.read(given.data)
    halves = np.random.default_rng(1).permutation(len(table.query)) < len(table.query) // 2
    pool, policy = Pool.load(ROOT / "models" / "qaserve-pool.toml"), Policy(min_quality=given.min_quality)
    replayed = table.select(np.flatnonzero(~halves))
    routers = {
        "means": Router(pool, Means(table.select(np.flatnonzero(halves))), policy),
        "bundle": Router.load("qaserve-minilm", pool=pool, policy=policy),
    }
    for name, router in routers.items():
        for kind in START:
            print(f"{name:7}{compare(replayed, router, kind, count)}", flush=True)


if __name__ == "__main__":
    main()
