"""Finds the labelled queries nearest to new ones: one matrix product while they are few, HNSW when many."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Protocol

import numpy as np

from eccos_rs.errors import BundleError, InputError
from eccos_rs.predict import device as devices
from eccos_rs.predict.labels import LabelTable, shrink
from eccos_rs.predict.neighbours import NeighbourSettings

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from typing import Any

    from numpy.typing import NDArray

    from eccos_rs.predict.bundle import Bundle
    from eccos_rs.predict.gpu_search import DeviceSearch
    from eccos_rs.predict.neighbours import NeighbourEstimate

__all__ = ["ExactIndex", "HnswIndex", "Retrieval"]

# Up to this many vectors comparing all is as fast as a graph walk, at every batch size
# (benches/test_bench_retrieval.py; docs/performance.md has the table).
EXACT_ROWS = 1024
# For fewer queries than this the product is not given to BLAS: its threads wait for each other, which on a
# busy machine takes longer than the product itself by orders of magnitude.
_BLAS_QUERIES = 8
# Similarities of one slice of an exact search: 4 Mi float32 are 16 MiB, which stays near the processor.
_SLICE_CELLS = 1 << 22


class Index(Protocol):
    """Vectors by row number."""

    def search(self, queries: NDArray[np.float32], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return similarities and rows, both (N, K), nearest first."""
        ...

    def put(self, row: int, vector: NDArray[np.float32]) -> None:
        """Set one row."""
        ...


