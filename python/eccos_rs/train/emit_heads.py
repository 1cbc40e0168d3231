"""What follows the encoder in every graph, always in float32: pooling, text features, heads, embedding."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np
from onnx import TensorProto, helper

from eccos_rs.train.kernel import KERNEL_MARGIN

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from eccos_rs.train.graph_writer import Writer
    from eccos_rs.train.kernel import KernelHead
    from eccos_rs.train.weights import PredictorWeights

__all__ = ["Layers", "emit_heads", "pool", "standard_gelu", "token_share"]


class Layers(Protocol):
    """The emitter of one precision, as far as the heads need it."""

    writer: Writer

    def stored(self, array: NDArray[np.float32]) -> str:
        """Add a float32 matrix."""
        ...

    def wide(self, x: str, weight: NDArray[np.float32], bias: NDArray[np.float32]) -> str:
        """Add x weight + bias for a matrix so large that reading it is what takes the time."""
        ...


def standard_gelu(writer: Writer, x: str) -> str:
    """Add x/2 (1 + erf(x / sqrt 2)) in operators that opset 17 has."""
    scaled = writer.op("Mul", [x, writer.number(0.5**0.5)])
    raised = writer.op("Add", [writer.op("Erf", [scaled]), writer.number(1)])
    half = writer.op("Mul", [x, writer.number(0.5)])
    return str(writer.op("Mul", [half, raised]))


def token_share(writer: Writer) -> str:
    """Return the share of each token in the mean, (B, 1, T): 1 / length, 0 for padding."""
    mask = writer.op("Cast", ["attention_mask"], to=TensorProto.FLOAT)
    length = writer.op("ReduceSum", [mask, writer.ints(1)], keepdims=1)
    return str(writer.op("Unsqueeze", [writer.op("Div", [mask, length]), writer.ints(1)]))


def pool(writer: Writer, share: str, states: str) -> str:
    """Average over tokens: (B, T, D) -> (B, D)."""
    return str(writer.op("Squeeze", [writer.op("MatMul", [share, states]), writer.ints(1)]))


def _unit(writer: Writer, x: str) -> str:
    """Bring to unit norm; not by LpNormalization, which not every release has a GPU kernel for."""
    return str(writer.op("Div", [x, writer.norm(x)]))


def emit_heads(layers: Layers, weights: PredictorWeights, pooled: dict[str, str]) -> None:
    """Add the embedding, the inputs of the heads and the heads, always in float32."""
    writer = layers.writer
    pooled["embedding"] = _unit(writer, pooled["last"])
    if "features" in weights.inputs:
        pooled["features"] = _features(writer, weights)
    x = writer.op("Concat", [pooled[name] for name in weights.inputs], axis=-1)
    x = writer.op("Sub", [x, writer.tensor(weights.mean)])
    x = writer.op("Div", [x, writer.tensor(weights.std)])
    x = writer.op("Clip", [x, *(writer.number(each) for each in (-weights.clamp, weights.clamp))])
    searched = pooled["embedding"]
    if weights.projection is not None:
        searched = _unit(writer, writer.op("MatMul", [x, layers.stored(weights.projection)]))
    inputs = x
    if weights.hidden is not None and weights.hidden_bias is not None:
        x = standard_gelu(writer, layers.wide(x, weights.hidden, weights.hidden_bias))
    x = writer.op("MatMul", [x, layers.stored(weights.out)])
    x = writer.op("Add", [x, writer.tensor(weights.out_bias)])
    logit, mean, variance = writer.split(x, 3)
    if weights.kernel is not None:
        logit, mean = _kernel_mean(layers, weights.kernel, inputs, (logit, mean))
    if weights.length_shift is not None:
        mean = writer.op("Add", [mean, writer.tensor(weights.length_shift)])
    std = writer.op("Exp", [writer.op("Mul", [variance, writer.number(0.5)])])
    results = (searched, logit, mean, std)
    for name, result in zip(
        ("embedding", "success_logit", "length_mean", "length_std"), results, strict=True
    ):
        writer.nodes.append(helper.make_node("Identity", [result], [name], name=name))


def _kernel_mean(layers: Layers, kernel: KernelHead, inputs: str, heads: tuple[str, str]) -> tuple[str, str]:
    """Add the kernel regression and return its mean with the network: log odds and mean log length."""
    writer = layers.writer
    compared = _unit(writer, writer.op("MatMul", [inputs, layers.stored(kernel.projection)]))
    centres = np.ascontiguousarray(kernel.centres.T)
    away = layers.wide(compared, centres, np.full(centres.shape[1], -1, dtype=np.float32))
    near = writer.op("Exp", [writer.op("Mul", [away, writer.number(1 / kernel.reach)])])
    said = writer.op(
        "Add", [writer.op("MatMul", [near, layers.stored(kernel.dual)]), writer.tensor(kernel.bias)]
    )
    success, length = writer.split(said, 2)
    success = writer.op("Clip", [success, *(writer.number(p) for p in (KERNEL_MARGIN, 1 - KERNEL_MARGIN))])
    odds = writer.op("Div", [success, writer.op("Sub", [writer.number(1), success])])
    both = zip((writer.op("Log", [odds]), length), heads, strict=True)
    mixed = [
        writer.op(
            "Add",
            [
                writer.op("Mul", [mine, writer.number(kernel.share)]),
                writer.op("Mul", [theirs, writer.number(1 - kernel.share)]),
            ],
        )
        for mine, theirs in both
    ]
    return str(mixed[0]), str(mixed[1])


def _features(writer: Writer, weights: PredictorWeights) -> str:
    """Add the text features: ln(length), ln(1 + count) and count / length of each kind of word piece."""
    assert weights.token_kinds is not None  # named in weights.inputs, checked there
    kinds = writer.op("Gather", [writer.tensor(weights.token_kinds.astype(np.uint8)), "input_ids"])
    kinds = writer.op("Cast", [kinds], to=TensorProto.FLOAT)
    mask = writer.op("Cast", ["attention_mask"], to=TensorProto.FLOAT)
    length = writer.op("ReduceSum", [mask, writer.ints(1)], keepdims=1)
    counts = pool(writer, writer.op("Unsqueeze", [mask, writer.ints(1)]), kinds)
    logs = writer.op("Log", [writer.op("Add", [counts, writer.number(1)])])
    parts = [writer.op("Log", [length]), logs, writer.op("Div", [counts, length])]
    return str(writer.op("Concat", parts, axis=-1))
