"""A predictor with what its labels and feedback have taught laid over it; nothing is trained anew."""

from __future__ import annotations

import threading
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from eccos_rs.errors import InputError
from eccos_rs.predict.calibration import expit
from eccos_rs.predict.familiarity import AWAY_LENGTH_STD, away_share, familiarity
from eccos_rs.predict.prior.lexical import DIMENSION, sketch_words
from eccos_rs.predict.prior.posterior import Observations, Posterior, PriorWidths, fit_posterior
from eccos_rs.predict.prior.tokens import TokenLevels, distinct_rows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from eccos_rs.domain.query import Query
    from eccos_rs.predict.protocol import Prediction, Predictor

__all__ = ["LearnedPredictor", "ModelOutcome"]

USUAL_LEVEL_STD, USUAL_CATEGORY_STD = 0.1, 0.25
"""Of a predictor that does not say: one that was trained on labels of its models."""
MOST_NEAR = 2_048
"""So many labelled queries, the newest, count as known ground."""
MOST_OUTCOMES = 20_000
"""So many are kept, the newest of each model and channel; a model's level is settled long before."""
_REFIT = 0.02
"""Feedback is taken up when so much of what is kept is new."""


@dataclass(frozen=True, slots=True)
class ModelOutcome:
    """How a model answered one query.

    Parameters
    ----------
    model : str
    good : float
        In [0, 1]; NaN where only its tokens were counted.
    output_tokens : float
        NaN where not counted.
    channel : str or None
        None for an honest label; else the channel of feedback it came through.
    input_tokens : float
        Of the prompt as it was sent and counted; NaN where not counted.
    """

    model: str
    good: float
    output_tokens: float = float("nan")
    channel: str | None = None
    input_tokens: float = float("nan")


