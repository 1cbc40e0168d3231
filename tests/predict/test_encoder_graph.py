"""The graphs against a readable twin in numpy, and each precision against the reference."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from scipy.special import erf, softmax

from eccos_rs.errors import InputError
from eccos_rs.predict.device import int8_saturates
from eccos_rs.predict.features import summarise_tokens
from tests.helpers import tiny

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("onnx")

OUTPUTS = ("embedding", "success_logit", "length_mean", "length_std")


def norm(x: Any, gain: Any, bias: Any) -> Any:
    x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-12) * gain + bias


def gelu(x: Any) -> Any:
    return 0.5 * x * (1 + erf(x / np.sqrt(2)))


def twin(weights: Any, ids: Any) -> list[Any]:
    """What the graph computes for one query, in float64."""
    x = weights.word[ids].astype(np.float64) + weights.position[: len(ids)]
    x = norm(x, weights.norm, weights.norm_bias)
    low = None
    for number, layer in enumerate(weights.layers, start=1):
        packed = x @ layer.qkv + layer.qkv_bias
        parts = (part.reshape(len(ids), weights.heads, -1) for part in np.split(packed, 3, axis=1))
        q, k, v = (part.transpose(1, 0, 2) for part in parts)
        share = softmax(q @ k.transpose(0, 2, 1) / np.sqrt(q.shape[-1]), axis=-1)
        seen = (share @ v).transpose(1, 0, 2).reshape(len(ids), -1)
        x = norm(x + seen @ layer.output + layer.output_bias, layer.norm_attention, layer.norm_attention_bias)
        inner = gelu(x @ layer.up + layer.up_bias) @ layer.down + layer.down_bias
        x = norm(x + inner, layer.norm_output, layer.norm_output_bias)
        if number == weights.low_layer:
            low = x.mean(0)
    embedding = x.mean(0) / np.linalg.norm(x.mean(0))
    features = summarise_tokens([ids], weights.token_kinds)[0]
    inputs = (np.concatenate([low, embedding, features]) - weights.mean) / weights.std
    h = np.clip(inputs, -weights.clamp, weights.clamp)
    if weights.hidden is not None:
        h = gelu(h @ weights.hidden + weights.hidden_bias)
    logit, mean, variance = np.split(h @ weights.out + weights.out_bias, 3)
    return [embedding, logit, mean, np.exp(variance / 2)]


def session(folder: Path, weights: Any, precision: str, *, exact: bool = False) -> Any:
    from eccos_rs.predict.encoder import cpu_session
    from eccos_rs.train.emit import build_graph
    from eccos_rs.train.weights import WeightFile

    store = WeightFile("w.bin")
    path = folder / f"{precision}.onnx"
    path.write_bytes(build_graph(weights, precision, store, exact=exact).SerializeToString())
    (folder / store.name).write_bytes(store.tobytes())
    return cpu_session(path, 1)


def run(session: Any, ids: Any, mask: Any = None) -> list[Any]:
    ids = np.atleast_2d(ids)
    return list(
        session.run(
            OUTPUTS, {"input_ids": ids, "attention_mask": np.ones_like(ids) if mask is None else mask}
        )
    )


def sample_ids(length: int, seed: int = 0) -> Any:
    inner = np.random.default_rng(seed).integers(4, len(tiny.VOCABULARY), length)
    return np.concatenate([[2], inner, [3]])


@pytest.mark.parametrize("hidden", [True, False])
@pytest.mark.parametrize("length", [0, 1, 7, 40])
def test_the_exact_graph_is_the_twin(tmp_path: Path, length: int, hidden: bool) -> None:
    weights = tiny.weights(hidden=hidden)
    ids = sample_ids(length)
    got = run(session(tmp_path, weights, "float32", exact=True), ids)
    for one, wanted in zip(got, twin(weights, ids), strict=True):
        np.testing.assert_allclose(one[0], wanted, atol=2e-5)


@pytest.mark.parametrize(
    ("precision", "tolerance"), [("float32", 0.02), ("float16", 0.03), ("int8", 0.12), ("uint8", 0.12)]
)
def test_every_precision_is_near_the_reference(tmp_path: Path, precision: str, tolerance: float) -> None:
    weights = tiny.weights()
    opened = session(tmp_path, weights, precision)
    for length in (1, 7, 40):
        ids = sample_ids(length, seed=length)
        got, wanted = run(opened, ids), twin(weights, ids)
        assert got[0][0] @ wanted[0] > 1 - tolerance / 4
        np.testing.assert_allclose(got[1][0], wanted[1], atol=tolerance)
        np.testing.assert_allclose(got[2][0], wanted[2], atol=tolerance)


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_padding_changes_nothing(tmp_path: Path, precision: str) -> None:
    opened = session(tmp_path, tiny.weights(), precision)
    lengths = (5, 12, 30)
    rows = [sample_ids(length, seed=length) for length in lengths]
    padded = np.zeros((3, 32), dtype=np.int64)
    mask = np.zeros_like(padded)
    for row, ids in enumerate(rows):
        padded[row, : len(ids)], mask[row, : len(ids)] = ids, 1
    together = run(opened, padded, mask)
    for row, ids in enumerate(rows):
        for whole, alone in zip(together, run(opened, ids), strict=True):
            np.testing.assert_allclose(whole[row], alone[0], atol=2e-3 if precision == "float16" else 1e-5)


def test_weights_are_stored_once(tmp_path: Path) -> None:
    from eccos_rs.train.emit import build_graph
    from eccos_rs.train.weights import WeightFile

    weights = tiny.weights()
    sizes = {}
    both = ("float32", "float16")
    for kinds in (("int8",), ("int8", "uint8"), ("float32",), both, ("int8", *both)):
        store = WeightFile()
        for kind in kinds:
            build_graph(weights, kind, store)
        sizes[kinds] = len(store.tobytes())
    # int8 is the coarse half of what float32 reads, so all three together are little more than float32 alone.
    assert sizes["int8", "float32", "float16"] < 1.3 * sizes["float32",]
    # The unsigned form reads the same bytes.
    assert sizes["int8", "uint8"] < 1.05 * sizes["int8",]


def test_the_unsigned_form_never_saturates(tmp_path: Path) -> None:
    """Weights and activations at their extremes: two products of u8 and s8 are beyond 16 bits."""
    weights = tiny.weights()
    extreme = np.where(weights.layers[0].up > 0, np.float32(0.5), np.float32(-0.5))
    layers = tuple(replace(layer, up=extreme, qkv=np.sign(layer.qkv) * 0.5) for layer in weights.layers)
    weights = replace(weights, layers=layers)
    ids = sample_ids(20)
    wanted = twin(weights, ids)
    errors = {
        kind: max(float(np.abs(one[0] - other).max()) for one, other in zip(got, wanted, strict=True))
        for kind in ("int8", "uint8")
        for got in [run(session(tmp_path, weights, kind), ids)]
    }
    assert errors["uint8"] < 0.15
    if int8_saturates():
        assert errors["int8"] > 2 * errors["uint8"]
    else:
        assert errors["int8"] == pytest.approx(errors["uint8"], abs=1e-4)


def test_the_float32_graph_is_standard(tmp_path: Path) -> None:
    import onnx

    session(tmp_path, tiny.weights(), "float32")
    onnx.checker.check_model(str(tmp_path / "float32.onnx"), full_check=True)
    model = onnx.load(str(tmp_path / "float32.onnx"))
    assert {node.domain for node in model.graph.node} == {""}


def test_inputs_that_do_not_fit_are_refused() -> None:
    good = tiny.weights()
    with pytest.raises(InputError, match="inputs: got"):
        replace(good, inputs=("low", "letters"))
    with pytest.raises(InputError, match="token_kinds"):
        replace(good, token_kinds=None)
    with pytest.raises(InputError, match="low_layer"):
        replace(good, low_layer=9)
    with pytest.raises(InputError, match="mean, std"):
        replace(good, mean=good.mean[:-1])
