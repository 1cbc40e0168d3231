"""Searches the vectors of labelled queries: every one compared while they are few, a graph when many."""

from __future__ import annotations

import importlib.util
import logging
import struct
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np

from eccos_rs import _core
from eccos_rs.errors import BundleError, MissingExtraError
from eccos_rs.predict import device as devices

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["EXACT_ROWS", "ExactIndex", "HnswIndex", "Index", "has_hnswlib", "open_index", "read_vectors"]

#: Up to this many vectors comparing all of them takes about as long as walking a graph, and misses none
#: (benches/test_bench_retrieval.py; docs/performance.md has the table).
EXACT_ROWS = 4096
#: From this many on, a search without the graph takes longer than the encoder; one sentence says so.
WANTS_HNSW = 100_000
INSTALL_HNSW = "pip install 'eccos-rs[hnsw]'"

_log = logging.getLogger("eccos_rs")


class Index(Protocol):
    """Vectors by row number."""

    def search(self, queries: NDArray[np.float32], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return similarities and rows, both (N, K), nearest first."""
        ...

    def put(self, row: int, vector: NDArray[np.float32]) -> None:
        """Set one row, the next new one or one that is there."""
        ...


class ExactIndex:
    """Every vector is compared, by compiled code, in half precision.

    Equal similarities come in the order of their rows; what is found does not depend on the other queries.

    Parameters
    ----------
    vectors : ndarray of float32, shape (n, D)
        Unit vectors.
    """

    def __init__(self, vectors: NDArray[np.float32]) -> None:
        self._vectors = _core.Vectors(np.ascontiguousarray(vectors, dtype=np.float32), vectors.shape[1])
        self._threads = devices.allowed_cores()

    def vectors(self) -> NDArray[np.float32]:
        """Return a copy of all vectors, (n, D)."""
        return self._vectors.to_array()

    def search(self, queries: NDArray[np.float32], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return similarities and rows, both (N, K), nearest first."""
        return self._vectors.search(np.ascontiguousarray(queries, dtype=np.float32), k, self._threads)

    def put(self, row: int, vector: NDArray[np.float32]) -> None:
        """Set one row, the next new one or one that is there."""
        self._vectors.put(row, np.ascontiguousarray(vector, dtype=np.float32))


class HnswIndex:
    """A navigable small world graph (hnswlib) read from a file.

    Parameters
    ----------
    path : Path
        Saved by hnswlib over unit vectors.
    dimension, rows : int
        D, and the number of vectors in it, labelled 0 to rows - 1.
    spare : int
        How many may be added.
    ef : int
        Candidates kept in a search: more is more exact and slower.

    Raises
    ------
    MissingExtraError
        Without hnswlib.
    BundleError
        If the file is not such a graph.
    """

    def __init__(self, path: Path, dimension: int, rows: int, *, spare: int = 0, ef: int = 200) -> None:
        try:
            import hnswlib
        except ImportError:
            raise MissingExtraError(f"searching by a graph needs hnswlib: {INSTALL_HNSW}") from None

        self._index = hnswlib.Index(space="ip", dim=dimension)
        try:
            self._index.load_index(str(path), max_elements=rows + spare)
        except RuntimeError as error:
            raise BundleError(f"{path}: hnswlib cannot read the index: {error}") from None
        _check_count(path, self._index.get_current_count(), rows)
        self.ef = ef
        self._index.set_ef(ef)
        self._index.set_num_threads(devices.allowed_cores())

    def vectors(self) -> NDArray[np.float32]:
        """Return a copy of all vectors, (n, D), in the order of their rows."""
        labels = np.arange(self._index.get_current_count())
        return np.asarray(self._index.get_items(labels), dtype=np.float32)

    def search(self, queries: NDArray[np.float32], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return similarities and rows, both (N, K), nearest first."""
        if k > self.ef:
            self.ef = k
            self._index.set_ef(k)
        try:
            labels, distance = self._index.knn_query(queries, k)
        except RuntimeError:
            # From its entry point the graph reached fewer than k: rare, and for a few vectors only.
            return ExactIndex(self.vectors()).search(queries, k)
        return np.subtract(1.0, distance, out=distance), labels.view(np.int64)

    def put(self, row: int, vector: NDArray[np.float32]) -> None:
        """Set one row, a new one or one that is there."""
        self._index.add_items(vector[None, :], np.array([row]), num_threads=1)


def has_hnswlib() -> bool:
    """Say whether hnswlib is installed, without importing it."""
    return importlib.util.find_spec("hnswlib") is not None


def open_index(path: Path, dimension: int, rows: int, *, spare: int = 0, ef: int = 200) -> Index:
    """Open the vectors of a bundle in the way that is fast for their number.

    Parameters
    ----------
    path : Path
        A graph saved by hnswlib, or an array of vectors (``.npy``).
    dimension, rows, spare, ef
        As of `HnswIndex`.

    Returns
    -------
    Index
        An `HnswIndex` where there is a graph of more than `EXACT_ROWS` vectors and hnswlib is installed, else
        an `ExactIndex`.

    Raises
    ------
    BundleError
        If the file is malformed, or has not `rows` vectors of `dimension` numbers.
    """
    is_graph = path.suffix != ".npy"
    if is_graph and rows > EXACT_ROWS and has_hnswlib():
        return HnswIndex(path, dimension, rows, spare=spare, ef=ef)
    if rows >= WANTS_HNSW:
        _log.warning(
            "%s: %s, so all %s vectors are compared with every query; a graph is faster: %s%s",
            path.parent,
            "hnswlib is not installed" if is_graph else "the bundle was made without hnswlib",
            f"{rows:,}",
            INSTALL_HNSW,
            "" if is_graph else ", and train again",
        )
    return ExactIndex(read_vectors(path, dimension, rows))


def read_vectors(path: Path, dimension: int, rows: int) -> NDArray[np.float32]:
    """Read the vectors of a bundle, with or without a graph around them; needs no hnswlib.

    Parameters
    ----------
    path : Path
        See `open_index`.
    dimension, rows : int
        What must be in it.

    Returns
    -------
    ndarray of float32, shape (rows, dimension)

    Raises
    ------
    BundleError
        If the file is malformed or something else is in it.
    """
    if path.suffix != ".npy":
        return _vectors_of_graph(path, dimension, rows)
    try:
        with path.open("rb") as stream:
            vectors = np.lib.format.read_array(stream, allow_pickle=False)
    except (OSError, ValueError, EOFError, MemoryError) as error:
        raise BundleError(f"{path}: vectors cannot be read: {error}") from None
    if vectors.ndim != 2 or vectors.shape[1] != dimension or vectors.dtype.kind != "f":
        got = f"{vectors.dtype} {vectors.shape}"
        raise BundleError(f"{path}: got {got}, wanted floating-point numbers ({rows}, {dimension})")
    _check_count(path, len(vectors), rows)
    return np.asarray(vectors, dtype=np.float32)


# What hnswlib 0.8 writes first: offset of level 0, capacity, elements, bytes per element, offsets of label
# and vector within one, highest level, entry point, the three M, the level's multiplier, ef while building.
# The elements follow: links, vector, label.
_HEADER = struct.Struct("<6Qii3QdQ")


def _vectors_of_graph(path: Path, dimension: int, rows: int) -> NDArray[np.float32]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BundleError(f"{path}: the index cannot be read: {error.strerror}") from None
    unreadable = f"{path}: not an index of hnswlib over vectors of {dimension} numbers"
    if len(data) < _HEADER.size:
        raise BundleError(unreadable)
    _, _, count, size, label, vector, *_ = _HEADER.unpack_from(data)
    fits = vector + 4 * dimension == label and label + 8 <= size and count * size <= len(data) - _HEADER.size
    if not fits:
        raise BundleError(unreadable)
    _check_count(path, count, rows)
    formats: dict[str, Any] = {"names": ["vector", "label"], "formats": [("<f4", dimension), "<u8"]}
    formats |= {"offsets": [vector, label], "itemsize": size}
    layout = np.dtype(cast("Any", formats))
    elements = np.frombuffer(data, layout, count, _HEADER.size)
    if not np.array_equal(np.sort(elements["label"]), np.arange(count)):
        raise BundleError(f"{path}: the labels of the index are not 0 to {count - 1}")
    made = np.empty((count, dimension), dtype=np.float32)
    made[elements["label"].astype(np.int64)] = elements["vector"]
    return made


def _check_count(path: Path, got: int, rows: int) -> None:
    if got != rows:
        raise BundleError(f"{path}: the index has {got} vectors, the labels have {rows} rows")
