"""Predictors made of a bundle: text in slices through tokeniser, encoder, neighbours and calibration."""

from __future__ import annotations

import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from eccos_rs.errors import BundleError
from eccos_rs.predict.cache import TextCache
from eccos_rs.predict.calibration import Calibration, Scores, logit
from eccos_rs.predict.encoder import Encoded, open_encoder
from eccos_rs.predict.protocol import STAGES, Prediction
from eccos_rs.predict.retrieval import Retrieval
from eccos_rs.predict.tokenize import InputTokenEstimate, TextTokenizer, Tokens

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from eccos_rs.bundle import Bundle
    from eccos_rs.predict.neighbours import NeighbourEstimate
    from eccos_rs.query import Query

__all__ = ["BundlePredictor", "RetrievalPredictor", "TrainedPredictor"]

# Texts handled at once: enough to keep the device busy, few enough that memory stays flat and that the next
# texts are tokenised while these are encoded.
SLICE = 256
GPU_SLICE = 4096
# Texts remembered unless told otherwise: about 14 MB with an encoder of width 384.
CACHE_SIZE = 8192


class BundlePredictor:
    """What the predictors of a bundle have in common; make one with `Bundle.predictor`.

    Attributes
    ----------
    models : tuple of str
        The M column names.
    device, variant : str
        What runs the encoder (``"cpu"``, ``"cuda"``, ``"tensorrt"``), and in which arithmetic (``"float32"``,
        ``"int8"``, ``"float16"``).
    retrieval : Retrieval or None
        The labelled queries; online learning adds to them. None where only the heads are used.
    cache : TextCache
        Encoder outputs of texts that were seen before.
    """

    kind: ClassVar[str]
    uses_neighbours: ClassVar[bool] = True

    def __init__(
        self,
        bundle: Bundle,
        *,
        device: str = "auto",
        threads: int | None = None,
        variant: str | None = None,
        cache_size: int | None = None,
    ) -> None:
        encoder = bundle.table("encoder")
        self.models = bundle.models
        self.bundle_name, self.bundle_digest = bundle.name, bundle.digest
        self._encoder = open_encoder(bundle, device, threads, variant)
        self.device, self.variant = self._encoder.device, self._encoder.variant
        self._tokenizer = TextTokenizer(bundle.file(encoder["tokenizer"]), int(encoder["max_tokens"]))
        self._dimension = int(encoder["dimension"])
        self._input_tokens = InputTokenEstimate.from_table(bundle.manifest.get("input_tokens", {}))
        self._calibration = _read_calibration(bundle, self.kind)
        self.retrieval = Retrieval.from_bundle(bundle, device=self.device) if self.uses_neighbours else None
        self.cache: TextCache[NDArray[np.float32]] = TextCache(
            self._usual_cache() if cache_size is None else cache_size,
            f"{bundle.digest} {self.device} {self.variant}",
        )

    def _usual_cache(self) -> int:
        # Looking a text up and keeping it takes about as long as a GPU takes to encode it.
        return CACHE_SIZE if self.device == "cpu" else 0

    def predict(
        self, queries: Sequence[Query], *, progress: Callable[[int, int], None] | None = None
    ) -> Prediction:
        """Predict every query for every model.

        Parameters
        ----------
        queries : sequence of N Query
            Only their `prompt` is read.
        progress : callable, optional
            Called with the number of queries done and N, after each slice.

        Returns
        -------
        Prediction
            Rows in the order of `queries`, columns in the order of `models`. Memory beyond the result is
            bounded: the queries go through in slices.
        """
        rows, columns = len(queries), len(self.models)
        wide = {name: np.empty((rows, columns), dtype=np.float32) for name in _WIDE}
        input_tokens = np.empty(rows, dtype=np.int64)
        embedding = np.empty((rows, self._dimension), dtype=np.float32)
        similarity = np.full(rows, np.nan, dtype=np.float32) if self.uses_neighbours else None
        seconds = dict.fromkeys(STAGES, 0.0)
        for part, encoded, tokens in self._encoded_slices(queries, seconds):
            start = time.perf_counter()
            estimate = None if self.retrieval is None else self.retrieval.estimate(encoded.embedding)
            searched = time.perf_counter()
            near = None if estimate is None else estimate.similarity
            calibrated = self._calibration.apply(self._scores(encoded, estimate), near)
            for name, array in wide.items():
                array[part] = getattr(calibrated, name)
            input_tokens[part], embedding[part] = tokens, encoded.embedding
            if similarity is not None and near is not None:
                similarity[part] = near
            seconds["retrieve"] += searched - start
            seconds["predict"] += time.perf_counter() - searched
            if progress is not None:
                progress(min(part.stop, rows), rows)
        return Prediction(
            models=self.models,
            input_tokens=input_tokens,
            embedding=embedding,
            similarity=similarity,
            seconds=seconds,
            **wide,
        )

    def _scores(self, encoded: Encoded, estimate: NeighbourEstimate | None) -> Scores:
        """Turn heads and neighbours into uncalibrated scores; this is where the kinds differ."""
        raise NotImplementedError

    def _encoded_slices(
        self, queries: Sequence[Query], seconds: dict[str, float]
    ) -> Iterator[tuple[slice, Encoded, NDArray[np.int64]]]:
        """Yield slices of the batch, encoded, while the next one is being tokenised on another thread."""
        step = SLICE if self.device == "cpu" else GPU_SLICE
        parts = [slice(start, min(start + step, len(queries))) for start in range(0, len(queries), step)]
        if not parts:
            return
        if len(parts) == 1:
            start = time.perf_counter()
            batch = _Batch(self, [query.prompt for query in queries])
            seconds["tokenize"] += time.perf_counter() - start
            yield parts[0], *batch.encode(seconds)
            return
        with ThreadPoolExecutor(1, thread_name_prefix="eccos-tokenize") as pool:
            coming = pool.submit(_Batch, self, [query.prompt for query in queries[parts[0]]])
            for part, following in zip(parts, [*parts[1:], None], strict=True):
                start = time.perf_counter()
                batch = coming.result()
                if following is not None:
                    coming = pool.submit(_Batch, self, [query.prompt for query in queries[following]])
                # Only the wait counts: what runs beside the encoder costs nobody anything.
                seconds["tokenize"] += time.perf_counter() - start
                yield part, *batch.encode(seconds)

    def __repr__(self) -> str:
        name = type(self).__name__
        return f"{name}({self.bundle_name!r}, {len(self.models)} models, {self.device}, {self.variant})"


