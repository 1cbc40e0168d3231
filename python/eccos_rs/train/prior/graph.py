"""The encoder cut out of a trained bundle's graph: the same weights in the same file, no heads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import onnx
from onnx import TensorProto, helper

from eccos_rs.errors import BundleError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["states_graph", "states_width"]


def states_graph(path: Path) -> bytes:
    """Cut a graph after the inputs of its heads.

    Parameters
    ----------
    path : Path
        A graph of a trained bundle, made by `eccos_rs.train`.

    Returns
    -------
    bytes
        An ONNX graph whose outputs are ``embedding`` (B, D), unit vectors, and ``states`` (B, I), the
        standardised inputs of the heads. Its large tensors still lie in the bundle's weight file.

    Raises
    ------
    BundleError
        If the graph has no such place.
    """
    model = onnx.load(str(path), load_external_data=False)
    graph = model.graph
    made_by = {name: node for node in graph.node for name in node.output}
    states = [
        node.output[0] for node in graph.node if node.op_type == "Clip" and _is_standardised(node, made_by)
    ]
    if len(states) != 1:
        raise BundleError(f"{path}: found {len(states)} places where heads read the encoder, wanted one")
    kept = _needed(made_by, ["embedding", states[0]])
    nodes = [node for node in graph.node if node.name in kept]
    nodes.append(helper.make_node("Identity", [states[0]], ["states"], name="states"))
    used = {name for node in nodes for name in node.input}
    tensors = [tensor for tensor in graph.initializer if tensor.name in used]
    embedding = next(output for output in graph.output if output.name == "embedding")
    width = _length(next(each for each in graph.initializer if each.name == _mean_input(states[0], made_by)))
    wide = helper.make_tensor_value_info("states", TensorProto.FLOAT, ["batch", width])
    made = helper.make_graph(nodes, "encoder", list(graph.input), [embedding, wide], tensors)
    cut = helper.make_model(
        made, opset_imports=list(model.opset_import), ir_version=model.ir_version, producer_name="eccos-rs"
    )
    cut.metadata_props.extend(model.metadata_props)
    return bytes(cut.SerializeToString())


def states_width(graph: bytes) -> int:
    """Return I, the width of ``states``, of what `states_graph` gave."""
    outputs = {output.name: output for output in onnx.load_from_string(graph).graph.output}
    return int(outputs["states"].type.tensor_type.shape.dim[1].dim_value)


def _is_standardised(node: Any, made_by: dict[str, Any]) -> bool:
    """Say whether a Clip ends (x - mean) / std of what was put side by side."""
    kinds: list[str] = []
    while node is not None and len(kinds) < 4:
        kinds.append(node.op_type)
        node = made_by.get(node.input[0])
    return kinds == ["Clip", "Div", "Sub", "Concat"]


def _mean_input(states: str, made_by: dict[str, Any]) -> str:
    divided = made_by[made_by[states].input[0]]
    return str(made_by[divided.input[0]].input[1])


def _length(tensor: Any) -> int:
    return int(tensor.dims[-1])


def _needed(made_by: dict[str, Any], outputs: list[str]) -> set[str]:
    """Return the names of the nodes that some outputs depend on."""
    names: set[str] = set()
    waiting = [made_by[output] for output in outputs]
    while waiting:
        node = waiting.pop()
        if node.name not in names:
            names.add(node.name)
            waiting.extend(made_by[name] for name in node.input if name in made_by)
    return names
