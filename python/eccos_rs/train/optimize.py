"""The variants of a predictor's graph, and the check that each must pass before it ships."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eccos_rs.predict.calibration import expit
from eccos_rs.predict.device import int8_saturates
from eccos_rs.predict.encoder import CpuEncoder
from eccos_rs.predict.graph import Encoded, Layout
from eccos_rs.train.emit import PRECISIONS, build_graph
from eccos_rs.train.emit_search import build_search_graph
from eccos_rs.train.weights import WeightFile

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from eccos_rs.train.weights import PredictorWeights

    Floats = NDArray[np.float32]

__all__ = ["GRAPH_FILES", "GraphSet", "Limits", "VariantCheck", "make_graphs"]

#: File name of the graph of each precision; ``uint8`` is another form of ``int8``, not a variant of its own.
GRAPH_FILES = {
    "float32": "predictor.onnx",
    "int8": "predictor.int8.onnx",
    "uint8": "predictor.uint8.onnx",
    "float16": "predictor.float16.onnx",
}
WEIGHT_FILE = "weights.bin"
SEARCH_FILE = "neighbours.onnx"

#: From what the encoder says to quality and expected output tokens, each (N, M).
Forecast = Callable[[Encoded], "tuple[Floats, Floats]"]


@dataclass(frozen=True)
class Limits:
    """What a variant may differ by from the float32 reference.

    Attributes
    ----------
    auc : float
        Most that the mean area under the ROC curve may fall or rise.
    success : float
        Largest mean absolute difference of the predicted success.
    """

    auc: float = 0.003
    success: float = 0.015


@dataclass(frozen=True)
class VariantCheck:
    """How one variant compares with the float32 reference on held-back queries.

    Attributes
    ----------
    rows : int
        Queries compared.
    auc, auc_reference : float
        Area under the ROC curve of predicted success, mean over models.
    auc_difference : float
        `auc` - `auc_reference`.
    success_difference : float
        Mean absolute difference of predicted success.
    tokens_difference : float
        Mean absolute difference of ln(1 + expected tokens).
    changed_decisions : float
        Share of queries whose model changes, mean over a range of prices put on quality.
    embedding_cosine : float
        Mean cosine of the embeddings.
    passed : bool
        Within the limits.
    """

    rows: int
    auc: float
    auc_reference: float
    auc_difference: float
    success_difference: float
    tokens_difference: float
    changed_decisions: float
    embedding_cosine: float
    passed: bool

    def to_table(self) -> dict[str, Any]:
        """Return plain values, rounded, for a manifest."""
        return {
            name: round(value, 5) if isinstance(value, float) else value
            for name, value in asdict(self).items()
        }


@dataclass(frozen=True, eq=False)
class GraphSet:
    """The graphs of one predictor.

    Attributes
    ----------
    files : mapping of str to bytes
        Of every precision that may ship, the weight file, and the graph of the search.
    checks : mapping of str to VariantCheck
        By precision, failed ones included; empty when nothing was checked.
    """

    files: Mapping[str, bytes]
    checks: Mapping[str, VariantCheck]

    def encoder_table(self) -> dict[str, Any]:
        """Return the part of a manifest's ``[encoder]`` that names the graphs.

        The figures of the float32 graph, whose weights are stored in 16 bits, go to ``check``; those of the
        others to ``variants``.
        """
        variants = {
            name: {"file": GRAPH_FILES[name], **check.to_table()}
            for name, check in self.checks.items()
            if name != "float32" and GRAPH_FILES[name] in self.files
        }
        if "int8" in variants:
            variants["int8"]["unsigned"] = GRAPH_FILES["uint8"]
        check = {name: each.to_table() for name, each in self.checks.items() if name == "float32"}
        return {
            "file": GRAPH_FILES["float32"],
            "weights": WEIGHT_FILE,
            "search": SEARCH_FILE,
            **({"check": check["float32"]} if check else {}),
            "variants": variants,
        }


def make_graphs(
    weights: PredictorWeights,
    ids: Sequence[NDArray[np.int64]],
    success: Floats,
    output_price: NDArray[np.floating[Any]],
    *,
    forecast: Forecast | None = None,
    limits: Limits | None = None,
    on_rows: Callable[[int], object] | None = None,
) -> GraphSet:
    """Write the graphs of a predictor and keep those that pass the check.

    Parameters
    ----------
    weights : PredictorWeights
        Trained.
    ids : sequence of N int64 arrays
        Token ids of held-back queries, cut at the encoder's limit, special tokens included.
    success : ndarray of float32, shape (N, M)
        What really happened to them; NaN where not observed.
    output_price : ndarray, shape (M,)
        US dollars for a million output tokens, for the decisions that are compared.
    forecast : callable, optional
        Makes quality and expected tokens of what the encoder says, so that the whole predictor is compared;
        the default is the heads alone, uncalibrated.
    limits : Limits, optional
        What a variant may differ by.
    on_rows : callable, optional
        Called with the number of queries just run, for a progress bar; N for each of the four graphs.

    Returns
    -------
    GraphSet
        Without the graphs that failed, except float32, which always stays: the others fall back to it.
    """
    forecast = forecast or heads_forecast
    store = WeightFile(WEIGHT_FILE)
    graphs = {name: build_graph(weights, name, store).SerializeToString() for name in PRECISIONS}
    # The form of the 8-bit graph that this processor computes without loss; the other one says the same.
    run_as = {"float32": "float32", "int8": "uint8" if int8_saturates() else "int8", "float16": "float16"}
    made: dict[str, Encoded] = {}
    exact = WeightFile("exact.bin")
    reference = build_graph(weights, "float32", exact, exact=True).SerializeToString()
    with tempfile.TemporaryDirectory() as folder:
        at = Path(folder)
        for name, data in {
            **{GRAPH_FILES[each]: graph for each, graph in graphs.items()},
            store.name: store.tobytes(),
            "reference.onnx": reference,
            exact.name: exact.tobytes(),
        }.items():
            (at / name).write_bytes(data)
        wanted = _run(at / "reference.onnx", ids, weights, on_rows)
        for name, form in run_as.items():
            made[name] = _run(at / GRAPH_FILES[form], ids, weights, on_rows)
            shift = _length_shift(wanted, made[name])
            made[name] = replace(made[name], length_mean=made[name].length_mean + shift)
            for each in {"int8": ("int8", "uint8")}.get(name, (name,)):
                shifted = build_graph(replace(weights, length_shift=shift), each, store)
                graphs[each] = shifted.SerializeToString()
        checks = {
            name: compare(
                wanted,
                made[name],
                success,
                output_price,
                forecast=forecast,
                limits=limits or Limits(),
            )
            for name in made
        }
    passed = {name for name, check in checks.items() if check.passed} | {"float32"}
    if "int8" in passed:
        passed.add("uint8")
    files = {GRAPH_FILES[name]: graph for name, graph in graphs.items() if name in passed}
    files[SEARCH_FILE] = build_search_graph().SerializeToString()
    return GraphSet({**files, store.name: store.tobytes()}, checks)


def _length_shift(reference: Encoded, variant: Encoded) -> Floats:
    """Return what to add to a variant's mean log lengths, (M,), so that expected tokens add up again.

    Rounding takes a little from the spread of the forecasts, and the mean of a log-normal falls with it: one
    or two per cent of all tokens, hence of all money.
    """
    totals = [heads_forecast(each)[1].sum(axis=0, dtype=np.float64) for each in (reference, variant)]
    return np.asarray(np.log(totals[0] / np.maximum(totals[1], 1e-9)), dtype=np.float32)


def compare(
    reference: Encoded,
    variant: Encoded,
    success: Floats,
    output_price: NDArray[np.floating[Any]],
    *,
    forecast: Forecast,
    limits: Limits,
) -> VariantCheck:
    """Compare what a variant says of held-back queries with what the reference says."""
    (wanted, wanted_tokens), (got, got_tokens) = forecast(reference), forecast(variant)
    auc, auc_reference = mean_auc(got, success), mean_auc(wanted, success)
    difference = float(np.abs(got - wanted).mean())
    return VariantCheck(
        rows=len(wanted),
        auc=auc,
        auc_reference=auc_reference,
        auc_difference=auc - auc_reference,
        success_difference=difference,
        tokens_difference=float(np.abs(np.log1p(got_tokens) - np.log1p(wanted_tokens)).mean()),
        changed_decisions=changed_decisions((wanted, wanted_tokens), (got, got_tokens), output_price),
        embedding_cosine=float((reference.embedding * variant.embedding).sum(axis=1).mean()),
        passed=bool(abs(auc - auc_reference) <= limits.auc and difference <= limits.success),
    )


def heads_forecast(encoded: Encoded) -> tuple[Floats, Floats]:
    """Return what the heads say: success, and the mean of the log-normal length."""
    tokens = np.expm1(np.minimum(encoded.length_mean + 0.5 * np.square(encoded.length_std), 20.0))
    return expit(encoded.success_logit), tokens.astype(np.float32)


def mean_auc(quality: Floats, success: Floats) -> float:
    """Return the area under the ROC curve, mean over the models that both succeed and fail."""
    from scipy.stats import rankdata

    areas = []
    for column in range(success.shape[1]):
        seen = np.isfinite(success[:, column])
        good = success[seen, column] >= 0.5
        positive, negative = int(good.sum()), int((~good).sum())
        if positive and negative:
            rank = rankdata(quality[seen, column])[good].sum()
            areas.append((rank - positive * (positive + 1) / 2) / (positive * negative))
    return float(np.mean(areas)) if areas else float("nan")


def changed_decisions(
    wanted: tuple[Floats, Floats], got: tuple[Floats, Floats], output_price: NDArray[np.floating[Any]]
) -> float:
    """Return the share of queries that another model would take, mean over a range of prices on quality.

    A query takes the model of the least cost - price x quality. The prices run from where the cheapest model
    takes nearly all to where the best one does, evenly in the logarithm.
    """
    cost = [tokens * np.asarray(output_price) / 1e6 for _, tokens in (wanted, got)]
    typical = float(np.median(np.ptp(cost[0], axis=1))) + 1e-12
    prices = typical * np.logspace(-1, 2, 13)
    changed = [
        np.mean(np.argmin(cost[0] - price * wanted[0], 1) != np.argmin(cost[1] - price * got[0], 1))
        for price in prices
    ]
    return float(np.mean(changed))


def _run(
    path: Path,
    ids: Sequence[NDArray[np.int64]],
    weights: PredictorWeights,
    on_rows: Callable[[int], object] | None,
) -> Encoded:
    """Run one graph over all queries, in slices."""
    layout = Layout.of_heads(weights.dimension, weights.out.shape[1] // 3)
    encoder, out = CpuEncoder(path, path.stem, layout), layout.empty(len(ids))
    for start in range(0, len(ids), 256):
        part = slice(start, min(start + 256, len(ids)))
        some = encoder.run(ids[part])
        for held, name in zip(out, layout.widths, strict=True):
            held[part] = getattr(some, name)
        if on_rows is not None:
            on_rows(len(some))
    return Encoded(*out)
