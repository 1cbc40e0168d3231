"""A pool, a population of queries with known odds, and an event loop whose time is made up."""

from __future__ import annotations

import asyncio
import heapq
from typing import TYPE_CHECKING, Any

import numpy as np

from eccos_rs.pools.pool import LLM, Pool
from eccos_rs.predict.protocol import Prediction
from eccos_rs.routing.router import Router

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from eccos_rs.domain.query import Query
    from eccos_rs.routing.policy import Policy

MODELS = ("small", "mid", "large")


def make_pool(**limits: dict[str, Any]) -> Pool:
    prices = {"small": (0.1, 0.4), "mid": (0.5, 2.0), "large": (2.5, 10.0)}
    return Pool([LLM(name, *prices[name], **limits.get(name, {})) for name in MODELS])


def population(n: int, seed: int = 0, tokens: float | None = None) -> Prediction:
    """Predict n queries: the large model is usually better, and how much better differs by query."""
    rng = np.random.default_rng(seed)
    difficulty = rng.normal(0, 1, (n, 1))
    logit = np.array([[-0.5, 0.5, 1.5]]) - difficulty + rng.normal(0, 0.5, (n, 3))
    length = rng.lognormal(5, 0.5, (n, 3)) if tokens is None else np.full((n, 3), tokens)
    vectors = rng.normal(0, 1, (n, 8)).astype(np.float32)
    return Prediction(
        models=MODELS,
        quality=(1 / (1 + np.exp(-logit))).astype(np.float32),
        output_tokens=length.astype(np.float32),
        quality_std=np.full((n, 3), 0.1, dtype=np.float32),
        log_tokens_std=np.full((n, 3), 0.5, dtype=np.float32),
        input_tokens=rng.integers(50, 200, n) if tokens is None else np.zeros(n, dtype=np.int64),
        embedding=vectors / np.linalg.norm(vectors, axis=1, keepdims=True),
    )


def rows_of(prediction: Prediction) -> list[Prediction]:
    return [prediction.rows(slice(at, at + 1)) for at in range(len(prediction))]


class ByNumber:
    """Predicts the query whose text is the number of a row of a population."""

    models = MODELS

    def __init__(self, known: Prediction) -> None:
        self.known = known
        self.batches: list[int] = []

    def predict(self, queries: Sequence[Query]) -> Prediction:
        self.batches.append(len(queries))
        return self.known.rows(np.array([int(query.prompt) for query in queries]))


def make_router(pool: Pool | None = None, policy: Policy | None = None, seed: int = 0) -> Router:
    return Router(make_pool() if pool is None else pool, ByNumber(population(512, seed)), policy)


class MadeUpTime(asyncio.SelectorEventLoop):
    """A loop on which nobody ever waits: when nothing is ready, time jumps to the next timer."""

    def __init__(self) -> None:
        super().__init__()
        self._made_up = 1000.0

    def time(self) -> float:
        return self._made_up

    def _run_once(self) -> None:
        scheduled, ready = self._scheduled, self._ready  # type: ignore[attr-defined]
        while scheduled and scheduled[0]._cancelled:
            heapq.heappop(scheduled)._scheduled = False
        if not ready and scheduled:
            self._made_up = max(self._made_up, scheduled[0]._when)
        super()._run_once()  # type: ignore[misc]

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """Wait for the threads: since Python 3.12 for so long at most, which here would be no time at all."""
        await super().shutdown_default_executor()


def in_made_up_time(work: Coroutine[Any, Any, Any]) -> Any:
    with asyncio.Runner(loop_factory=MadeUpTime) as runner:
        return runner.run(work)
