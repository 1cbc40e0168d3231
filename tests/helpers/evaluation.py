"""A small world with known odds, for tests of the evaluation."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from eccos_rs.evaluate import Batch, Evidence, HeldOutSet, Predictions, Setting, Study, study
from eccos_rs.evaluate.bundles import PLAIN
from eccos_rs.records import RecordTable

MODELS = ("small", "middle", "large", "other")
PRICES = np.array([[0.1, 0.3], [0.5, 1.5], [5.0, 15.0], [0.2, 0.6]])
SKILL = np.array([-0.2, 0.5, 1.6, 0.1])


def world(rows: int, seed: int) -> tuple[RecordTable, np.ndarray, np.ndarray]:
    """Return records with their true odds and true expected output tokens."""
    rng = np.random.default_rng(seed)
    hard = rng.normal(size=(rows, 1))
    odds = 1 / (1 + np.exp(-(SKILL - hard + 0.7 * rng.normal(size=(rows, len(MODELS))))))
    lengths = np.exp(4.5 + 0.3 * hard + 0.1 * rng.normal(size=(rows, len(MODELS))))
    tokens = np.rint(lengths * np.exp(0.3 * rng.normal(size=lengths.shape)))
    prompt = rng.integers(20, 200, rows)
    cost = (prompt[:, None] * PRICES[:, 0] + tokens * PRICES[:, 1]) / 1e6
    right = (rng.random(odds.shape) < odds).astype(np.float32)
    texts = [f"question {seed} {row} {' '.join(map(str, rng.integers(0, 10**6, 8)))}" for row in range(rows)]
    table = RecordTable(
        texts, ["d"] * rows, [None] * rows, MODELS,
        right, tokens.astype(np.float32), prompt.astype(np.int64), cost,
    )  # fmt: skip
    return table, odds, lengths


def evidence(rows: int = 600, seed: int = 0) -> Evidence:
    """Return evidence with true odds as the good forecast and 16 coin flips as the plain one."""
    table, odds, lengths = world(rows, seed)
    rng = np.random.default_rng(seed + 1)
    cost = (table.input_tokens[:, None] * PRICES[:, 0] + lengths * PRICES[:, 1]) / 1e6
    few = rng.binomial(16, odds) / 16
    by_predictor = {
        PLAIN: Predictions(PLAIN, few.astype(np.float32), cost),
        "hybrid": Predictions("hybrid", odds.astype(np.float32), cost, np.log1p(lengths), 0.001),
    }
    return Evidence(
        test_set=HeldOutSet(table, -odds.mean(axis=1), PRICES),
        fits=(world(300, seed + 7)[0],),
        predictions=by_predictor,
        best="hybrid",
        plain=PLAIN,
        about={
            "data": "a small world", "judged": rows, "fit": 300, "models": list(MODELS),
            "split": "Drawn apart.", "version": "0", "predictor": "the truth",
        },
    )  # fmt: skip


@lru_cache(maxsize=1)
def small_study() -> Study:
    """Return a study of a few settings, with a router of one's own beside the baselines."""
    settings = [Setting(size=200), Setting("strong/10", size=200)]
    return study(evidence(200), settings=settings, resamples=30, batches=3, extra=[ByLength()])


class ByLength:
    """Sends the longest prompts to the strongest model, whatever it may take; written as a user would."""

    name = "by length"

    def fit(self, table: RecordTable) -> None:
        """Find the strongest and the cheapest model."""
        self.strong = int(np.nanmean(table.quality, axis=0).argmax())
        self.weak = int(np.nanmean(table.cost, axis=0).argmin())

    def choose(self, batch: Batch, operating_point: float) -> np.ndarray:
        """Choose for a share of the batch."""
        lengths = np.array([len(text) for text in batch.texts])
        chosen = np.full(len(batch), self.weak)
        chosen[np.argsort(-lengths)[: round(operating_point * len(batch))]] = self.strong
        return chosen
