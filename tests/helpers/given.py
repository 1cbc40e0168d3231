"""A predictor that answers from arrays given in advance: the public protocol at its smallest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from eccos_rs import LLM, Pool, Prediction, Router

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eccos_rs import Policy, Query


class GivenPredictor:
    """Looks each query's text up in a table; other texts get the row of the one named ``""``."""

    def __init__(
        self,
        models: Sequence[str],
        rows: dict[str, tuple[Sequence[float], Sequence[float]]],
        input_tokens: dict[str, int] | None = None,
    ) -> None:
        self.models = tuple(models)
        self.rows = rows
        self.input_tokens = input_tokens or {}
        self.calls: list[int] = []

    def predict(self, queries: Sequence[Query]) -> Prediction:
        self.calls.append(len(queries))
        found = [self.rows.get(query.prompt) or self.rows[""] for query in queries]
        shape = len(queries), len(self.models)
        return Prediction(
            models=self.models,
            quality=np.array([row[0] for row in found], dtype=np.float32).reshape(shape),
            output_tokens=np.array([row[1] for row in found], dtype=np.float32).reshape(shape),
            quality_std=np.full(shape, 0.05, dtype=np.float32),
            log_tokens_std=np.full(shape, 0.5, dtype=np.float32),
            input_tokens=np.array(
                [self.input_tokens.get(query.prompt, 100) for query in queries], dtype=np.int64
            ),
            embedding=np.zeros((len(queries), 4), dtype=np.float32),
            seconds={"predict": 0.0},
        )


class DrawnPredictor:
    """Draws for each query from its text alone, so that the same text always gets the same row."""

    def __init__(self, models: Sequence[str], strength: Sequence[float]) -> None:
        self.models = tuple(models)
        self.strength = np.asarray(strength)

    def predict(self, queries: Sequence[Query]) -> Prediction:
        shape = len(queries), len(self.models)
        quality, tokens = np.empty(shape, np.float32), np.empty(shape, np.float32)
        for row, query in enumerate(queries):
            random = np.random.default_rng(list(query.prompt.encode("utf-8")) or [0])
            hardness = random.normal(0, 1)
            deviation = random.normal(0, 0.6, len(self.models))
            quality[row] = 1 / (1 + np.exp(-(self.strength - hardness + deviation)))
            tokens[row] = np.exp(random.normal(5, 0.5)) * (1 + 0.2 * random.random(len(self.models)))
        return Prediction(
            models=self.models,
            quality=quality,
            output_tokens=tokens,
            quality_std=np.full(shape, 0.05, np.float32),
            log_tokens_std=np.full(shape, 0.5, np.float32),
            input_tokens=np.array([1 + len(query.prompt) // 4 for query in queries], dtype=np.int64),
            seconds={"predict": 0.0},
        )


TRIO = Pool(
    [
        LLM("small", 0.1, 0.4, context_window=8_000),
        LLM("middle", 0.5, 1.5, context_window=32_000, tools=True),
        LLM("large", 2.5, 10.0, context_window=128_000, tools=True, vision=True),
    ]
)


def trio(policy: Policy | None = None, pool: Pool = TRIO) -> Router:
    """A router over three models whose strength rises with their price."""
    return Router(pool, DrawnPredictor(TRIO.names, [-0.2, 0.6, 1.5]), policy)


def texts(count: int) -> list[str]:
    return [f"Question number {number}" for number in range(count)]
