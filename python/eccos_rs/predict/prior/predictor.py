"""Forecasts of models without a label: the text's curves with published scores laid over them."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from eccos_rs.errors import BundleError, InputError
from eccos_rs.predict.bundle import Bundle
from eccos_rs.predict.cache import TextCache
from eccos_rs.predict.encoder import open_encoder
from eccos_rs.predict.familiarity import AWAY_LENGTH_STD, familiarity
from eccos_rs.predict.prior.ability import lay_over
from eccos_rs.predict.prior.curves import GRID, Reading, open_curves
from eccos_rs.predict.prior.posterior import COMMON_FOREIGN_SD, FOREIGN_SD
from eccos_rs.predict.protocol import STAGES, Prediction
from eccos_rs.predict.shared import SharedErrors
from eccos_rs.predict.tokenize import InputTokenEstimate, TextTokenizer
from eccos_rs.predict.trained import BundlePredictor

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from eccos_rs.domain.query import Query
    from eccos_rs.predict.encoder import Encoder
    from eccos_rs.predict.graph import States
    from eccos_rs.predict.prior.curves import Curves
    from eccos_rs.predict.prior.known import ModelPrior

    Array = NDArray[np.float64]

__all__ = ["PriorPredictor"]

RESIDUAL_SHARE = 0.12
"""Share of p (1 - p) that is a property of the query and not a coin flip, measured on left-out models."""
LENGTH_STD, UNKNOWN_LENGTH_STD = 0.6, 0.4
"""Spread of ln tokens of single answers, and of a model's own level where no count of its is known."""
TOLD_LENGTH_STD, UNTOLD_PROMPT_STD = 0.2, 0.25
"""The same of a model's level where a mean was published, and of input tokens: what is sent along with the
text of a query is not known before any record. Published means against the answers to MMLU-Pro: 0.2 but for
two models that are off by a factor of three. Prompts of three sets: 1.0, 1.5 and 1.8 times their texts."""


@dataclass(frozen=True, eq=False)
class _Told:
    """What texts say, packed for the cache: unit vectors (N, D), the parts of a `Reading` (N, G+K+2)."""

    embedding: NDArray[np.float32]
    said: NDArray[np.float32]

    def reading(self) -> Reading:
        said = self.said.astype(np.float64)
        strengths = len(GRID)
        return Reading(said[:, :strengths], said[:, strengths:-2], said[:, -2], said[:, -1])


class _Reader:
    """An encoder whose states are read right away: what is kept of a text is small."""

    def __init__(self, encoder: Encoder, curves: Curves) -> None:
        self._encoder, self._curves = encoder, curves
        self.device, self.variant = encoder.device, encoder.variant

    def run(self, ids: Sequence[NDArray[np.int64]]) -> _Told:
        """Encode and read N texts."""
        states: States = self._encoder.run(ids)
        made = self._curves.read(states.states)
        packed = np.column_stack([made.curves, made.membership, made.length, made.similarity])
        return _Told(states.embedding, packed.astype(np.float32))


