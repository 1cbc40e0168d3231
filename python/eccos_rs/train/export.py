"""Write a fitted predictor as a bundle: graph, tokeniser, index, labels, calibration, pool, card."""

from __future__ import annotations

import io
import platform
import tempfile
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eccos_rs.predict.bundle import Bundle, write_bundle
from eccos_rs.predict.index import EXACT_ROWS, HnswIndex, has_hnswlib
from eccos_rs.records.fingerprint import encode_fingerprints
from eccos_rs.train.fit import KINDS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from eccos_rs.pools.pool import Pool
    from eccos_rs.train.fit import Fitted

__all__ = ["export_bundle"]

# hnswlib: links a vector, and candidates while building.
HNSW_LINKS, HNSW_BUILD = 16, 200
# While searching: the least of these, times the neighbours asked for, that finds enough of the nearest 16.
# What is tried lies between known queries; one that is like them finds more.
HNSW_SEARCH, RECALL, RECALLED = (1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0), 0.98, 16
# Searches behind that choice.
_TRIED = 2048


def export_bundle(
    folder: Path,
    name: str,
    fitted: Fitted,
    graphs: tuple[dict[str, bytes], dict[str, Any]],
    *,
    tokenizer: bytes,
    max_tokens: int,
    pool: Pool,
    card: str,
    input_tokens: Mapping[str, Any],
    provenance: Mapping[str, Any],
    learned_texts: Sequence[str] = (),
) -> Bundle:
    """Write everything beside `folder`, sync, rename.

    Parameters
    ----------
    folder : Path
        The bundle's folder; an older bundle there is replaced as a whole.
    name : str
        What the bundle is called.
    fitted : Fitted
        The predictor.
    graphs : tuple of dict and dict
        File name to content of each form of the graph, and what goes into the table ``[encoder]``.
    tokenizer : bytes
        ``tokenizer.json``.
    max_tokens : int
        What the encoder reads of a query.
    pool : Pool
        Prices, in the models' column order.
    card : str
        The model card, Markdown.
    input_tokens : mapping
        See `eccos_rs.train.input_tokens.fit_input_tokens`.
    provenance : mapping
        Sources, settings and versions, for ``bundle.toml``.
    learned_texts : sequence of str
        The queries behind the predictor: their fingerprints are kept, so that an evaluation leaves them out.

    Returns
    -------
    Bundle
        Loaded back, so checked.
    """
    import tomli_w

    files, encoder = graphs
    settings = fitted.settings
    rows, dimension = fitted.embedding.shape
    neighbours = min(settings.neighbours, rows)
    searched, search_files = _search(fitted.embedding, neighbours)
    manifest = {
        "name": name,
        "created": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "models": list(pool.names),
        "encoder": {
            "tokenizer": "tokenizer.json",
            "max_tokens": max_tokens,
            "dimension": dimension,
            **encoder,
        },
        "retrieval": {
            **searched,
            "labels": "labels.npz",
            "rows": rows,
            "neighbours": neighbours,
            "temperature": settings.temperature,
            "prior_rows": settings.prior_rows,
            "length_prior_rows": settings.length_prior_rows,
            **{key: [round(float(value), 6) for value in prior] for key, prior in fitted.priors.items()},
        },
        "calibration": {"file": "calibration.toml"},
        "input_tokens": dict(input_tokens),
        "provenance": {
            **provenance,
            "train_texts_sha256": "train_texts.sha256",
            "versions": _versions(),
        },
    }
    calibration = {kind: fitted.calibration[kind].to_table() for kind in KINDS}
    return write_bundle(
        folder,
        manifest,
        {
            **files,
            "tokenizer.json": tokenizer,
            **search_files,
            "labels.npz": _labels(fitted),
            "calibration.toml": tomli_w.dumps(calibration).encode(),
            "pool.toml": pool.to_toml().encode(),
            "README.md": card.encode(),
            "train_texts.sha256": encode_fingerprints(learned_texts),
        },
    )


def _search(embedding: NDArray[np.float32], neighbours: int) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Return what ``[retrieval]`` says of the search, and its file: a graph where that is the faster way."""
    if len(embedding) > EXACT_ROWS and has_hnswlib():
        index, ef = _index(embedding, neighbours)
        return {"index": "index.bin", "m": HNSW_LINKS, "ef": ef}, {"index.bin": index}
    stream = io.BytesIO()
    np.save(stream, embedding.astype(np.float16))
    return {"vectors": "vectors.npy"}, {"vectors.npy": stream.getvalue()}


def _index(embedding: NDArray[np.float32], neighbours: int) -> tuple[bytes, int]:
    """Build the search graph, and say how widely to search it.

    It is built in one thread and in row order, so that the same data give the same bytes.
    """
    import hnswlib

    # As the exact search and a file of plain vectors have them; a wheel packs the index to half its size.
    embedding = embedding.astype(np.float16).astype(np.float32)
    index = hnswlib.Index(space="ip", dim=embedding.shape[1])
    index.init_index(len(embedding), ef_construction=HNSW_BUILD, M=HNSW_LINKS, random_seed=100)
    index.add_items(embedding, np.arange(len(embedding)), num_threads=1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "index.bin"
        index.save_index(str(path))
        return path.read_bytes(), _least_ef(path, embedding, neighbours)


def _least_ef(path: Path, embedding: NDArray[np.float32], neighbours: int) -> int:
    """Return the least `ef` that finds enough of the nearest of points half way between two known ones."""
    chosen = np.random.default_rng(0).integers(0, len(embedding), size=(2, _TRIED))
    near = min(RECALLED, neighbours)
    asked = embedding[chosen].sum(axis=0)
    asked /= np.maximum(np.linalg.norm(asked, axis=1, keepdims=True), 1e-12)
    # By similarity, not by row: of equal vectors any will do. In single precision, as the graph has it: the
    # product's exact search rounds its vectors to half.
    least = np.partition(asked @ embedding.T, -near, axis=1)[:, [-near]] - np.float32(1e-6)
    ef = neighbours
    for factor in HNSW_SEARCH:
        ef = round(factor * neighbours)
        found = HnswIndex(path, embedding.shape[1], len(embedding), ef=ef).search(asked, neighbours)[0]
        if np.mean(found[:, :near] >= least) >= RECALL:
            break
    return ef


def _labels(fitted: Fitted) -> bytes:
    """Pack the labels; denoised ones also as observed, for baselines that must not profit from that."""
    arrays = {"success": fitted.success, "log_tokens": fitted.log_tokens}
    if not np.array_equal(fitted.observed, fitted.success, equal_nan=True):
        arrays["observed"] = fitted.observed
    stream = io.BytesIO()
    np.savez(stream, **{name: array.astype(np.float16) for name, array in arrays.items()})  # type: ignore[arg-type]
    return stream.getvalue()


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in ("eccos-rs", "torch", "onnx", "onnxruntime-gpu", "onnxruntime", "hnswlib", "numpy"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
