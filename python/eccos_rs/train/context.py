"""One fit in preparation: its labels, and forecasts of every row that its own labels did not make."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from eccos_rs.predict.calibration import Scores, logit
from eccos_rs.predict.neighbours import NeighbourEstimate, NeighbourSettings, estimate_from_neighbours
from eccos_rs.train.calibrate import Labels, Sources, fit_back_off, two_part_logits
from eccos_rs.train.denoise import choose_shares, denoise_labels, expected_labels
from eccos_rs.train.heads import HeadWeights, Targets, fit_member, merge_members, run_heads
from eccos_rs.train.kernel import cross_fit_kernel, fit_kernel
from eccos_rs.train.metric import Metric

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from eccos_rs.predict.calibration import BackOff, Calibration
    from eccos_rs.train.data import TrainingData
    from eccos_rs.train.options import TrainOptions

    Floats = NDArray[np.float32]
    Rows = NDArray[np.int64]

__all__ = ["TrainingContext", "label_priors", "neighbour_scores", "prepare", "search"]

#: Datasets left out in turn to learn how forecasts back off; more are pooled into so many parts.
MOST_AWAY = 16
#: Folds of the kernel regression that label matrices are compared by.
QUICK_FOLDS = 3


def neighbour_scores(estimate: NeighbourEstimate) -> Scores:
    """Return what the neighbours say, in the heads' units."""
    return Scores(logit(estimate.success), estimate.length_mean, estimate.length_std)


@dataclass(frozen=True, eq=False)
class TrainingContext:
    """What one fit learns from.

    Attributes
    ----------
    data : TrainingData
        N queries.
    states : ndarray of float32, shape (N, I)
        What the heads read of the same queries; see `eccos_rs.train.metric`.
    raw, denoised : Labels
        As observed, and moved towards their expectation; see `eccos_rs.train.denoise`.
    settings : NeighbourSettings
        How neighbours are weighed.
    metric : Metric
        How states are standardised for the heads, and compared for the neighbours.
    options : TrainOptions
        Recipe.
    shares : dict of str to float
        How far the labels of each dataset were moved.
    """

    data: TrainingData
    states: Floats
    raw: Labels
    denoised: Labels
    settings: NeighbourSettings
    metric: Metric
    options: TrainOptions
    shares: dict[str, float] = field(default_factory=dict)

    @property
    def targets(self) -> Targets:
        """What the heads learn: the pool's models, then the auxiliary ones."""
        data = self.data
        weight = np.ones(len(data.models) + len(data.aux_names), dtype=np.float32)
        weight[len(data.models) :] = self.options.aux_weight
        return Targets(
            np.concatenate([self.denoised.success, data.aux_quality], axis=1),
            np.concatenate([self.denoised.log_tokens, data.aux_log_tokens], axis=1),
            weight,
        )

    def folds(self, count: int) -> Rows:
        """Deal the text groups to folds at random: the number of each row's fold."""
        groups = self.data.groups
        order = np.random.default_rng(self.options.seed).permutation(int(groups.max()) + 1)
        return np.asarray(order[groups] % count, dtype=np.int64)

    def kinds(self) -> Rows:
        """Return a number for each row's dataset; near-identical questions go with the first of them."""
        names = np.array(self.data.table.dataset, dtype=object).astype(str)
        _, member = np.unique(names, return_inverse=True)
        first: dict[int, int] = {}
        pairs = zip(self.data.groups.tolist(), member.tolist(), strict=True)
        return np.array([first.setdefault(group, kind) for group, kind in pairs], dtype=np.int64) % MOST_AWAY

    def neighbours(self, banned: Rows) -> NeighbourEstimate:
        """Estimate every row from rows whose number in `banned` is another."""
        embedding = self.metric.embed(self.states)
        near, index = search(embedding, embedding, self.settings, (banned, banned))
        denoised = self.denoised
        return estimate_from_neighbours(
            near, denoised.success, denoised.log_tokens, index, self.settings, **label_priors(denoised)
        )

    def quick_forecasts(self, labels: Sequence[Floats]) -> list[Floats]:
        """Return log odds (N, M) that each label matrix gives to rows of other text groups.

        By neighbours and kernel regression in equal parts, calibrated: what needs no network to be trained,
        so that label matrices can be compared in seconds.
        """
        embedding, groups = self.metric.embed(self.states), self.data.groups
        near, index = search(embedding, embedding, self.settings, (groups, groups))
        inputs = self.metric.standardise(self.states)
        wide = np.concatenate(labels, axis=1)
        kernel = cross_fit_kernel(
            inputs, self.metric.kernel_projection, wide, self.folds(QUICK_FOLDS), self.options.seed
        )
        made = []
        for each, smooth in zip(labels, np.split(kernel, len(labels), axis=1), strict=True):
            some = Labels(each, self.raw.log_tokens)
            estimate = estimate_from_neighbours(
                near, some.success, some.log_tokens, index, self.settings, **label_priors(some)
            )
            made.append(two_part_logits(0.5 * (logit(estimate.success) + smooth), self.raw.success))
        return made

    def cross_fit(self, on_step: Callable[[int], object]) -> tuple[list[HeadWeights], Scores]:
        """Train members on all folds but one; return them and what each says of the fold it has not seen."""
        options, folds = self.options, self.folds(self.options.folds)
        members: list[HeadWeights] = []

        def forecast(fold: int, rows: Rows, out: Rows) -> Scores:
            mine = [
                self._member(rows, options.seed + 1000 * fold + member, on_step)
                for member in range(options.members)
            ]
            members.extend(mine)
            return run_heads(
                self.with_kernel(merge_members(mine), rows), self.metric.standardise(self.states[out])
            )

        return members, _by_part(folds, self.raw.success.shape, forecast)

    def learn_back_offs(
        self, calibration: Mapping[str, Calibration], home: Sources, on_step: Callable[[int], object]
    ) -> dict[str, BackOff]:
        """Leave each dataset out in turn and see how far forecasts hold on unknown ground."""
        kinds = self.kinds()
        if len(np.unique(kinds)) < 2:
            return {}

        def forecast(kind: int, rows: Rows, out: Rows) -> Scores:
            member = self._member(rows, self.options.seed + 77_000 + kind, on_step)
            return run_heads(self.with_kernel(member, rows), self.metric.standardise(self.states[out]))

        estimate = self.neighbours(kinds)
        heads = _by_part(kinds, self.raw.success.shape, forecast)
        away = Sources(heads, neighbour_scores(estimate), estimate.similarity)
        back_offs = {}
        for name, fitted in calibration.items():
            if name == "trained":  # it knows no similarity, so it cannot back off
                continue
            parts = [
                (each.blended(fitted.success_weight, fitted.length_weight), each.similarity, self.raw)
                for each in (home, away)
            ]
            back_offs[name] = fit_back_off(fitted, parts[0], parts[1])
        return back_offs

    def with_kernel(self, heads: HeadWeights, rows: Rows | slice) -> HeadWeights:
        """Add the kernel regression on some rows, where the options ask for one."""
        share = 0.0 if self.options.head == "linear" else self.options.kernel_share
        if share == 0.0:
            return heads
        labels = self.denoised.success[rows], self.denoised.log_tokens[rows]
        inputs = self.metric.standardise(self.states[rows])
        return replace(heads, kernel=fit_kernel(inputs, self.metric.kernel_projection, *labels, share))

    def _member(self, rows: Rows, seed: int, on_step: Callable[[int], object]) -> HeadWeights:
        inputs = self.metric.standardise(self.states[rows])
        made = fit_member(inputs, self.targets.select(rows), len(self.data.models), self.options, seed)
        on_step(1)
        return made


