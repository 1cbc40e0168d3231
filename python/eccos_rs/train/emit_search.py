"""The graph of the search, for devices where the vectors lie beside the encoder."""

from __future__ import annotations

from typing import Any

from onnx import TensorProto, helper

from eccos_rs.train.graph_writer import IR, OPSET, Writer
from eccos_rs.train.weights import WeightFile

__all__ = ["build_search_graph"]


def build_search_graph() -> Any:
    """Write the graph that finds neighbours and adds up their labels where the vectors lie, on a GPU.

    Returns
    -------
    onnx.ModelProto
        Inputs ``embedding`` (N, D), ``vectors`` (n, D), ``labels`` (n, C), ``temperature`` () float32 and
        ``neighbours`` (1,) int64; outputs ``sums`` (N, C), the labels of the nearest rows added up with the
        weights exp((similarity - best) / temperature), and ``best`` (N, 1).
    """
    writer = Writer(WeightFile("unused"))
    turned = writer.op("Transpose", ["vectors"], perm=[1, 0])
    scores = writer.op("MatMul", ["embedding", turned])
    near, index = writer.op("TopK", [scores, "neighbours"], outputs=2, axis=1, largest=1, sorted=1)
    best = writer.op("ReduceMax", [near], axes=[1], keepdims=1)
    away = writer.op("Div", [writer.op("Sub", [near, best]), "temperature"])
    weight = writer.op("Unsqueeze", [writer.op("Exp", [away]), writer.ints(1)])
    sums = writer.op("MatMul", [weight, writer.op("Gather", ["labels", index], axis=0)])
    writer.nodes.append(helper.make_node("Squeeze", [sums, writer.ints(1)], ["sums"], name="sums"))
    writer.nodes.append(helper.make_node("Identity", [best], ["best"], name="best"))
    floats = {"embedding": ["N", "D"], "vectors": ["n", "D"], "labels": ["n", "C"], "temperature": []}
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in floats.items()]
    inputs.append(helper.make_tensor_value_info("neighbours", TensorProto.INT64, [1]))
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("sums", ["N", "C"]), ("best", ["N", 1]))
    ]
    graph = helper.make_graph(writer.nodes, "neighbours", inputs, outputs, list(writer.tensors.values()))
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR, producer_name="eccos-rs"
    )
