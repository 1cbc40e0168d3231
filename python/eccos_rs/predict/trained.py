"""Predictors made of a bundle: text in slices through tokeniser, encoder, neighbours and calibration."""

from __future__ import annotations

import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from eccos_rs import _core
from eccos_rs.errors import BundleError
from eccos_rs.predict.bundle import Bundle
from eccos_rs.predict.cache import TextCache
from eccos_rs.predict.calibration import Calibrated, Calibration, Scores, blend, expit, logit
from eccos_rs.predict.encoder import open_encoder
from eccos_rs.predict.protocol import STAGES, Prediction
from eccos_rs.predict.retrieval import Retrieval
from eccos_rs.predict.tokenize import InputTokenEstimate, TextTokenizer, Tokens

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from eccos_rs.domain.query import Query
    from eccos_rs.predict.graph import Encoded
    from eccos_rs.predict.neighbours import NeighbourEstimate

__all__ = ["BundlePredictor", "RetrievalPredictor", "TrainedPredictor"]

# Texts handled at once: enough to keep the device busy, few enough that memory stays flat and that the next
# texts are tokenised while these are encoded.
SLICE = 256
GPU_SLICE = 4096
# Texts remembered unless told otherwise: about 14 MB with an encoder of width 384.
CACHE_SIZE = 8192


class BundlePredictor:
    """What the predictors of a bundle have in common; make one with `open_predictor`.

    Attributes
    ----------
    models : tuple of str
        The M column names.
    device, variant : str
        What runs the encoder (``"cpu"``, ``"cuda"``, ``"tensorrt"``), and in which precision (``"float32"``,
        ``"int8"``, ``"float16"``).
    retrieval : Retrieval or None
        The labelled queries; online learning adds to them. None where only the heads are used.
    cache : TextCache
        Encoder outputs of texts that were seen before.
    """

    kind: ClassVar[str]
    uses_heads: ClassVar[bool] = True
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
        self._opened = bundle, {
            "device": device, "threads": threads, "variant": variant, "cache_size": cache_size
        }  # fmt: skip
        self.models = bundle.models
        self.bundle, self.bundle_name, self.bundle_digest = bundle, bundle.name, bundle.digest
        self._encoder = open_encoder(bundle, device, threads, variant)
        self.device, self.variant = self._encoder.device, self._encoder.variant
        self._tokenizer = TextTokenizer(bundle.file(encoder["tokenizer"]), int(encoder["max_tokens"]))
        self._dimension = int(encoder["dimension"])
        self._input_tokens = InputTokenEstimate.from_table(bundle.manifest.get("input_tokens", {}))
        self._calibration = _read_calibration(bundle, self.kind)
        self.retrieval = Retrieval.from_bundle(bundle, device=self.device) if self.uses_neighbours else None
        shrinkage = None if self.retrieval is None else self.retrieval.shrinkage()
        self._forecaster = _core.Forecaster(self._calibration.constants(), shrinkage)
        self._level_std = _level_std(bundle, self._calibration)
        self.cache: TextCache[NDArray[np.float32]] = TextCache(
            self._usual_cache() if cache_size is None else cache_size,
            f"{bundle.digest} {self.device} {self.variant}",
        )

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle where the bundle lies, how it was opened and what was learned; the cache starts empty."""
        bundle, options = self._opened
        learned = None if self.retrieval is None else self.retrieval.learned()
        return _reopened, (type(self), bundle.reference, bundle.digest, options, learned)

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
            Their `question` is read; the tokens of what else they hold (`prompt`) are counted.
        progress : callable, optional
            Called with the number of queries done and N, after each slice.

        Returns
        -------
        Prediction
            Rows in the order of `queries`, columns in the order of `models`. Memory beyond the result is
            bounded: the queries go through in slices.
        """
        seconds = dict.fromkeys(STAGES, 0.0)
        parts: list[dict[str, NDArray[Any] | None]] = []
        for part, encoded, tokens in self._encoded_slices(queries, seconds):
            start = time.perf_counter()
            found = None if self.retrieval is None else self.retrieval.sums(encoded.embedding)
            searched = time.perf_counter()
            made = self._forecast(encoded, found)
            parts.append(
                {
                    "quality": made.quality,
                    "output_tokens": made.output_tokens,
                    "quality_std": made.quality_std,
                    "log_tokens_std": made.log_tokens_std,
                    "input_tokens": tokens,
                    "embedding": encoded.embedding,
                    "similarity": None if found is None else found[1],
                }
            )
            seconds["retrieve"] += searched - start
            seconds["predict"] += time.perf_counter() - searched
            if progress is not None:
                progress(part.stop, len(queries))
        arrays = _joined(parts or [self._nothing()])
        factor = self._input_tokens.model_factor
        return Prediction(
            models=self.models,
            level_std=self._level_std,
            input_factor=np.array(factor, dtype=np.float32) if factor else None,
            seconds=seconds,
            **arrays,
        )

    def _forecast(
        self, encoded: Encoded, found: tuple[NDArray[np.float32], NDArray[np.float32]] | None
    ) -> Calibrated:
        """Blend, calibrate and fade: compiled, or in numpy where a subclass has scores of its own."""
        if type(self)._scores is not BundlePredictor._scores:
            estimate = None if found is None or self.retrieval is None else self.retrieval.shrunk(*found)
            near = None if estimate is None else estimate.similarity
            return self._calibration.apply(self._scores(encoded, estimate), near)
        heads = (encoded.success_logit, encoded.length_mean, encoded.length_std) if self.uses_heads else None
        return Calibrated(*self._forecaster.forecast(heads, found))

    def _scores(self, encoded: Encoded, estimate: NeighbourEstimate | None) -> Scores:
        """Turn heads and neighbours into uncalibrated scores."""
        if estimate is None:
            return head_scores(encoded)
        if not self.uses_heads:
            return neighbour_scores(estimate)
        return blend(
            head_scores(encoded),
            neighbour_scores(estimate),
            success_weight=self._calibration.success_weight,
            length_weight=self._calibration.length_weight,
        )

    def _nothing(self) -> dict[str, NDArray[Any] | None]:
        """Return the arrays of no query at all."""
        wide = np.empty((0, len(self.models)), dtype=np.float32)
        return {
            **dict.fromkeys(("quality", "output_tokens", "quality_std", "log_tokens_std"), wide),
            "input_tokens": np.empty(0, dtype=np.int64),
            "embedding": np.empty((0, self._dimension), dtype=np.float32),
            "similarity": np.empty(0, dtype=np.float32) if self.uses_neighbours else None,
        }

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
            batch = _TextBatch(self, queries)
            seconds["tokenize"] += time.perf_counter() - start
            yield parts[0], *batch.encode(seconds)
            return
        with ThreadPoolExecutor(1, thread_name_prefix="eccos-tokenize") as pool:
            coming = pool.submit(_TextBatch, self, queries[parts[0]])
            for part, following in zip(parts, [*parts[1:], None], strict=True):
                start = time.perf_counter()
                batch = coming.result()
                if following is not None:
                    coming = pool.submit(_TextBatch, self, queries[following])
                # Only the wait counts: what runs beside the encoder costs nobody anything.
                seconds["tokenize"] += time.perf_counter() - start
                yield part, *batch.encode(seconds)

    def __repr__(self) -> str:
        name = type(self).__name__
        return f"{name}({self.bundle_name!r}, {len(self.models)} models, {self.device}, {self.variant})"