def prepare(data: TrainingData, states: Floats, options: TrainOptions) -> TrainingContext:
    """Fix how texts are compared, and denoise the labels."""
    raw = Labels(data.quality, data.log_tokens)
    context = TrainingContext(data, states, raw, raw, NeighbourSettings(), Metric.of(states), options)
    expected = None
    if options.teacher_share == "auto":
        expected = expected_labels(data)
        shares = choose_shares(data, expected, context.quick_forecasts)
    else:
        shares = dict.fromkeys(data.table.dataset, float(options.teacher_share))
    moved = denoise_labels(data, np.array([shares[name] for name in data.table.dataset]), expected)
    return replace(context, denoised=Labels(moved, data.log_tokens), shares=shares)


def _by_part(parts: Rows, shape: tuple[int, ...], forecast: Callable[[int, Rows, Rows], Scores]) -> Scores:
    """Forecast every part by what was learned from the others."""
    arrays = [np.zeros(shape, dtype=np.float32) for _ in range(3)]
    for part in np.unique(parts).tolist():
        out = np.flatnonzero(parts == part)
        scores = forecast(part, np.flatnonzero(parts != part), out)
        for array, values in zip(
            arrays, (scores.success_logit, scores.length_mean, scores.length_std), strict=True
        ):
            array[out] = values
    return Scores(*arrays)


def label_priors(labels: Labels) -> dict[str, Floats]:
    """Return what to believe of each model without any neighbour."""
    seen = np.isfinite(labels.success).sum(axis=0)
    success = (np.nansum(labels.success, axis=0) + 0.5) / (seen + 1.0)
    return {
        "prior_success": success.astype(np.float32),
        "prior_length_mean": np.nanmean(labels.log_tokens, axis=0).astype(np.float32),
        "prior_length_std": np.nanstd(labels.log_tokens, axis=0).astype(np.float32),
    }


def search(
    queries: Floats, known: Floats, settings: NeighbourSettings, banned: tuple[Rows, Rows] | None = None
) -> tuple[Floats, Rows]:
    """Find the nearest known rows exactly.

    Parameters
    ----------
    queries, known : ndarray of float32, shapes (N, D) and (n, D)
        Unit vectors.
    settings : NeighbourSettings
        Its `neighbours` is the number to find.
    banned : tuple of int ndarrays, shapes (N,) and (n,), optional
        A query never finds a row whose number is its own.

    Returns
    -------
    similarity, index : ndarray, shape (N, K)
        In no order; a similarity of -inf where there are too few.
    """
    k = min(settings.neighbours, len(known))
    similarity = np.empty((len(queries), k), dtype=np.float32)
    index = np.empty((len(queries), k), dtype=np.int64)
    for start in range(0, len(queries), 512):
        part = slice(start, start + 512)
        scores = queries[part] @ known.T
        if banned is not None:
            scores[banned[0][part, None] == banned[1][None, :]] = -np.inf
        kept = np.argpartition(-scores, k - 1, axis=1)[:, :k]
        similarity[part] = np.take_along_axis(scores, kept, axis=1)
        index[part] = kept
    return similarity, index
