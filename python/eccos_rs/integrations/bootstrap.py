"""A retrieval store from labelled queries: the bundle's encoder, somebody else's outcomes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eccos_rs.domain.query import Query
from eccos_rs.errors import InputError, RecordError
from eccos_rs.predict.index import ExactIndex
from eccos_rs.predict.neighbours import NeighbourSettings
from eccos_rs.predict.protocol import Prediction
from eccos_rs.predict.retrieval import Retrieval

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from os import PathLike

    from numpy.typing import NDArray

    from eccos_rs.predict.protocol import Predictor

__all__ = ["StorePredictor"]

_SPARE = 16_384
"""Judged answers that may be added online before the oldest of them makes room."""


class StorePredictor:
    """Predicts from the outcomes of the nearest queries of a store, shrunk towards each model's mean.

    It has no trained heads and no calibration split, so its numbers are those of `RetrievalPredictor` before
    calibration. It learns online like that one.

    Parameters
    ----------
    encoder : Predictor
        Makes the embeddings and counts the prompt tokens, such as any predictor of a bundle.
    queries : sequence of str
        n texts.
    success : ndarray of float32, shape (n, M)
        In [0, 1]; NaN where not observed.
    output_tokens : ndarray of float32, shape (n, M)
        NaN where not observed.
    models : sequence of str
        M names.
    neighbours : int
        How many are looked at.
    """

    def __init__(
        self,
        encoder: Predictor,
        queries: Sequence[str],
        success: NDArray[np.float32],
        output_tokens: NDArray[np.float32],
        models: Sequence[str],
        *,
        neighbours: int = 128,
    ) -> None:
        self.models = tuple(models)
        self._encoder = encoder
        self._missing = [name for at, name in enumerate(models) if np.isnan(success[:, at]).all()]
        if self._missing:
            raise InputError(
                f"success: no outcome of {', '.join(map(repr, self._missing))} among the queries"
            )
        embedding = encoder.predict([Query(text) for text in queries]).embedding
        if embedding is None:
            raise InputError(f"encoder: got {type(encoder).__name__}, which makes no embeddings")
        log_tokens = np.log1p(output_tokens)
        priors = {
            "prior_success": np.clip(np.nanmean(success, axis=0), 0.01, 0.99),
            "prior_length_mean": np.nanmean(log_tokens, axis=0),
            "prior_length_std": np.nanstd(log_tokens, axis=0) + 0.1,
        }
        settings = NeighbourSettings(neighbours=neighbours)
        self.retrieval = Retrieval(ExactIndex(embedding), success, log_tokens, settings, priors, spare=_SPARE)

    @classmethod
    def load(
        cls,
        path: str | PathLike[str],
        encoder: Predictor,
        models: Sequence[str],
        *,
        aliases: Mapping[str, str] | None = None,
        neighbours: int = 128,
        skip_missing: bool = False,
    ) -> StorePredictor:
        """Read AIOS's bootstrap file: JSON or JSON lines of a query with ``outputs``.

        Each output has ``model_name``, ``correctness`` and ``output_token_length``; other keys (AIOS drops
        ``prediction``) are ignored, and so are models that are not asked for.

        Parameters
        ----------
        path : path
        encoder : Predictor
        models : sequence of str
        aliases : mapping of str to str, optional
            From a name in `models` to the one the file has for it.
        neighbours : int
        skip_missing : bool
            Leave out models without an outcome in the file, instead of refusing them.

        Returns
        -------
        StorePredictor

        Raises
        ------
        RecordError
            The file is malformed; the row is named.
        InputError
            It has no outcome of one of the models.
        """
        wanted = {(aliases or {}).get(name, name): at for at, name in enumerate(models)}
        rows = _read(Path(path))
        success = np.full((len(rows), len(models)), np.nan, dtype=np.float32)
        tokens = success.copy()
        for at, row in enumerate(rows):
            for output in row["outputs"]:
                column = wanted.get(output["model_name"])
                if column is not None:
                    success[at, column] = output["correctness"]
                    tokens[at, column] = output["output_token_length"]
        known = np.flatnonzero(~np.isnan(success).all(axis=1))
        texts = [str(rows[at]["query"]) for at in known.tolist()]
        if not texts:
            raise InputError(f"{path}: no query has an outcome of {', '.join(map(repr, wanted))}")
        if skip_missing:
            seen = np.flatnonzero(~np.isnan(success).all(axis=0))
            success, tokens = success[:, seen], tokens[:, seen]
            models = [models[at] for at in seen.tolist()]
        neighbours = min(neighbours, len(texts))
        return cls(encoder, texts, success[known], tokens[known], models, neighbours=neighbours)

    def predict(self, queries: Sequence[Query]) -> Prediction:
        """Predict every query for every model."""
        encoded = self._encoder.predict(queries)
        assert encoded.embedding is not None  # checked when the store was made
        found = self.retrieval.estimate(encoded.embedding)
        # The mean of a log-normal: the exponential of the mean log length alone is far too low.
        output = np.expm1(found.length_mean + 0.5 * found.length_std**2)
        spread = np.sqrt(found.success * (1 - found.success) / 16)
        return Prediction(
            models=self.models,
            quality=np.clip(found.success, 0.0, 1.0).astype(np.float32),
            output_tokens=np.maximum(output, 1.0).astype(np.float32),
            quality_std=spread.astype(np.float32),
            log_tokens_std=found.length_std.astype(np.float32),
            input_tokens=encoded.input_tokens,
            embedding=encoded.embedding,
            similarity=found.similarity,
            seconds=encoded.seconds,
        )


def _read(path: Path) -> list[dict[str, Any]]:
    from eccos_rs.records.files import iter_rows

    if not path.is_file():
        raise RecordError(f"{path}: there is no such file")
    rows = []
    for number, row in iter_rows(path):
        where = f"{path.name}, row {number}"
        if not isinstance(row.get("query"), str):
            raise RecordError(f"{where}: query must be a text, got {row.get('query')!r}")
        outputs = row.get("outputs")
        if not isinstance(outputs, list) or not all(isinstance(each, dict) for each in outputs):
            raise RecordError(f"{where}: outputs must be a list of objects, got {outputs!r}")
        for at, output in enumerate(outputs):
            if not isinstance(output.get("model_name"), str):
                raise RecordError(f"{where}: outputs[{at}].model_name must be a text")
            output["correctness"] = _number(output, "correctness", 1.0, f"{where}: outputs[{at}]")
            output["output_token_length"] = _number(
                output, "output_token_length", math.inf, f"{where}: outputs[{at}]"
            )
        rows.append(row)
    return rows


def _number(output: dict[str, Any], key: str, most: float, where: str) -> float:
    value = output.get(key)
    if not isinstance(value, int | float) or not 0 <= value <= most or math.isinf(value):
        wanted = "true, false or a number in [0, 1]" if most == 1.0 else "a number of at least 0"
        raise RecordError(f"{where}.{key} must be {wanted}, got {value!r}")
    return float(value)