class _TextBatch:
    """One slice of texts: looked up in the cache, repeated texts joined, the rest tokenised."""

    def __init__(self, owner: BundlePredictor, queries: Sequence[Query]) -> None:
        self._owner = owner
        self._keys: list[bytes] = []
        texts = [query.question for query in queries]
        self._beside = _counted_beside(owner._tokenizer, queries, texts)
        if owner.cache.enabled:
            self._keys = [owner.cache.key(text) for text in texts]
            plan_text = dict(zip(reversed(self._keys), reversed(texts), strict=True))
            self._known = dict(zip(plan_text, owner.cache.get_many(list(plan_text)), strict=True))
            self._new = [key for key, value in self._known.items() if value is None]
            texts = [plan_text[key] for key in self._new]
        self._tokens: Tokens = owner._tokenizer(texts)

    def encode(self, seconds: dict[str, float]) -> tuple[Encoded, NDArray[np.int64]]:
        """Return the encoder's outputs and the input tokens of all texts of the slice."""
        start = time.perf_counter()
        owner = self._owner
        encoded = owner._encoder.run(self._tokens.ids)
        counted = np.stack([self._tokens.pieces, self._tokens.characters], axis=1)
        if self._keys:
            encoded, counted = self._with_known(encoded, counted)
        if self._beside is not None:
            counted = counted + self._beside
        tokens = owner._input_tokens(counted[:, 0], counted[:, 1], encoded.embedding)
        seconds["encode"] += time.perf_counter() - start
        return encoded, tokens

    def _with_known(
        self, fresh: Encoded, counted: NDArray[np.float64]
    ) -> tuple[Encoded, NDArray[np.float64]]:
        """Keep what is new, and put it together with what was known, in the order of the texts."""
        parts = tuple(vars(fresh).values())
        packed = np.concatenate([*parts, counted], axis=1, dtype=np.float32, casting="same_kind")
        made = [row.copy() for row in packed]
        self._owner.cache.put_many(self._new, made)
        if self._new == self._keys:
            return fresh, counted
        self._known.update(zip(self._new, made, strict=True))
        rows = np.array([self._known[key] for key in self._keys], dtype=np.float32)
        ends = np.cumsum([part.shape[1] for part in parts])
        *columns, counts = np.split(rows, ends, axis=1)
        encoded = type(fresh)(*(np.ascontiguousarray(column) for column in columns))
        return encoded, counts.astype(np.float64)