class _Batch:
    """One slice of texts: looked up in the cache, repeated texts joined, the rest tokenised."""

    def __init__(self, owner: BundlePredictor, texts: list[str]) -> None:
        self._owner = owner
        self._cached: list[NDArray[np.float32] | None]
        if owner.cache.enabled:
            self._keys = [owner.cache.key(text) for text in texts]
            first = {key: row for row, key in reversed(list(enumerate(self._keys)))}
            self._unique = [row for row, key in enumerate(self._keys) if first[key] == row]
            position = {self._keys[row]: at for at, row in enumerate(self._unique)}
            self._place = np.array([position[key] for key in self._keys], dtype=np.intp)
            self._cached = owner.cache.get_many([self._keys[row] for row in self._unique])
        else:
            self._keys = []
            self._unique = list(range(len(texts)))
            self._place = np.arange(len(texts))
            self._cached = [None] * len(texts)
        self._new = [at for at, value in enumerate(self._cached) if value is None]
        self._tokens: Tokens = owner._tokenizer([texts[self._unique[at]] for at in self._new])

    def encode(self, seconds: dict[str, float]) -> tuple[Encoded, NDArray[np.int64]]:
        """Return the encoder's outputs and the input tokens of all texts of the slice."""
        start = time.perf_counter()
        owner, new = self._owner, self._new
        models, dimension = len(owner.models), owner._dimension
        packed = np.empty((len(self._unique), dimension + 3 * models + 1), dtype=np.float32)
        for at, value in enumerate(self._cached):
            if value is not None:
                packed[at] = value
        if new:
            fresh = owner._encoder.run(self._tokens.ids)
            tokens = owner._input_tokens(self._tokens.pieces, self._tokens.characters)
            parts = (fresh.embedding, fresh.success_logit, fresh.length_mean, fresh.length_std)
            packed[new] = np.concatenate([*parts, tokens[:, None].astype(np.float32)], axis=1)
            if self._keys:
                keys = [self._keys[self._unique[at]] for at in new]
                owner.cache.put_many(keys, [packed[at].copy() for at in new])
        rows = packed[self._place]
        columns = np.split(rows, [dimension + count * models for count in range(4)], axis=1)
        encoded = Encoded(*(np.ascontiguousarray(column) for column in columns[:4]))
        seconds["encode"] += time.perf_counter() - start
        return encoded, np.rint(columns[4][:, 0]).astype(np.int64)


class TrainedPredictor(BundlePredictor):
    """The heads alone: success and output length straight from the graph, calibrated."""

    kind = "trained"
    uses_neighbours = False

    def _scores(self, encoded: Encoded, estimate: NeighbourEstimate | None) -> Scores:
        return head_scores(encoded)


class RetrievalPredictor(BundlePredictor):
    """The neighbours alone: labels of the nearest queries, weighted, shrunk, calibrated."""

    kind = "retrieval"

    def _scores(self, encoded: Encoded, estimate: NeighbourEstimate | None) -> Scores:
        assert estimate is not None  # uses_neighbours
        return neighbour_scores(estimate)


def head_scores(encoded: Encoded) -> Scores:
    """Return what the heads say."""
    return Scores(encoded.success_logit, encoded.length_mean, encoded.length_std)


def neighbour_scores(estimate: NeighbourEstimate) -> Scores:
    """Return what the neighbours say, in the heads' units."""
    return Scores(logit(estimate.success), estimate.length_mean, estimate.length_std)


_WIDE = ("quality", "output_tokens", "quality_std", "log_tokens_std")


def _read_calibration(bundle: Bundle, kind: str) -> Calibration:
    path = bundle.file(bundle.table("calibration")["file"])
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))[kind]
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, KeyError) as error:
        raise BundleError(f"{path}: the table [{kind}] cannot be read: {error}") from None
    return Calibration.from_table(table, len(bundle.models))
