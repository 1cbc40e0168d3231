"""The graph of a bundle: what comes out of it, which files hold it, and how ONNX Runtime opens it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from eccos_rs.errors import InputError
from eccos_rs.predict import device as devices
from eccos_rs.predict.runtime import onnxruntime

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from eccos_rs.predict.bundle import Bundle

__all__ = [
    "Encoded",
    "Layout",
    "States",
    "graph_file",
    "graph_layout",
    "open_graph",
    "session_options",
    "variants",
]

OUTPUTS = ("embedding", "success_logit", "length_mean", "length_std")


@dataclass(frozen=True, eq=False)
class Encoded:
    """What the graph says of N texts, all float32.

    Attributes
    ----------
    embedding : ndarray, shape (N, D)
        Unit vectors.
    success_logit : ndarray, shape (N, M)
        Log odds of success according to the heads.
    length_mean, length_std : ndarray, shape (N, M)
        Of ln(1 + output tokens), according to the heads.
    """

    embedding: NDArray[np.float32]
    success_logit: NDArray[np.float32]
    length_mean: NDArray[np.float32]
    length_std: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.embedding)


@dataclass(frozen=True, eq=False)
class States:
    """What an encoder without heads says of N texts, all float32.

    Attributes
    ----------
    embedding : ndarray, shape (N, D)
        Unit vectors.
    states : ndarray, shape (N, I)
        Standardised, for whatever reads them.
    """

    embedding: NDArray[np.float32]
    states: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.embedding)


@dataclass(frozen=True)
class Layout:
    """The outputs of a graph and what holds them.

    Attributes
    ----------
    widths : mapping of str to int
        Of the outputs, in the order of the fields of `holds`.
    holds : type
        `Encoded` or `States`.
    """

    widths: Mapping[str, int]
    holds: type[Encoded | States]

    @classmethod
    def of_heads(cls, dimension: int, models: int) -> Layout:
        """Return the layout of a graph with heads for M models."""
        return cls(dict(zip(OUTPUTS, (dimension, models, models, models), strict=True)), Encoded)

    def empty(self, rows: int) -> list[NDArray[np.float32]]:
        """Make room for `rows` texts."""
        return [np.empty((rows, width), dtype=np.float32) for width in self.widths.values()]


def graph_layout(bundle: Bundle) -> Layout:
    """Return the layout of a bundle's graphs."""
    table = bundle.table("encoder")
    dimension = int(table["dimension"])
    if "states" in table:
        return Layout({"embedding": dimension, "states": int(table["states"])}, States)
    return Layout.of_heads(dimension, len(bundle.models))


def variants(bundle: Bundle) -> tuple[str, ...]:
    """Return the precisions that a bundle has graphs for; ``float32`` is always there."""
    return ("float32", *bundle.table("encoder").get("variants", {}))


def graph_file(bundle: Bundle, variant: str) -> Path:
    """Return the graph of a precision.

    Raises
    ------
    InputError
        If the bundle does not have it.
    """
    encoder = bundle.table("encoder")
    if variant == "float32":
        return bundle.file(encoder["file"])
    if variant not in variants(bundle):
        raise InputError(f"variant: got {variant!r}, this bundle has {', '.join(variants(bundle))}")
    table = encoder["variants"][variant]
    unsigned = table.get("unsigned") if devices.int8_saturates() else None
    return bundle.file(unsigned or table["file"])


def open_graph(path: Path, options: Any, providers: list[Any], weights: Path | None = None) -> Any:
    """Open a graph whose weight file lies beside it, or in the folder `weights`."""
    ort = onnxruntime()
    if weights is None:
        return ort.InferenceSession(str(path), options, providers=providers)
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(weights))
    return ort.InferenceSession(path.read_bytes(), options, providers=providers)


def session_options() -> Any:
    """Return session options for a library: nothing is printed below an error."""
    ort = onnxruntime()

    options = ort.SessionOptions()
    options.log_severity_level = 3
    return options