class LearnedPredictor:
    """A predictor sharpened by outcomes; safe to share between threads.

    Parameters
    ----------
    base : Predictor
        Its forecasts are the prior; it must give embeddings for the kernel regression on what is left.
    """

    def __init__(self, base: Predictor) -> None:
        self.base = base
        self._column = {name: at for at, name in enumerate(base.models)}
        self._channels: list[str] = []
        self._kept: dict[str, NDArray[Any]] = {}
        self._posterior: Posterior | None = None
        self._tokens = TokenLevels.unknown(base)
        self._known: NDArray[np.float32] | None = None
        self._new = 0
        self._lock = threading.RLock()

    @property
    def models(self) -> tuple[str, ...]:
        """The names of the models it knows."""
        return self.base.models

    @property
    def labels(self) -> dict[str, int]:
        """Graded outcomes kept of each model, feedback included."""
        return self._count("good")

    @property
    def counts(self) -> dict[str, int]:
        """Answers kept of each model whose tokens were counted."""
        return self._count("output_tokens")

    def copy(self) -> LearnedPredictor:
        """Return one that has learned the same, and may go on to learn something else."""
        other = LearnedPredictor(self.base)
        with self._lock:
            # What is learned makes new arrays, so that the old ones may be shared.
            other._channels, other._kept, other._new = list(self._channels), dict(self._kept), self._new
            other._posterior, other._tokens, other._known = self._posterior, self._tokens, self._known
        return other

    def level_std_for(self, model: str) -> float:
        """Return the standard deviation of a model's level, log odds."""
        return float(self._level_std()[self._column[model]])

    def learn(self, queries: Sequence[Query], outcomes: Sequence[ModelOutcome], *, now: bool = True) -> int:
        """Take up outcomes, one per query.

        Parameters
        ----------
        queries, outcomes : sequences of one length
        now : bool
            Else they are taken up by a later `predict`, when 2 % of what is kept is new: feedback that comes
            one by one need not be fitted one by one.

        Returns
        -------
        int
            How many were of models it knows.

        Raises
        ------
        InputError
            A value leaves its range.
        """
        if len(queries) != len(outcomes):
            raise InputError(f"outcomes: got {len(outcomes)} for {len(queries)} queries")
        pairs = [pair for pair in zip(queries, outcomes, strict=True) if pair[1].model in self._column]
        for _, each in pairs:
            _check(each)
        if not pairs:
            return 0
        texts = list({query.prompt: query for query, _ in pairs}.values())
        row_of = {query.prompt: row for row, query in enumerate(texts)}
        made = self.base.predict(texts)
        words = sketch_words([query.question for query in texts])
        rows = np.array([row_of[query.prompt] for query, _ in pairs])
        columns = np.array([self._column[each.model] for _, each in pairs])
        with self._lock:
            channels = [-1 if each.channel is None else self._number(each.channel) for _, each in pairs]
            described = _described(made, rows, columns, [each for _, each in pairs], channels)
            self._keep({**described, "words": words[rows]})
            self._new += len(pairs)
            if now:
                self._refit()
        return len(pairs)

    def predict(self, queries: Sequence[Query]) -> Prediction:
        """Predict every query for every model; see `Predictor`."""
        made = self.base.predict(queries)
        with self._lock:
            if self._new > _REFIT * len(self._kept.get("good", ())):
                self._refit()
            posterior, tokens, known = self._posterior, self._tokens, self._known
        if posterior is None:
            return made
        foreign = _foreign(made)
        words = sketch_words([query.question for query in queries]) if posterior.reads_words else None
        after = posterior.log_odds(
            _log_odds(made.quality), _memberships(made), foreign, made.embedding, words
        )
        quality = expit(after)
        # What was unknown of the level goes, what is a property of the query stays.
        before, now = self._prior_level_std(), posterior.level_std
        flip = np.square(quality * (1.0 - quality))
        variance = np.square(made.quality_std) + flip * (np.square(now) - np.square(before))
        return replace(
            made,
            quality=quality.astype(np.float32),
            quality_std=np.sqrt(np.maximum(variance, 1e-6)).astype(np.float32),
            level_std=now.astype(np.float32),
            shared=tokens.shared(
                posterior.level_covariance(float(foreign.mean()) if len(foreign) else 0.0),
                away_share(1.0 - foreign),
            ),
            **tokens.corrected(made),
            **_nearer(made, foreign, known),
        )

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the predictor below and what was learned."""
        return LearnedPredictor.restored, (self.base, self.state())

    def state(self) -> dict[str, NDArray[Any]]:
        """Return all that was learned from, as arrays; `restored` reads them back."""
        wide = ("embedding", "words")
        kept = {n: v.astype(np.float16) if n in wide else v for n, v in self._kept.items()}
        return {
            **kept,
            "channels": np.array(self._channels, dtype=str),
            "models": np.array(self.models, dtype=str),
        }

    @classmethod
    def restored(cls, base: Predictor, state: Mapping[str, NDArray[Any]]) -> LearnedPredictor:
        """Make it anew; outcomes of models that `base` does not know any more are left out."""
        made = cls(base)
        names = [str(name) for name in state["models"]]
        if "model" in state:
            place = np.array([made._column.get(name, -1) for name in names])
            column = place[state["model"]]
            kept = {
                name: values[column >= 0]
                for name, values in state.items()
                if name not in ("channels", "models")
            }
            kept["model"], rows = column[column >= 0], int((column >= 0).sum())
            for name in ("prompt", "prompt_expected"):  # bundles of 0.1 kept no counts of prompts, no words
                kept.setdefault(name, np.full(rows, np.nan))
            kept.setdefault("words", np.zeros((rows, DIMENSION)))
            for name in ("embedding", "words"):
                kept[name] = kept[name].astype(np.float32)
            made._channels = [str(name) for name in state["channels"]]
            made._keep(kept)
            made._refit()
        return made

    def _count(self, field: str) -> dict[str, int]:
        counts = np.zeros(len(self.models), dtype=np.int64)
        if self._kept:
            np.add.at(counts, self._kept["model"][np.isfinite(self._kept[field])], 1)
        return dict(zip(self.models, counts.tolist(), strict=True))

    def _number(self, channel: str) -> int:
        if channel not in self._channels:
            self._channels.append(channel)
        return self._channels.index(channel)

    def _keep(self, new: dict[str, NDArray[Any]]) -> None:
        joined = {n: np.concatenate([self._kept[n], v]) for n, v in new.items()} if self._kept else new
        kind = joined["model"], joined["channel"], np.isfinite(joined["good"])
        rows = _newest_of_each(np.column_stack(kind), MOST_OUTCOMES)
        self._kept = {name: values[rows] for name, values in joined.items()}

    def _refit(self) -> None:
        kept, self._new = self._kept, 0
        graded = np.isfinite(kept["good"])
        names = [each.name for each in fields(Observations)]
        evidence = Observations(**{name: kept[name][graded] for name in names})
        self._posterior = fit_posterior(evidence, self._widths(), len(self._channels))
        self._tokens = TokenLevels.fitted(self.base, kept)
        graded &= kept["channel"] < 0
        vectors = kept["embedding"][graded]
        self._known = vectors[np.sort(distinct_rows(vectors)[0])][-MOST_NEAR:]

    def _widths(self) -> PriorWidths:
        priors = getattr(self.base, "priors", None)
        category = (
            [each.category_std for each in priors] if priors else [USUAL_CATEGORY_STD] * len(self.models)
        )
        return PriorWidths(self._prior_level_std(), np.array(category))

    def _prior_level_std(self) -> NDArray[np.float64]:
        levels = getattr(self.base, "level_std", None)
        return np.full(len(self.models), USUAL_LEVEL_STD) if levels is None else np.asarray(levels)

    def _level_std(self) -> NDArray[np.float64]:
        return self._prior_level_std() if self._posterior is None else self._posterior.level_std

    def __getattr__(self, name: str) -> Any:
        # Device, variant, cache and the like are the base's; how well levels are known is not.
        if name in ("base", "level_std"):
            raise AttributeError(name)
        return getattr(self.base, name)


def _newest_of_each(kind: NDArray[Any], most: int) -> NDArray[np.intp]:
    """Return the rows to keep, at most `most` and in order: a flood of a kind drives out its own alone."""
    if len(kind) <= most:
        return np.arange(len(kind))
    group = np.unique(kind, axis=0, return_inverse=True)[1].ravel()
    # How many newer outcomes of its own group stand behind each row: what the fullest groups have beyond the
    # others goes first.
    newer = np.empty(len(group), dtype=np.intp)
    for number in range(int(group.max()) + 1):
        rows = np.flatnonzero(group == number)
        newer[rows] = np.arange(len(rows))[::-1]
    return np.sort(np.argsort(newer, kind="stable")[:most])


def _described(
    made: Prediction,
    rows: NDArray[np.intp],
    columns: NDArray[np.intp],
    outcomes: Sequence[ModelOutcome],
    channels: list[int],
) -> dict[str, NDArray[Any]]:
    """Return outcomes with what was forecast of them, as arrays of one row an outcome."""
    empty = np.empty((len(made), 0), dtype=np.float32)
    return {
        "model": columns,
        "channel": np.array(channels, dtype=np.int64),
        "good": np.array([each.good for each in outcomes], dtype=np.float64),
        "log_odds": _log_odds(made.quality)[rows, columns],
        "membership": _memberships(made)[rows],
        "foreign": _foreign(made)[rows],
        "embedding": (empty if made.embedding is None else made.embedding)[rows],
        "output_tokens": np.array([each.output_tokens for each in outcomes], dtype=np.float64),
        "expected": made.output_tokens[rows, columns].astype(np.float64),
        "prompt": np.array([each.input_tokens for each in outcomes], dtype=np.float64)
        / (1.0 if made.input_factor is None else made.input_factor[columns]),
        "prompt_expected": made.input_tokens[rows].astype(np.float64),
    }


def _nearer(
    made: Prediction, foreign: NDArray[np.float64], known: NDArray[np.float32] | None
) -> dict[str, Any]:
    """Return the fields that say how like known ground queries are, labelled ones taken for known."""
    if known is None or not len(known) or made.similarity is None or made.embedding is None:
        return {}
    # Where nothing was searched (NaN) a query counts as familiar, and stays so.
    nearest = np.maximum(made.similarity, (made.embedding @ known.T).max(axis=1, initial=-1.0))
    after = 1.0 - familiarity(nearest).astype(np.float64)
    gone = AWAY_LENGTH_STD**2 * (np.square(foreign) - np.square(after))[:, None]
    spread = np.sqrt(np.maximum(np.square(made.log_tokens_std.astype(np.float64)) - gone, 0.0))
    return {"similarity": nearest.astype(np.float32), "log_tokens_std": spread.astype(np.float32)}


def _log_odds(quality: NDArray[np.float32]) -> NDArray[np.float64]:
    inside = np.clip(quality.astype(np.float64), 1e-4, 1.0 - 1e-4)
    return np.asarray(np.log(inside / (1.0 - inside)))


def _memberships(made: Prediction) -> NDArray[np.float64]:
    return np.zeros((len(made), 0)) if made.membership is None else made.membership.astype(np.float64)


def _foreign(made: Prediction) -> NDArray[np.float64]:
    return (
        np.zeros(len(made))
        if made.similarity is None
        else 1.0 - familiarity(made.similarity).astype(np.float64)
    )


def _check(outcome: ModelOutcome) -> None:
    if not (np.isnan(outcome.good) or 0.0 <= outcome.good <= 1.0):
        raise InputError(f"good: got {outcome.good!r} for {outcome.model!r}, wanted 0 to 1")
    if not (np.isnan(outcome.input_tokens) or 0.0 <= outcome.input_tokens < np.inf):
        raise InputError(
            f"input_tokens: got {outcome.input_tokens!r} for {outcome.model!r}, wanted 0 or more"
        )
    if not (np.isnan(outcome.output_tokens) or 0.0 <= outcome.output_tokens < np.inf):
        raise InputError(
            f"output_tokens: got {outcome.output_tokens!r} for {outcome.model!r}, wanted 0 or more"
        )
