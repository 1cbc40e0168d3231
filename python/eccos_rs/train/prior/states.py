"""The encoder's states of texts, as the shipped graphs make them, kept on disk between runs."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from eccos_rs.predict.encoder import CpuEncoder, default_variant
from eccos_rs.predict.graph import Layout, States, graph_file
from eccos_rs.predict.tokenize import TextTokenizer
from eccos_rs.train.prior.graph import states_graph, states_width

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from eccos_rs.predict.bundle import Bundle

__all__ = ["cached_states", "encode_states"]

_SLICE = 256


def encode_states(
    bundle: Bundle, texts: Sequence[str], on_rows: Callable[[int], object] | None = None
) -> NDArray[np.float32]:
    """Return the standardised inputs of a trained bundle's heads for N texts, (N, I)."""
    encoder = bundle.table("encoder")
    variant = default_variant(bundle)
    graph = states_graph(graph_file(bundle, variant))
    width = states_width(graph)
    tokenizer = TextTokenizer(bundle.file(encoder["tokenizer"]), int(encoder["max_tokens"]))
    made = np.empty((len(texts), width), dtype=np.float32)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "encoder.onnx"
        path.write_bytes(graph)
        layout = Layout({"embedding": int(encoder["dimension"]), "states": width}, States)
        runs = CpuEncoder(path, variant, layout, weights=bundle.path)
        for start in range(0, len(texts), _SLICE):
            part = slice(start, start + _SLICE)
            made[part] = runs.run(tokenizer(texts[part]).ids).states
            if on_rows is not None:
                on_rows(len(made[part]))
    return made


def cached_states(
    path: Path, texts: Sequence[str], bundle: Bundle, on_rows: Callable[[int], object] | None = None
) -> NDArray[np.float32]:
    """Return `encode_states`, read from a file that holds these texts by this encoder, else written to it."""
    weights = bundle.manifest["files"][bundle.table("encoder")["weights"]]
    key = hashlib.sha256("\0".join([weights, default_variant(bundle), *texts]).encode()).hexdigest()
    if path.is_file():
        with np.load(path, allow_pickle=False) as kept:
            if str(kept["key"]) == key:
                return np.asarray(kept["states"], dtype=np.float32)
    states = encode_states(bundle, texts, on_rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, key=np.array(key), states=states)
    return states
