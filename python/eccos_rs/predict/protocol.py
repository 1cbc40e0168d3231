"""The Predictor protocol: for every query and model, the odds of a good answer and its length."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from eccos_rs.errors import InputError
from eccos_rs.predict.familiarity import AWAY_LENGTH_STD, familiarity

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from eccos_rs.domain.query import Query
    from eccos_rs.predict.shared import SharedErrors

__all__ = ["Prediction", "Predictor"]

# The order in which `seconds` is reported: the order in which the stages run.
STAGES = ("tokenize", "encode", "retrieve", "predict")
# Fields that hold one entry a model, not one row a query.
_PER_MODEL = ("models", "level_std", "input_factor", "shared")


@dataclass(frozen=True, eq=False)
class Prediction:
    """What is expected of M models on N queries.

    Attributes
    ----------
    models : tuple of str
        The M column names, in column order.
    quality : ndarray of float32, shape (N, M)
        Calibrated probability, in [0, 1], that the model answers the query well.
    output_tokens : ndarray of float32, shape (N, M)
        Expected number of output tokens.
    quality_std : ndarray of float32, shape (N, M)
        Standard deviation of the error of `quality` (not of the coin flip that `quality` describes).
    log_tokens_std : ndarray of float32, shape (N, M)
        Standard deviation of ln(1 + output tokens).
    input_tokens : ndarray of int64, shape (N,)
        Estimated number of prompt tokens as a provider counts them.
    embedding : ndarray of float32, shape (N, D), or None
        Unit vectors of the queries, when the predictor makes them.
    similarity : ndarray of float32, shape (N,), or None
        Cosine similarity of the nearest query with known outcomes; NaN where nothing was searched.
    membership : ndarray of float32, shape (N, K), or None
        Shares of the categories that the predictor knows, when it knows any.
    level_std : ndarray of float32, shape (M,), or None
        Standard deviation, in log odds, of the error that all forecasts of a model share: how well its level
        is known. None where the predictor does not say.
    input_factor : ndarray of float32, shape (M,), or None
        What each model counts of a prompt over `input_tokens`; None where all count alike.
    shared : SharedErrors or None
        Errors that all queries share beyond `level_std`; None: as `usual_errors` has them.
    seconds : mapping of str to float
        Time spent in the stages ``tokenize``, ``encode``, ``retrieve`` and ``predict``, in seconds.
    """

    models: tuple[str, ...]
    quality: NDArray[np.float32]
    output_tokens: NDArray[np.float32]
    quality_std: NDArray[np.float32]
    log_tokens_std: NDArray[np.float32]
    input_tokens: NDArray[np.int64]
    embedding: NDArray[np.float32] | None = None
    similarity: NDArray[np.float32] | None = None
    membership: NDArray[np.float32] | None = None
    level_std: NDArray[np.float32] | None = None
    input_factor: NDArray[np.float32] | None = None
    shared: SharedErrors | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        rows, columns = len(self.input_tokens), len(self.models)
        for name in ("quality", "output_tokens", "quality_std", "log_tokens_std"):
            got = np.shape(getattr(self, name))
            if got != (rows, columns):
                raise InputError(f"{name}: got shape {got}, wanted {(rows, columns)} (queries, models)")
        for name in ("embedding", "similarity", "membership"):
            array = getattr(self, name)
            if array is not None and len(array) != rows:
                raise InputError(f"{name}: got {len(array)} rows, wanted {rows}, one per query")
        if self.shared is not None and np.shape(self.shared.length) != (columns,):
            got = np.shape(self.shared.length)
            raise InputError(f"shared.length: got shape {got}, wanted ({columns},), one per model")
        for name in ("level_std", "input_factor"):
            array = getattr(self, name)
            if array is not None and np.shape(array) != (columns,):
                raise InputError(f"{name}: got shape {np.shape(array)}, wanted ({columns},), one per model")

    def __len__(self) -> int:
        return len(self.input_tokens)

    @property
    def familiar(self) -> NDArray[np.float32] | None:
        """How like known ground each query is, 0 to 1, (N,); None where the predictor does not say.

        See `eccos_rs.predict.familiarity`.
        """
        return None if self.similarity is None else familiarity(self.similarity)

    @property
    def log_tokens(self) -> NDArray[np.float64]:
        """Expected ln(1 + output tokens), (N, M): a median, where `output_tokens` is a mean.

        What is unknown of foreign traffic as a whole widens `log_tokens_std` and leaves the mean, so that it
        takes no part here.
        """
        variance = np.square(self.log_tokens_std, dtype=np.float64)
        if self.familiar is not None:
            variance -= np.square(AWAY_LENGTH_STD * (1.0 - self.familiar.astype(np.float64)))[:, None]
        return np.log1p(self.output_tokens.astype(np.float64)) - 0.5 * np.maximum(variance, 0.0)

    def select(self, names: Sequence[str]) -> Prediction:
        """Take the columns of some models, in the given order.

        Parameters
        ----------
        names : sequence of str
            Names out of `models`.

        Returns
        -------
        Prediction
            The same queries; the arrays are copies.

        Raises
        ------
        InputError
            If a name is not one of `models`.
        """
        if tuple(names) == self.models:
            return self
        position = {name: column for column, name in enumerate(self.models)}
        unknown = [name for name in names if name not in position]
        if unknown:
            raise InputError(f"names: no prediction for {unknown}; this predictor knows {list(self.models)}")
        columns = [position[name] for name in names]
        return replace(
            self,
            models=tuple(names),
            quality=self.quality[:, columns],
            output_tokens=self.output_tokens[:, columns],
            quality_std=self.quality_std[:, columns],
            log_tokens_std=self.log_tokens_std[:, columns],
            level_std=None if self.level_std is None else self.level_std[columns],
            input_factor=None if self.input_factor is None else self.input_factor[columns],
            shared=None if self.shared is None else self.shared.select(columns),
        )

    def rows(self, index: NDArray[np.intp] | slice) -> Prediction:
        """Take some queries, in the given order; the models and the times stay."""
        arrays = {
            each.name: getattr(self, each.name)[index]
            for each in fields(self)
            if each.name not in _PER_MODEL and isinstance(getattr(self, each.name), np.ndarray)
        }
        return replace(self, **arrays)

    def without_embedding(self) -> Prediction:
        """Return the same without embeddings and memberships, which are most of its memory."""
        # Not by `replace`: all that stays was checked when this was made.
        made = object.__new__(type(self))
        made.__dict__.update(self.__dict__, embedding=None, membership=None)
        return made

    @classmethod
    def concatenate(cls, parts: Sequence[Prediction]) -> Prediction:
        """Put predictions for the same models below each other; the times add up.

        Raises
        ------
        InputError
            If `parts` is empty or the parts are for different models.
        """
        if not parts:
            raise InputError("parts: got none, wanted at least one prediction")
        first = parts[0]
        if any(part.models != first.models for part in parts):
            raise InputError("parts: got predictions for different models, wanted one set in one order")
        arrays: dict[str, NDArray[np.generic] | None] = {}
        for each in fields(cls):
            if each.name in _PER_MODEL or each.name == "seconds":
                continue
            pieces = [getattr(part, each.name) for part in parts]
            arrays[each.name] = None if any(piece is None for piece in pieces) else np.concatenate(pieces)
        seconds: dict[str, float] = {}
        for part in parts:
            for stage, spent in part.seconds.items():
                seconds[stage] = seconds.get(stage, 0.0) + spent
        shared = {name: getattr(first, name) for name in _PER_MODEL}
        return cls(seconds=seconds, **shared, **arrays)  # type: ignore[arg-type]

    def __repr__(self) -> str:
        spent = ", ".join(f"{stage} {1e3 * took:.1f} ms" for stage, took in self.seconds.items())
        return f"Prediction({len(self)} queries x {len(self.models)} models{', ' if spent else ''}{spent})"


@runtime_checkable
class Predictor(Protocol):
    """Anything that turns queries into a `Prediction`.

    A predictor of one's own needs no more than these two members; `Router` asks for nothing else.
    """

    @property
    def models(self) -> tuple[str, ...]:
        """The names of the models it knows, in column order."""
        ...

    def predict(self, queries: Sequence[Query]) -> Prediction:
        """Predict every query for every model; the rows are in the order of `queries`."""
        ...
