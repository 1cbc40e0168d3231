"""From labels and states of the encoder to a fitted predictor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from eccos_rs.predict.neighbours import NeighbourSettings, estimate_from_neighbours
from eccos_rs.train.calibrate import Sources, fit_calibration
from eccos_rs.train.context import TrainingContext, label_priors, neighbour_scores, prepare, search
from eccos_rs.train.heads import HeadWeights, merge_members, run_heads

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from eccos_rs.predict.calibration import BackOff, Calibrated, Calibration
    from eccos_rs.train.data import TrainingData
    from eccos_rs.train.encoder import SentenceEncoder
    from eccos_rs.train.metric import Metric
    from eccos_rs.train.options import TrainOptions

    Floats = NDArray[np.float32]

__all__ = [
    "KINDS",
    "Fitted",
    "Trained",
    "assemble",
    "calibrate",
    "finish",
    "fit_predictor",
    "training_steps",
    "unseen_sources",
]

KINDS = ("trained", "retrieval", "hybrid")


@dataclass(frozen=True, eq=False)
class Fitted:
    """A predictor in memory, before it is written.

    Attributes
    ----------
    metric, heads : Metric, HeadWeights
        Of the graph.
    embedding, success, log_tokens : ndarray
        Labelled queries that are the neighbours, and their labels (n, M), denoised.
    observed : ndarray of float32, shape (n, M)
        Success of the same queries as observed.
    shares : dict of str to float
        How far the labels of each dataset were moved.
    settings : NeighbourSettings
        How they are weighed.
    priors : dict of str to ndarray, each (M,)
        For `estimate_from_neighbours`.
    calibration : dict of str to Calibration
        One a kind of predictor.
    """

    metric: Metric
    heads: HeadWeights
    embedding: Floats
    success: Floats
    log_tokens: Floats
    observed: Floats
    shares: dict[str, float]
    settings: NeighbourSettings
    priors: dict[str, Floats]
    calibration: dict[str, Calibration]

    @property
    def back_offs(self) -> dict[str, BackOff]:
        """How each kind of predictor backs off."""
        return {kind: each.back_off for kind, each in self.calibration.items()}

    def sources(self, states: Floats) -> Sources:
        """Return what the heads and the neighbours say of N texts."""
        heads = run_heads(self.heads, self.metric.standardise(states))
        near, index = search(self.metric.embed(states), self.embedding, self.settings)
        estimate = estimate_from_neighbours(
            near, self.success, self.log_tokens, index, self.settings, **self.priors
        )
        return Sources(heads, neighbour_scores(estimate), estimate.similarity)

    def predict(self, states: Floats, kind: str = "hybrid") -> Calibrated:
        """Predict N texts: what the exported bundle does, in numpy."""
        calibration, sources = self.calibration[kind], self.sources(states)
        scores = sources.blended(calibration.success_weight, calibration.length_weight)
        return calibration.apply(scores, None if kind == "trained" else sources.similarity)


@dataclass(frozen=True, eq=False)
class Trained:
    """An encoder, what was fitted on top of it, and what it says of every query, learned from or not."""

    encoder: SentenceEncoder
    fitted: Fitted
    states: Floats


def training_steps(data: TrainingData, options: TrainOptions, *, back_offs: bool) -> int:
    """Return the most members that `fit_predictor` trains; with `back_offs` known it trains fewer."""
    away = 0 if back_offs else len(set(data.table.dataset))
    return options.folds * options.members + away


def fit_predictor(
    data: TrainingData,
    states: Floats,
    options: TrainOptions,
    *,
    back_offs: Mapping[str, BackOff] | None = None,
    on_step: Callable[[int], object] = lambda steps: None,
) -> Fitted:
    """Train heads and neighbours and calibrate them on their own out-of-fold forecasts.

    Parameters
    ----------
    data : TrainingData
        N queries.
    states : ndarray of float32, shape (N, I)
        What the heads read of the same queries.
    options : TrainOptions
        Recipe.
    back_offs : mapping of kind to BackOff, optional
        Use these instead of learning them.
    on_step : callable
        Called with 1 after each of `training_steps` steps.

    Returns
    -------
    Fitted
    """
    context = prepare(data, states, options)
    members, sources = unseen_sources(context, on_step)
    return finish(context, members, sources, back_offs, on_step)


def unseen_sources(
    context: TrainingContext, on_step: Callable[[int], object] = lambda steps: None
) -> tuple[list[HeadWeights], Sources]:
    """Train the members of the heads; return them and what is said of each row by what has not learned it."""
    members, out_of_fold = context.cross_fit(on_step)
    estimate = context.neighbours(context.data.groups)
    return members, Sources(out_of_fold, neighbour_scores(estimate), estimate.similarity)


def finish(
    context: TrainingContext,
    members: list[HeadWeights],
    sources: Sources,
    back_offs: Mapping[str, BackOff] | None,
    on_step: Callable[[int], object] = lambda steps: None,
) -> Fitted:
    """Calibrate on what `unseen_sources` gave and put the members together."""
    calibration = calibrate(context, sources, back_offs, on_step)
    heads = context.with_kernel(merge_members(members), slice(None))
    return assemble(context, heads, calibration)


def calibrate(
    context: TrainingContext,
    sources: Sources,
    back_offs: Mapping[str, BackOff] | None,
    on_step: Callable[[int], object] = lambda steps: None,
) -> dict[str, Calibration]:
    """Fit the calibration of every kind of predictor on out-of-fold forecasts."""
    calibration = {kind: fit_calibration(sources, context.raw, kind) for kind in KINDS}
    if back_offs is None:
        back_offs = context.learn_back_offs(calibration, sources, on_step)
    backed_off = {
        kind: fit_calibration(sources, context.raw, kind, back_off) for kind, back_off in back_offs.items()
    }
    return {kind: backed_off.get(kind, calibration[kind]) for kind in KINDS}


def assemble(context: TrainingContext, heads: HeadWeights, calibration: dict[str, Calibration]) -> Fitted:
    """Put the parts of a predictor together."""
    return Fitted(
        context.metric,
        heads,
        context.metric.embed(context.states),
        context.denoised.success,
        context.denoised.log_tokens,
        context.raw.success,
        context.shares,
        context.settings,
        label_priors(context.raw),
        calibration,
    )
