"""A `Prediction` keeps what is told of a model apart from what is told of a query."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from eccos_rs.errors import InputError
from eccos_rs.predict.protocol import Prediction


def made(level_std: list[float] | None = None, rows: int = 3) -> Prediction:
    wide = np.full((rows, 2), 0.5, dtype=np.float32)
    return Prediction(
        models=("a", "b"),
        quality=wide,
        output_tokens=wide,
        quality_std=wide,
        log_tokens_std=wide,
        input_tokens=np.ones(rows, dtype=np.int64),
        level_std=None if level_std is None else np.array(level_std, dtype=np.float32),
    )


def test_levels_follow_the_models_and_not_the_rows() -> None:
    known = made([0.1, 0.4])
    assert known.select(["b"]).level_std == pytest.approx([0.4])
    assert known.rows(slice(0, 1)).level_std == pytest.approx([0.1, 0.4])
    both = Prediction.concatenate([known, made([0.1, 0.4], rows=2)])
    assert len(both) == 5
    assert both.level_std == pytest.approx([0.1, 0.4])


def test_levels_may_be_unknown() -> None:
    known = made()
    assert known.select(["b"]).level_std is None
    assert Prediction.concatenate([known, known]).level_std is None


def test_levels_of_another_count_are_refused() -> None:
    with pytest.raises(InputError, match=r"level_std: got shape \(3,\), wanted \(2,\), one per model"):
        made([0.1, 0.2, 0.3])


def test_a_model_that_counts_prompts_otherwise_is_priced_by_its_own_count() -> None:
    from eccos_rs import LLM, Pool
    from eccos_rs.routing.problem import query_costs

    own = replace(made(), input_factor=np.array([1.0, 1.5], dtype=np.float32))
    pool = Pool(LLM(name, 1.0, 0.0) for name in own.models)
    assert query_costs(pool, own) == pytest.approx(own.input_tokens[:, None] * np.array([[1.0, 1.5]]) / 1e6)
    assert own.select(["b"]).input_factor == pytest.approx([1.5])
    assert own.rows(np.array([0])).input_factor == pytest.approx([1.0, 1.5])
    assert Prediction.concatenate([own, own]).input_factor == pytest.approx([1.0, 1.5])
    with pytest.raises(InputError, match="input_factor: got shape"):
        replace(own, input_factor=np.ones(3, dtype=np.float32))
