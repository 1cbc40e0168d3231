"""Forecasts of one bundle in every way: calibrated and raw, heads, neighbours and both."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from eccos_rs.errors import BundleError
from eccos_rs.evaluate.evidence import neighbour_means
from eccos_rs.evaluate.methods.base import Predictions
from eccos_rs.predict.open import open_predictor

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from eccos_rs.domain.query import Query
    from eccos_rs.pools.pool import Pool
    from eccos_rs.predict.bundle import Bundle
    from eccos_rs.predict.calibration import Scores
    from eccos_rs.predict.graph import Encoded
    from eccos_rs.predict.neighbours import NeighbourEstimate
    from eccos_rs.predict.protocol import Prediction
    from eccos_rs.records import RecordTable

__all__ = ["PLAIN", "Forecasts", "trained_texts"]

PLAIN = "raw kNN16"
NEIGHBOURS = 16


def trained_texts(bundle: Bundle) -> list[str] | None:
    """Return the fingerprints of the texts that a bundle was trained on, in order; None if it keeps none."""
    from eccos_rs.records.fingerprint import decode_fingerprints

    provenance = bundle.manifest.get("provenance", {})
    name = provenance.get("train_texts_sha256") if isinstance(provenance, dict) else None
    if not isinstance(name, str):
        return None
    path = bundle.file(name)
    return decode_fingerprints(path.read_bytes(), str(path))


def _never_moved(bundle: Bundle) -> bool:
    """Say whether the labels of a bundle are as observed, by what it records of its training."""
    provenance = bundle.manifest.get("provenance", {})
    if not isinstance(provenance, dict):
        return False
    shares = provenance.get("teacher_shares")
    if isinstance(shares, dict):
        return not any(shares.values())
    options = provenance.get("options")
    return isinstance(options, dict) and options.get("teacher_share") == 0


class Forecasts:
    """The predictors of one bundle, sharing what the encoder said."""

    def __init__(self, bundle: Bundle, device: str, threads: int | None) -> None:
        self.bundle = bundle
        self.options: dict[str, Any] = {"device": device, "threads": threads}
        self.hybrid = open_predictor(bundle, "hybrid", **self.options)

    def described(self) -> str:
        """Say in which precision, and where, the encoder runs."""
        return f"{self.hybrid.variant} on {self.hybrid.device}"

    def first(self, queries: Sequence[Query], advance: Callable[[int], object]) -> Prediction:
        """Encode everything, and forecast with the hybrid."""
        told = 0

        def count(done: int, total: int) -> None:
            nonlocal told
            advance(done - told)
            told = done

        return self.hybrid.predict(queries, progress=count)

    def _other(self, kind: str, queries: Sequence[Query]) -> Prediction:
        made = open_predictor(self.bundle, kind, **self.options)
        made.cache = self.hybrid.cache
        return made.predict(queries)

    def predictions(
        self, pool: Pool, table: RecordTable, queries: Sequence[Query], first: Prediction
    ) -> dict[str, Predictions]:
        """Return predictions for each kind of forecast; `PLAIN` only where observed labels are known.

        Parameters
        ----------
        pool : Pool
            Prices, in the order of the table's models.
        table : RecordTable
            All the data: the outcomes of the queries that were trained on are the plain neighbours' labels.
        queries : sequence of Query
            To forecast.
        first : Prediction
            What `first` gave for them.
        """
        from eccos_rs.routing.problem import query_costs

        names = table.models
        encoding = first.seconds.get("tokenize", 0.0) + first.seconds.get("encode", 0.0)
        found: dict[str, Predictions] = {}
        if (plain := self._plain(pool, table, first, encoding)) is not None:
            found[PLAIN] = plain
        for kind in ("retrieval", "trained", "hybrid"):
            made = first if kind == "hybrid" else self._other(kind, queries)
            own = made.seconds.get("retrieve", 0.0) + made.seconds.get("predict", 0.0)
            made = made.select(names)
            cost = query_costs(pool, made)
            found[kind] = Predictions(
                kind, made.quality, cost, made.log_tokens, (encoding + own) / max(1, len(queries))
            )
        found["raw hybrid"] = self._uncalibrated(queries, names, found["hybrid"])
        return found

    def _plain(
        self, pool: Pool, table: RecordTable, first: Prediction, encoding: float
    ) -> Predictions | None:
        """Average the observed outcomes of 16 neighbours without weights, as AIOS does; None if unknown."""
        from eccos_rs.predict.index import open_index
        from eccos_rs.predict.retrieval import vector_file

        labels = self._labels(table)
        if labels is None:
            return None
        success, tokens = labels
        if first.embedding is None:
            raise BundleError(
                f"{self.bundle.path}: its predictor gives no embeddings to find neighbours with"
            )
        index = open_index(vector_file(self.bundle), first.embedding.shape[1], len(success))
        started = time.perf_counter()
        _, near = index.search(first.embedding, min(NEIGHBOURS, len(success)))
        spent = encoding + time.perf_counter() - started
        prices = np.array([(model.input_price, model.output_price) for model in pool], dtype=np.float64)
        return neighbour_means(
            PLAIN, near=near, success=success, tokens=tokens, input_tokens=first.input_tokens,
            prices=prices, seconds=spent / max(1, len(near)),
        )  # fmt: skip

    def _labels(self, table: RecordTable) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]] | None:
        """Return success and tokens of the known queries as observed; None where nothing tells them.

        A bundle may keep labels that training has denoised; the plain rule must not profit from that. They
        are raw where the bundle says so or keeps the observed ones beside them, or where the data hold every
        query it knows.
        """
        from eccos_rs.records.fingerprint import fingerprint

        columns = [self.bundle.models.index(name) for name in table.models]
        path = self.bundle.file(self.bundle.table("retrieval")["labels"])
        with np.load(path, allow_pickle=False) as labels:
            kept = "observed" if "observed" in labels else "success"
            success = labels[kept].astype(np.float32)[:, columns]
            tokens = np.expm1(labels["log_tokens"].astype(np.float32)[:, columns])
        if kept == "observed" or _never_moved(self.bundle):
            return success, tokens
        texts = trained_texts(self.bundle)
        if texts is None or len(texts) != len(success):
            return None
        place = {fingerprint(text): row for row, text in reversed(list(enumerate(table.query)))}
        known = np.array([place.get(text, -1) for text in texts])
        if (known < 0).any():
            return None
        return table.quality[known], table.output_tokens[known]

    def _uncalibrated(
        self, queries: Sequence[Query], names: Sequence[str], hybrid: Predictions
    ) -> Predictions:
        """Make the same forecast without its calibration: raw scores for the same encoder and neighbours."""
        from eccos_rs.predict.calibration import expit
        from eccos_rs.predict.hybrid import HybridPredictor

        kept: list[npt.NDArray[np.float32]] = []

        class Raw(HybridPredictor):
            def _scores(self, encoded: Encoded, estimate: NeighbourEstimate | None) -> Scores:
                scores = super()._scores(encoded, estimate)
                kept.append(scores.success_logit)
                return scores

        raw = Raw(self.bundle, **self.options)
        raw.cache = self.hybrid.cache
        raw.predict(queries)
        columns = [self.bundle.models.index(name) for name in names]
        quality = expit(np.concatenate(kept))[:, columns]
        return Predictions("raw hybrid", quality, hybrid.cost, None, hybrid.seconds)
