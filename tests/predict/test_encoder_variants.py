"""The check that each variant must pass, on cases whose answer is known."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from eccos_rs.predict.device import int8_saturates
from eccos_rs.predict.encoder import CpuEncoder
from eccos_rs.predict.graph import Encoded, Layout
from tests.helpers import tiny

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("onnx")

PRICES = np.array([0.4, 1.6, 6.4])
# The form of the 8-bit graph that this processor computes without loss.
INT8_FILE = "predictor.uint8.onnx" if int8_saturates() else "predictor.int8.onnx"


def encoded(rows: int, logits: Any, seed: int = 0) -> Encoded:
    rng = np.random.default_rng(seed)
    embedding = rng.normal(size=(rows, 8)).astype(np.float32)
    embedding /= np.linalg.norm(embedding, axis=1, keepdims=True)
    length = np.full_like(logits, 5.0)
    return Encoded(embedding, logits.astype(np.float32), length, np.full_like(logits, 0.5))


def check(reference: Encoded, variant: Encoded, success: Any) -> Any:
    from eccos_rs.train.optimize import Limits, compare, heads_forecast

    return compare(reference, variant, success, PRICES, forecast=heads_forecast, limits=Limits())


@pytest.fixture(scope="module")
def case() -> tuple[Encoded, Any]:
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(400, 3)).astype(np.float32)
    success = (rng.random((400, 3)) < 1 / (1 + np.exp(-logits))).astype(np.float32)
    success[::7, 1] = np.nan
    return encoded(400, logits), success


def test_the_same_graph_passes(case: Any) -> None:
    reference, success = case
    made = check(reference, reference, success)
    assert made.passed
    assert made.auc_difference == 0
    assert made.changed_decisions == 0
    assert made.embedding_cosine == pytest.approx(1)


def test_auc_is_scikit_learns(case: Any) -> None:
    from sklearn.metrics import roc_auc_score

    from eccos_rs.train.optimize import mean_auc

    reference, success = case
    wanted = []
    for column in range(3):
        seen = np.isfinite(success[:, column])
        wanted.append(roc_auc_score(success[seen, column], reference.success_logit[seen, column]))
    assert mean_auc(reference.success_logit, success) == pytest.approx(np.mean(wanted))


def test_a_shift_fails_on_success_though_the_auc_stays(case: Any) -> None:
    reference, success = case
    made = check(reference, replace(reference, success_logit=reference.success_logit + 0.3), success)
    assert not made.passed
    assert abs(made.auc_difference) < 1e-9
    assert made.success_difference > 0.015


def test_noise_fails_and_changes_decisions(case: Any) -> None:
    reference, success = case
    noise = np.random.default_rng(2).normal(size=(400, 3)).astype(np.float32)
    made = check(reference, replace(reference, success_logit=reference.success_logit + noise), success)
    assert not made.passed
    assert made.changed_decisions > 0.1


def test_graphs_that_pass_ship_and_the_rest_do_not(tmp_path: Path) -> None:
    from eccos_rs.train.emit import build_graph
    from eccos_rs.train.optimize import Limits, make_graphs
    from eccos_rs.train.weights import WeightFile

    weights = tiny.weights()
    rng = np.random.default_rng(0)
    ids = [rng.integers(4, 60, int(size)) for size in rng.integers(2, 40, 60)]
    success = (rng.random((60, 3)) < 0.5).astype(np.float32)
    seen: list[int] = []
    loose = make_graphs(weights, ids, success, PRICES, limits=Limits(1.0, 1.0), on_rows=seen.append)
    assert sum(seen) == 4 * 60
    assert set(loose.files) == {
        "predictor.onnx",
        "predictor.int8.onnx",
        "predictor.uint8.onnx",
        "predictor.float16.onnx",
        "weights.bin",
        "neighbours.onnx",
    }
    table = loose.encoder_table()
    assert table["file"] == "predictor.onnx"
    assert table["variants"]["int8"]["file"] == "predictor.int8.onnx"
    assert table["variants"]["int8"]["unsigned"] == "predictor.uint8.onnx"
    assert table["variants"]["int8"]["rows"] == 60
    assert set(table["variants"]) == {"int8", "float16"}

    # Whatever the precision, the expected tokens of a model add up to what the reference expects.
    store = WeightFile("exact.bin")
    files = {"exact.onnx": build_graph(weights, "float32", store, exact=True).SerializeToString()}
    for name, content in {**loose.files, **files, store.name: store.tobytes()}.items():
        (tmp_path / name).write_bytes(content)
    totals = {
        name: np.exp(made.length_mean + made.length_std**2 / 2).sum(axis=0)
        for name in ("exact.onnx", "predictor.onnx", INT8_FILE)
        for made in [CpuEncoder(tmp_path / name, name, Layout.of_heads(tiny.WIDTH, 3), threads=1).run(ids)]
    }
    for name, total in totals.items():
        np.testing.assert_allclose(total, totals["exact.onnx"], rtol=2e-3, err_msg=name)

    strict = make_graphs(weights, ids, success, PRICES, limits=Limits(0.0, 0.0))
    assert set(strict.files) == {"predictor.onnx", "weights.bin", "neighbours.onnx"}
    assert strict.encoder_table()["variants"] == {}
    assert not strict.checks["int8"].passed