class ExactIndex:
    """Every vector is compared.

    Parameters
    ----------
    vectors : ndarray of float32, shape (n, D)
        Unit vectors.
    spare : int
        How many rows may be added.
    """

    def __init__(self, vectors: NDArray[np.float32], spare: int = 0) -> None:
        self._rows, dimension = vectors.shape
        self._vectors = np.empty((self._rows + spare, dimension), dtype=np.float32)
        self._vectors[: self._rows] = vectors

    def vectors(self) -> NDArray[np.float32]:
        """Return all vectors, (n, D), without a copy."""
        return self._vectors[: self._rows]

    def search(self, queries: NDArray[np.float32], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return similarities and rows, both (N, K), nearest first."""
        known = self._vectors[: self._rows]
        similarity = np.empty((len(queries), k), dtype=np.float32)
        index = np.empty((len(queries), k), dtype=np.int64)
        step = max(_BLAS_QUERIES, _SLICE_CELLS // max(1, self._rows))
        for start in range(0, len(queries), step):
            part = slice(start, start + step)
            scores = _products(queries[part], known)
            kept = np.argpartition(scores, self._rows - k, axis=1)[:, self._rows - k :]
            values = np.take_along_axis(scores, kept, axis=1)
            order = np.argsort(-values, axis=1, kind="stable")
            similarity[part] = np.take_along_axis(values, order, axis=1)
            index[part] = np.take_along_axis(kept, order, axis=1)
        return similarity, index

    def put(self, row: int, vector: NDArray[np.float32]) -> None:
        """Set one row, the next new one or one that is there."""
        self._vectors[row] = vector
        self._rows = max(self._rows, row + 1)


def _products(queries: NDArray[np.float32], known: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return all inner products, (N, n)."""
    if len(queries) >= _BLAS_QUERIES:
        return np.asarray(queries @ known.T)
    return np.stack([np.einsum("nd,d->n", known, query) for query in queries])


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
    """

    def __init__(self, path: Path, dimension: int, rows: int, *, spare: int = 0, ef: int = 200) -> None:
        import hnswlib

        self._index = hnswlib.Index(space="ip", dim=dimension)
        try:
            self._index.load_index(str(path), max_elements=rows + spare)
        except RuntimeError as error:
            raise BundleError(f"{path}: hnswlib cannot read the index: {error}") from None
        if self._index.get_current_count() != rows:
            count = self._index.get_current_count()
            raise BundleError(f"{path}: the index has {count} vectors, the labels have {rows} rows")
        self._ef = ef
        self._index.set_ef(ef)
        self._index.set_num_threads(devices.allowed_cores())

    def vectors(self) -> NDArray[np.float32]:
        """Return a copy of all vectors, (n, D), in the order of their rows."""
        labels = np.arange(self._index.get_current_count())
        return np.asarray(self._index.get_items(labels), dtype=np.float32)

    def search(self, queries: NDArray[np.float32], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return similarities and rows, both (N, K), nearest first."""
        if k > self._ef:
            self._ef = k
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


class Retrieval:
    """Labelled queries as the training saw them, plus what was learned since; safe to share between threads.

    Parameters
    ----------
    index : Index
        Over the embeddings of the labelled queries.
    success, log_tokens : ndarray, shape (n, M)
        Their labels: success in [0, 1] and ln(1 + output tokens); NaN where not observed.
    settings : NeighbourSettings
        How labels are weighed.
    priors : mapping
        ``prior_success``, ``prior_length_mean`` and ``prior_length_std``, each (M,).
    spare : int
        How many queries can be added before the oldest added one makes room.
    on_device : DeviceSearch, optional
        Searches in place of `index`, which must then be an `ExactIndex`.

    Attributes
    ----------
    not_on_device : str or None
        Why the GPU that was asked for does not search.
    """

    def __init__(
        self,
        index: Index,
        success: NDArray[np.float32],
        log_tokens: NDArray[np.float32],
        settings: NeighbourSettings,
        priors: Mapping[str, NDArray[np.float32]],
        *,
        spare: int = 0,
        on_device: DeviceSearch | None = None,
    ) -> None:
        self._index, self._settings, self._priors = index, settings, dict(priors)
        self._labels = LabelTable(success, log_tokens, spare)
        self._base, self._spare, self._added = len(success), spare, 0
        self._row_of: dict[bytes, int] = {}
        self._key_of: dict[int, bytes] = {}
        self._lock = threading.RLock()
        self._on_device, self._outdated = on_device, True
        self.not_on_device: str | None = None

    @classmethod
    def from_bundle(cls, bundle: Bundle, *, spare: int = 16_384, device: str = "cpu") -> Retrieval:
        """Open the index and the labels of a bundle.

        Parameters
        ----------
        bundle : Bundle
            A checked bundle.
        spare : int
            See the class.
        device : str
            What the encoder runs on; on a GPU the vectors are searched there too, if that can be started.

        Raises
        ------
        BundleError
            If they are malformed or do not fit each other.
        """
        table = bundle.table("retrieval")
        success, log_tokens = _read_labels(bundle.file(table["labels"]), len(bundle.models))
        dimension = int(bundle.table("encoder")["dimension"])
        path, rows = bundle.file(table["index"]), len(success)
        settings = NeighbourSettings.from_table(table)
        on_device, why = (None, None) if device == "cpu" else _device_search(bundle, settings)
        index: Index
        if rows <= EXACT_ROWS or on_device is not None:
            index = ExactIndex(HnswIndex(path, dimension, rows).vectors(), spare)
        else:
            index = HnswIndex(path, dimension, rows, spare=spare, ef=int(table.get("ef", 200)))
        priors = _priors(table, success, log_tokens)
        made = cls(index, success, log_tokens, settings, priors, spare=spare, on_device=on_device)
        made.not_on_device = why
        return made

    def __len__(self) -> int:
        return int(self._base + min(self._added, self._spare))

    def estimate(self, embedding: NDArray[np.float32]) -> NeighbourEstimate:
        """Estimate success and length from the nearest labelled queries.

        Parameters
        ----------
        embedding : ndarray of float32, shape (N, D)
            Unit vectors.

        Returns
        -------
        NeighbourEstimate
            Arrays of shape (N, M), and the best similarity, (N,).
        """
        return self.shrunk(*self.sums(embedding))

    def shrunk(self, sums: NDArray[np.float32], best: NDArray[np.float32]) -> NeighbourEstimate:
        """Turn what `sums` gives into an estimate."""
        return shrink(sums, best, self._settings, self._priors)

    def sums(self, embedding: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the weighted sums of the neighbours' packed labels (N, 5 M) and the best similarity (N,)."""
        with self._lock:
            if self._on_device is not None:
                return self._search_on_device(self._on_device, embedding)
            similarity, index = self._index.search(embedding, min(self._settings.neighbours, len(self)))
            return self._labels.sums(similarity, index, self._settings.temperature)

    def shrinkage(self) -> dict[str, Any]:
        """Return what turns sums into an estimate, as `_core.Forecaster` takes it."""
        rows = {name: getattr(self._settings, name) for name in ("prior_rows", "length_prior_rows")}
        return {**rows, **{name: prior.tolist() for name, prior in self._priors.items()}}

    def _search_on_device(
        self, device: DeviceSearch, embedding: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        if self._outdated:
            assert isinstance(self._index, ExactIndex)  # said in the class
            device.hold(self._index.vectors(), self._labels.packed[: len(self)])
            self._outdated = False
        return device.sums(embedding)

    def add(
        self, embedding: NDArray[np.float32], model: int, quality: float, log_tokens: float = float("nan")
    ) -> None:
        """Learn one outcome.

        Parameters
        ----------
        embedding : ndarray of float32, shape (D,)
            Unit vector of the query, as `Prediction.embedding` has it.
        model : int
            Column of the model.
        quality : float
            How well it answered, in [0, 1]; NaN if unknown.
        log_tokens : float
            ln(1 + output tokens); NaN if unknown.

        Raises
        ------
        InputError
            If an argument leaves its range.
        """
        vector = np.ascontiguousarray(embedding, dtype=np.float32)
        if vector.ndim != 1 or not np.isfinite(vector).all():
            raise InputError(f"embedding: got shape {vector.shape}, wanted one finite vector (D,)")
        if not 0 <= model < self._labels.models:
            raise InputError(f"model: got column {model}, wanted 0 to {self._labels.models - 1}")
        if not (np.isnan(quality) or 0.0 <= quality <= 1.0):
            raise InputError(f"quality: got {quality}, wanted a number in [0, 1]")
        if not (np.isnan(log_tokens) or 0.0 <= log_tokens < np.inf):
            raise InputError(f"log_tokens: got {log_tokens}, wanted a finite number of 0 or more")
        if self._spare == 0:
            raise InputError("add: this retrieval was opened without spare rows")
        with self._lock:
            row, self._outdated = self._row_for(vector), True
            if not np.isnan(quality):
                self._labels.set_success(row, model, quality)
            if not np.isnan(log_tokens):
                self._labels.set_length(row, model, log_tokens)

    def _row_for(self, vector: NDArray[np.float32]) -> int:
        """Return the row of an added vector: its own, or the next one, or the oldest one's."""
        key = vector.tobytes()
        if key in self._row_of:
            return self._row_of[key]
        row = int(self._base + self._added % self._spare)
        self._added += 1
        if row in self._key_of:
            del self._row_of[self._key_of[row]]
        self._labels.clear(row)
        self._index.put(row, vector)
        self._row_of[key], self._key_of[row] = row, key
        return row


def _device_search(bundle: Bundle, settings: NeighbourSettings) -> tuple[DeviceSearch | None, str | None]:
    """Open the search on the GPU, or say why not: the encoder is what a GPU is asked for."""
    from eccos_rs.predict.cuda import provider_list
    from eccos_rs.predict.gpu_search import DeviceSearch

    name = bundle.table("encoder").get("search")
    if name is None:
        return None, "the bundle has no graph for it"
    try:
        made = DeviceSearch(
            bundle.file(name), provider_list(tensorrt=False, cuda_graph=False), settings, "cuda"
        )
        made.hold(np.eye(4, dtype=np.float32), np.zeros((4, 1), dtype=np.float32))
        made.sums(np.eye(4, dtype=np.float32))
    except Exception as error:  # the processor searches as well
        return None, str(error)
    return made, None


def _read_labels(path: Path, models: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    try:
        with np.load(path, allow_pickle=False) as labels:
            success, log_tokens = labels["success"], labels["log_tokens"]
    except (KeyError, OSError, ValueError) as error:
        raise BundleError(f"{path}: labels cannot be read: {error}") from None
    if (
        success.shape != log_tokens.shape
        or success.ndim != 2
        or success.shape[1] != models
        or not success.size
    ):
        got = f"success {success.shape} and log_tokens {log_tokens.shape}"
        raise BundleError(f"{path}: got {got}, wanted both (n, {models})")
    return success.astype(np.float32), log_tokens.astype(np.float32)


def _priors(
    table: Mapping[str, Any], success: NDArray[np.float32], log_tokens: NDArray[np.float32]
) -> dict[str, NDArray[np.float32]]:
    """Return what to believe without neighbours: as the bundle says, else the means of the labels."""
    given = {"prior_success": success, "prior_length_mean": log_tokens, "prior_length_std": log_tokens}
    priors = {}
    for name, labels in given.items():
        if name in table:
            priors[name] = np.asarray(table[name], dtype=np.float32)
        else:
            reduce = np.nanstd if name.endswith("std") else np.nanmean
            priors[name] = np.asarray(reduce(labels, axis=0), dtype=np.float32)
    return priors