class PriorPredictor(BundlePredictor):
    """Forecasts any models from what is known of them; made by `Bundle.prior_predictor`.

    Parameters
    ----------
    bundle : Bundle
        One that names no model.
    priors : sequence of ModelPrior
        What is known of each of the M models.
    device, threads, variant, cache_size
        As in `Bundle.predictor`.

    Attributes
    ----------
    priors : tuple of ModelPrior
    categories : tuple of str
        The K categories of `Prediction.membership`.
    """

    kind = "prior"
    uses_neighbours = False

    def __init__(
        self,
        bundle: Bundle,
        priors: Sequence[ModelPrior],
        *,
        device: str = "auto",
        threads: int | None = None,
        variant: str | None = None,
        cache_size: int | None = None,
    ) -> None:
        if not priors:
            raise InputError("priors: got none, wanted what is known of at least one model")
        encoder, prior = bundle.table("encoder"), bundle.table("prior")
        self._opened = bundle, {
            "device": device, "threads": threads, "variant": variant, "cache_size": cache_size
        }  # fmt: skip
        self.categories = tuple(str(name) for name in prior["categories"])
        curves = open_curves(bundle.file(prior["curves"]), self.categories)
        self.priors, self.models = tuple(priors), tuple(each.name for each in priors)
        self._abilities = [lay_over(curves, each.known) for each in self.priors]
        self.bundle, self.bundle_name, self.bundle_digest = bundle, bundle.name, bundle.digest
        self._encoder = _Reader(open_encoder(bundle, device, threads, variant), curves)
        self.device, self.variant = self._encoder.device, self._encoder.variant
        self._tokenizer = TextTokenizer(bundle.file(encoder["tokenizer"]), int(encoder["max_tokens"]))
        self._dimension = int(encoder["dimension"])
        self._input_tokens = InputTokenEstimate.from_table(bundle.manifest.get("input_tokens", {}))
        self.retrieval = None
        self.cache = TextCache(
            self._usual_cache() if cache_size is None else cache_size,
            f"{bundle.digest} {self.device} {self.variant}",
        )
        usual = float(curves.reference.reading.length.mean())
        self._usual_tokens = np.array([each.tokens.mean() * np.exp(usual) for each in self._abilities])

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle where the bundle lies, how it was opened and what is known of the models."""
        bundle, options = self._opened
        return _reopened, (bundle.reference, bundle.digest, self.priors, options)

    @property
    def level_std(self) -> Array:
        """Standard deviation of each model's level, log odds, (M,)."""
        return np.array([each.level_std for each in self.priors])

    @property
    def length_std(self) -> NDArray[np.float32]:
        """Standard deviation of ln of each model's total output tokens, (M,)."""
        told = [TOLD_LENGTH_STD if each.tokens_told else UNKNOWN_LENGTH_STD for each in self.priors]
        return np.array(told, dtype=np.float32)

    @property
    def prompt_std(self) -> float:
        """Standard deviation of ln of the total of input tokens."""
        return UNTOLD_PROMPT_STD

    def predict(
        self, queries: Sequence[Query], *, progress: Callable[[int, int], None] | None = None
    ) -> Prediction:
        """Predict every query for every model; see `Predictor`."""
        seconds = dict.fromkeys(STAGES, 0.0)
        parts = []
        for part, told, tokens in self._encoded_slices(queries, seconds):
            start = time.perf_counter()
            parts.append(self._forecast_told(told, tokens))  # type: ignore[arg-type]  # what `_Reader` gives
            seconds["predict"] += time.perf_counter() - start
            if progress is not None:
                progress(part.stop, len(queries))
        if not parts:
            nothing = np.empty((0, len(GRID) + len(self.categories) + 2), dtype=np.float32)
            empty = _Told(np.empty((0, self._dimension), dtype=np.float32), nothing)
            parts.append(self._forecast_told(empty, np.empty(0, dtype=np.int64)))
        made = parts[0] if len(parts) == 1 else Prediction.concatenate(parts)
        return replace(made, seconds=seconds)

    def _forecast_told(self, told: _Told, input_tokens: NDArray[np.int64]) -> Prediction:
        reading = told.reading()
        known = familiarity(reading.similarity).astype(np.float64)[:, None]
        means = np.array([each.mean for each in self._abilities])
        z = np.column_stack([each.log_odds(reading) for each in self._abilities])
        quality = 0.5 * (1.0 + np.tanh(0.5 * (means + known * (z - means))))
        tokens = np.column_stack([each.output_tokens(reading) for each in self._abilities])
        # A faded length is the model's usual one, as a faded forecast is its mean.
        tokens = self._usual_tokens * (np.maximum(tokens, 1.0) / self._usual_tokens) ** known
        flip, away = quality * (1.0 - quality), 1.0 - known
        level = self.level_std**2 + away * (COMMON_FOREIGN_SD**2 + FOREIGN_SD**2)
        unknown = np.array([0.0 if each.tokens_told else UNKNOWN_LENGTH_STD for each in self.priors])
        spread = np.sqrt(LENGTH_STD**2 + unknown**2 + np.square(AWAY_LENGTH_STD * away))
        arrays = {
            "quality": quality,
            "output_tokens": np.maximum(tokens, 1.0),
            "quality_std": np.sqrt(RESIDUAL_SHARE * flip + flip**2 * level),
            "log_tokens_std": spread,
            "similarity": reading.similarity,
            "membership": reading.membership,
            "level_std": self.level_std,
        }
        return Prediction(
            models=self.models,
            input_tokens=input_tokens,
            embedding=told.embedding,
            shared=SharedErrors(self.length_std, self.prompt_std),
            **{name: np.asarray(values, dtype=np.float32) for name, values in arrays.items()},  # type: ignore[arg-type]  # the names are fields
        )


def _reopened(
    reference: str, digest: str, priors: tuple[ModelPrior, ...], options: dict[str, Any]
) -> PriorPredictor:
    """Open a predictor as it was when it was pickled."""
    bundle = Bundle.load(reference)
    if bundle.digest != digest:
        raise BundleError(
            f"{bundle.path}: another bundle than the one that was pickled "
            f"(sha256 {bundle.digest[:12]}… instead of {digest[:12]}…)"
        )
    return PriorPredictor(bundle, priors, **options)
