"""The shipped graphs, written operator by operator: what an exporter emits is not what runs fastest.

Three graphs compute the same function from the same weights:

- ``float32``: standard operators alone, so that any ONNX runtime and TensorRT take it; padding allowed.
- ``int8``: for CPUs. Matrix products on dynamically quantised activations with a scale for each output
  channel, and attention without a mask: a query runs alone and unpadded.
- ``uint8``: the same with 128 added to the weights. It gives the same numbers on x86 processors without VNNI,
  where a sum of products of unsigned and signed bytes saturates.
- ``float16``: for GPUs. Fused attention, residual and normalisation; padding on the right allowed.

All weights lie in one file beside the graphs, each stored once. A matrix is kept as an int8 one with a scale
for each output channel, which is what the int8 graph multiplies by, plus an int8 remainder: together they are
good to 16 bits, and the runtime adds them up once, when it loads. Word embeddings are int8 with a scale for
each word. What is not named above is computed in float32.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import TensorProto, helper

from eccos_rs.train.emit_heads import emit_heads, pool, standard_gelu, token_share
from eccos_rs.train.graph_writer import IR, MICROSOFT, OPSET, Writer

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from eccos_rs.train.weights import LayerWeights, PredictorWeights, WeightFile

__all__ = ["PRECISIONS", "build_graph"]

PRECISIONS = ("float32", "int8", "uint8", "float16")
# BitwiseXor is new in it; the other graphs stay with what more runtimes read.
_OPSETS = {"uint8": 18}
# Added to the attention scores of padding: far below any score, yet finite in float16 too.
_MASKED = -1e4


def build_graph(weights: PredictorWeights, precision: str, store: WeightFile, *, exact: bool = False) -> Any:
    """Write one graph.

    Parameters
    ----------
    weights : PredictorWeights
        Encoder, features and heads.
    precision : {"float32", "int8", "uint8", "float16"}
        See the module.
    store : WeightFile
        Receives the large tensors; the graph refers to it by its file name.
    exact : bool
        Store float32 weights as they are: the reference that the others are checked against.

    Returns
    -------
    onnx.ModelProto
        Inputs ``input_ids`` and ``attention_mask``, int64 (B, T); outputs ``embedding`` (B, D) of unit norm,
        ``success_logit``, ``length_mean`` and ``length_std`` (B, M), all float32.
    """
    emit = {"float32": _Float32, "int8": _Int8, "uint8": _Unsigned, "float16": _Float16}[precision]
    layers = emit(Writer(store, _OPSETS.get(precision, OPSET)), weights, exact=exact)
    writer = layers.writer
    share = token_share(writer)
    states = layers.embed()
    pooled: dict[str, str] = {}
    for number, layer in enumerate(weights.layers, start=1):
        states = layers.layer(states, layer)
        if number == weights.low_layer:
            pooled["low"] = pool(writer, share, layers.as_float32(states))
    pooled["last"] = pool(writer, share, layers.as_float32(states))
    emit_heads(layers, weights, pooled)
    return _model(writer, weights, precision)


class _Emitter:
    """What the three precisions have in common."""

    def __init__(self, writer: Writer, weights: PredictorWeights, *, exact: bool) -> None:
        self.writer, self.weights, self.exact = writer, weights, exact

    def stored(self, array: NDArray[np.float32]) -> str:
        """Add a float32 matrix, stored small unless this is the reference."""
        return self.writer.tensor(array) if self.exact else self.writer.weight(array)

    def stored_qkv(self, array: NDArray[np.float32]) -> str:
        """Add query, key and value side by side, stored as the three matrices that the int8 graph has."""
        parts = np.split(array, 3, axis=1)
        return str(
            self.writer.op("Concat", [self.stored(np.ascontiguousarray(part)) for part in parts], axis=1)
        )

    def words(self) -> str:
        """Look the word embeddings up: (B, T, D) float32."""
        writer, table = self.writer, self.weights.word
        if self.exact:
            return str(writer.op("Gather", [writer.tensor(table), "input_ids"]))
        scale = np.abs(table).max(axis=1, keepdims=True) / np.float32(127)
        scale = np.maximum(scale, np.float32(1e-12))
        small = writer.op("Gather", [writer.tensor(np.rint(table / scale).astype(np.int8)), "input_ids"])
        scales = writer.op("Gather", [writer.tensor(scale.astype(np.float32)), "input_ids"])
        return str(writer.op("Mul", [writer.op("Cast", [small], to=TensorProto.FLOAT), scales]))

    def embed(self) -> str:
        """Return the input of the first layer, (B, T, D)."""
        writer, weights = self.writer, self.weights
        tokens = writer.op("Shape", ["input_ids"], start=1, end=2)
        position = writer.op("Slice", [self.stored(weights.position), writer.ints(0), tokens, writer.ints(0)])
        return self.norm(writer.op("Add", [self.words(), position]), weights.norm, weights.norm_bias)

    def wide(self, x: str, weight: NDArray[np.float32], bias: NDArray[np.float32]) -> str:
        """Add one of the large products of the heads; see `emit_heads.Layers`."""
        product = self.writer.op("MatMul", [x, self.stored(weight)])
        return str(self.writer.op("Add", [product, self.writer.tensor(bias)]))

    def norm(self, x: str, gain: NDArray[np.float32], bias: NDArray[np.float32]) -> str:
        inputs = [x, self.writer.tensor(gain), self.writer.tensor(bias)]
        epsilon = self.weights.epsilon
        return str(self.writer.op("LayerNormalization", inputs, axis=-1, epsilon=epsilon))

    def layer(self, x: str, layer: LayerWeights) -> str:
        """Add one BERT layer."""
        writer = self.writer
        seen = self.linear(self.attention(x, layer), layer.output, layer.output_bias)
        x = self.norm(writer.op("Add", [seen, x]), layer.norm_attention, layer.norm_attention_bias)
        inner = self.gelu(self.linear(x, layer.up, layer.up_bias))
        inner = self.linear(inner, layer.down, layer.down_bias)
        return self.norm(writer.op("Add", [inner, x]), layer.norm_output, layer.norm_output_bias)

    def attention(self, x: str, layer: LayerWeights) -> str:
        raise NotImplementedError

    def linear(self, x: str, weight: NDArray[np.float32], bias: NDArray[np.float32]) -> str:
        raise NotImplementedError

    def gelu(self, x: str) -> str:
        return str(self.writer.ms("Gelu", [x]))

    def as_float32(self, x: str) -> str:
        return x


class _Float32(_Emitter):
    """Standard operators of opset 17."""

    def linear(self, x: str, weight: NDArray[np.float32], bias: NDArray[np.float32]) -> str:
        return self._affine(x, self.stored(weight), bias)

    def _affine(self, x: str, weight: str, bias: NDArray[np.float32]) -> str:
        return str(self.writer.op("Add", [self.writer.op("MatMul", [x, weight]), self.writer.tensor(bias)]))

    def gelu(self, x: str) -> str:
        return standard_gelu(self.writer, x)

    def attention(self, x: str, layer: LayerWeights) -> str:
        writer, heads = self.writer, self.weights.heads
        width = layer.output.shape[0] // heads
        packed = self._affine(x, self.stored_qkv(layer.qkv), layer.qkv_bias)
        split = writer.split(packed, 3)
        shape = writer.ints(0, 0, heads, width)
        # Queries and values as (B, heads, T, width), keys transposed as (B, heads, width, T).
        turns = ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3])
        query, key, value = (
            writer.op("Transpose", [writer.op("Reshape", [part, shape])], perm=perm)
            for part, perm in zip(split, turns, strict=True)
        )
        query = writer.op("Mul", [query, writer.number(width**-0.5)])
        score = writer.op("Add", [writer.op("MatMul", [query, key]), self._padding()])
        seen = writer.op("MatMul", [writer.op("Softmax", [score], axis=-1), value])
        seen = writer.op("Transpose", [seen], perm=[0, 2, 1, 3])
        return str(writer.op("Reshape", [seen, writer.ints(0, 0, heads * width)]))

    def _padding(self) -> str:
        """Return what is added to the scores, (B, 1, 1, T): 0 for a token, very low for padding."""
        if not hasattr(self, "_added"):
            writer = self.writer
            mask = writer.op("Cast", ["attention_mask"], to=TensorProto.FLOAT)
            mask = writer.op("Unsqueeze", [mask, writer.ints(1, 2)])
            gone = writer.op("Sub", [writer.number(1), mask])
            self._added = str(writer.op("Mul", [gone, writer.number(_MASKED)]))
        return self._added


class _Int8(_Emitter):
    """8-bit products; one query at a time, so there is no padding to mask."""

    def quantized(self, weight: NDArray[np.float32]) -> tuple[str, str, str]:
        """Return the int8 weight, a scale for each output channel, and the zero points."""
        small, scale, _ = self.writer.quantized(weight)
        return small, scale, self.writer.tensor(np.zeros(weight.shape[1], dtype=np.int8))

    def linear(self, x: str, weight: NDArray[np.float32], bias: NDArray[np.float32]) -> str:
        small, scale, zero = self.quantized(weight)
        inputs = [x, small, scale, zero, self.writer.tensor(bias)]
        return str(self.writer.ms("DynamicQuantizeMatMul", inputs))

    def wide(self, x: str, weight: NDArray[np.float32], bias: NDArray[np.float32]) -> str:
        return self.linear(x, weight, bias)

    def attention(self, x: str, layer: LayerWeights) -> str:
        writer = self.writer
        small, scale, zero = writer.op("DynamicQuantizeLinear", [x], outputs=3)
        parts = []
        pairs = zip(np.split(layer.qkv, 3, axis=1), np.split(layer.qkv_bias, 3), strict=True)
        for weight, bias in pairs:
            matrix, scales, zeros = self.quantized(np.ascontiguousarray(weight))
            inputs = [small, matrix, scale, scales, zero, zeros, writer.tensor(bias)]
            parts.append(writer.ms("MatMulIntegerToFloat", inputs))
        return str(writer.ms("MultiHeadAttention", parts, num_heads=self.weights.heads))


class _Unsigned(_Int8):
    """8-bit products of unsigned numbers alone."""

    def quantized(self, weight: NDArray[np.float32]) -> tuple[str, str, str]:
        small, scale = self.writer.unsigned(weight)
        return small, scale, self.writer.tensor(np.full(weight.shape[1], 128, dtype=np.uint8))


class _Float16(_Emitter):
    """Fused operators of ONNX Runtime for GPUs."""

    def half(self, array: NDArray[np.float32]) -> str:
        """Add a vector as float16."""
        return self.writer.tensor(array.astype(np.float16))

    def halved(self, name: str) -> str:
        return str(self.writer.op("Cast", [name], to=TensorProto.FLOAT16))

    def embed(self) -> str:
        return self.halved(super().embed())

    def layer(self, x: str, layer: LayerWeights) -> str:
        seen = self._product(self.attention(x, layer), layer.output)
        x = self._skip(seen, x, layer.output_bias, layer.norm_attention, layer.norm_attention_bias)
        inner = self.writer.ms("BiasGelu", [self._product(x, layer.up), self.half(layer.up_bias)])
        inner = self._product(inner, layer.down)
        return self._skip(inner, x, layer.down_bias, layer.norm_output, layer.norm_output_bias)

    def attention(self, x: str, layer: LayerWeights) -> str:
        weight = self.halved(self.stored_qkv(layer.qkv))
        inputs = [x, weight, self.half(layer.qkv_bias), self._lengths()]
        return str(self.writer.ms("Attention", inputs, num_heads=self.weights.heads))

    def as_float32(self, x: str) -> str:
        return str(self.writer.op("Cast", [x], to=TensorProto.FLOAT))

    def _product(self, x: str, weight: NDArray[np.float32]) -> str:
        return str(self.writer.op("MatMul", [x, self.halved(self.stored(weight))]))

    def _skip(self, x: str, skip: str, bias: Any, gain: Any, shift: Any) -> str:
        inputs = [x, skip, self.half(gain), self.half(shift), self.half(bias)]
        return str(self.writer.ms("SkipLayerNormalization", inputs, epsilon=self.weights.epsilon))

    def _lengths(self) -> str:
        """Return the tokens of each row, int32 (B,): the mask of right padding that fused kernels take."""
        if not hasattr(self, "_counted"):
            mask = self.writer.op("Cast", ["attention_mask"], to=TensorProto.INT32)
            self._counted = str(self.writer.op("ReduceSum", [mask, self.writer.ints(1)], keepdims=0))
        return self._counted


def _model(writer: Writer, weights: PredictorWeights, precision: str) -> Any:
    models = weights.out.shape[1] // 3
    sizes = {"embedding": weights.dimension}
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "tokens"])
        for name in ("input_ids", "attention_mask")
    ]
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", sizes.get(name, models)])
        for name in ("embedding", "success_logit", "length_mean", "length_std")
    ]
    graph = helper.make_graph(writer.nodes, "predictor", inputs, outputs, list(writer.tensors.values()))
    opsets = [helper.make_opsetid("", writer.opset)]
    if precision != "float32":
        opsets.append(helper.make_opsetid(MICROSOFT, 1))
    model = helper.make_model(graph, opset_imports=opsets, ir_version=IR, producer_name="eccos-rs")
    helper.set_model_props(model, {"precision": precision})
    return model
