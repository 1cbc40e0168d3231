"""Finds the labelled queries nearest to new ones, weighs their labels, and learns more of them online."""

from __future__ import annotations

import threading
import zipfile
from typing import TYPE_CHECKING

import numpy as np

from eccos_rs.errors import BundleError, InputError
from eccos_rs.predict.index import ExactIndex, open_index, read_vectors
from eccos_rs.predict.labels import LabelTable, shrink
from eccos_rs.predict.neighbours import NeighbourSettings

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from typing import Any

    from numpy.typing import NDArray

    from eccos_rs.predict.bundle import Bundle
    from eccos_rs.predict.gpu_search import DeviceSearch
    from eccos_rs.predict.index import Index
    from eccos_rs.predict.neighbours import NeighbourEstimate

__all__ = ["Retrieval", "vector_file"]


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
        path, rows = vector_file(bundle), len(success)
        settings = NeighbourSettings.from_table(table)
        on_device, why = (None, None) if device == "cpu" else _device_search(bundle, settings)
        if on_device is not None:
            index: Index = ExactIndex(read_vectors(path, dimension, rows))
        else:
            index = open_index(path, dimension, rows, spare=spare, ef=int(table.get("ef", 200)))
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

    def learned(self) -> tuple[list[bytes], NDArray[np.float32]]:
        """Return what was added: the vectors in the order of their rows, and their packed labels (n, 5 M)."""
        with self._lock:
            rows = range(self._base, len(self))
            return [self._key_of[row] for row in rows], self._labels.packed[rows.start : rows.stop].copy()

    def restore(self, learned: tuple[list[bytes], NDArray[np.float32]]) -> None:
        """Add what `learned` gave, to a retrieval to which nothing was added; the oldest may differ then."""
        vectors, packed = learned
        with self._lock:
            for key, labels in zip(vectors, packed, strict=True):
                row = self._row_for(np.frombuffer(key, dtype=np.float32))
                self._labels.packed[row] = labels
            self._outdated = True

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


def vector_file(bundle: Bundle) -> Path:
    """Return the file with a bundle's vectors: a graph (``index``), or the vectors alone (``vectors``).

    Raises
    ------
    BundleError
        If the bundle names neither.
    """
    table = bundle.table("retrieval")
    name = table.get("index") or table.get("vectors")
    if not isinstance(name, str):
        raise BundleError(f"{bundle.path}: [retrieval] names neither an index nor vectors")
    return bundle.file(name)


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
    except (KeyError, OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile) as error:
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