def _counted_beside(
    tokenizer: TextTokenizer, queries: Sequence[Query], questions: Sequence[str]
) -> NDArray[np.float64] | None:
    """Return word pieces and characters of what queries hold beside their question, (N, 2); None if nothing.

    Counted apart from the question, so that a chat costs no more than its parts.
    """
    chats = [row for row, query in enumerate(queries) if query.messages is not None]
    chats = [row for row in chats if queries[row].prompt != questions[row]]
    if not chats:
        return None
    whole = tokenizer([queries[row].prompt for row in chats])
    asked = tokenizer([questions[row] for row in chats])
    beside = np.zeros((len(queries), 2))
    beside[chats, 0] = np.maximum(whole.pieces - asked.pieces, 0.0)
    beside[chats, 1] = np.maximum(whole.characters - asked.characters, 0.0)
    return beside


def _reopened(
    kind: type[BundlePredictor], reference: str, digest: str, options: dict[str, Any], learned: Any
) -> BundlePredictor:
    """Open a predictor as it was when it was pickled."""
    bundle = Bundle.load(reference)
    if bundle.digest != digest:
        raise BundleError(
            f"{bundle.path}: another bundle than the one that was pickled "
            f"(sha256 {bundle.digest[:12]}… instead of {digest[:12]}…)"
        )
    made = kind(bundle, **options)
    if learned is not None and made.retrieval is not None:
        made.retrieval.restore(learned)
    return made


class TrainedPredictor(BundlePredictor):
    """The heads alone: success and output length straight from the graph, calibrated."""

    kind = "trained"
    uses_neighbours = False


class RetrievalPredictor(BundlePredictor):
    """The neighbours alone: labels of the nearest queries, weighted, shrunk, calibrated."""

    kind = "retrieval"
    uses_heads = False


def head_scores(encoded: Encoded) -> Scores:
    """Return what the heads say."""
    return Scores(encoded.success_logit, encoded.length_mean, encoded.length_std)


def neighbour_scores(estimate: NeighbourEstimate) -> Scores:
    """Return what the neighbours say, in the heads' units."""
    return Scores(logit(estimate.success), estimate.length_mean, estimate.length_std)


def _joined(parts: list[dict[str, NDArray[Any] | None]]) -> dict[str, Any]:
    """Put slices below each other."""
    if len(parts) == 1:
        return parts[0]
    joined: dict[str, Any] = {}
    for name in parts[0]:
        pieces = [piece for part in parts if (piece := part[name]) is not None]
        joined[name] = np.concatenate(pieces) if pieces else None
    return joined


def _level_std(bundle: Bundle, calibration: Calibration) -> NDArray[np.float32]:
    """Return how well each model's level is known on traffic like the training data, (M,), log odds.

    Of n labels with mean p the log odds have a standard deviation of 1 / sqrt(n p (1 - p)).
    """
    rows = max(int(bundle.table("retrieval")["rows"]), 1)
    mean = expit(calibration.prior_logit)
    return np.asarray(1.0 / np.sqrt(rows * mean * (1.0 - mean)), dtype=np.float32)


def _read_calibration(bundle: Bundle, kind: str) -> Calibration:
    path = bundle.file(bundle.table("calibration")["file"])
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8-sig"))[kind]
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, KeyError) as error:
        raise BundleError(f"{path}: the table [{kind}] cannot be read: {error}") from None
    return Calibration.from_table(table, len(bundle.models))
