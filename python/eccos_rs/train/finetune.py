"""Fine-tune the upper layers of the encoder together with the dual heads.

A fine-tuned encoder knows the labels it has seen, so its own forecasts of them say nothing. The calibration
therefore comes from encoders that were each trained without a part of the data and forecast just that part;
the one that is shipped is trained on everything.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from eccos_rs.predict.calibration import Scores
from eccos_rs.predict.neighbours import estimate_from_neighbours
from eccos_rs.train.calibrate import Sources
from eccos_rs.train.context import label_priors, neighbour_scores, prepare, search
from eccos_rs.train.encoder import mean_over_tokens, open_encoder, pad
from eccos_rs.train.fit import Trained, assemble, calibrate
from eccos_rs.train.heads import CLAMP, DualLoss, Member, head_weights, one_cycle, run_heads
from eccos_rs.train.texts import encode_texts

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from eccos_rs.predict.calibration import BackOff
    from eccos_rs.predict.neighbours import NeighbourEstimate
    from eccos_rs.train.context import TrainingContext
    from eccos_rs.train.data import TrainingData
    from eccos_rs.train.encoder import SentenceEncoder
    from eccos_rs.train.fit import Fitted
    from eccos_rs.train.heads import HeadWeights, Standardise
    from eccos_rs.train.options import TrainOptions
    from eccos_rs.train.texts import Texts

    Floats = NDArray[np.float32]

__all__ = ["finetune_steps", "fit_finetuned"]

ENCODER_DROPOUT = 0.1
HEAD_RATE = 1e-3
GRADIENT_NORM = 1.0
BATCH = 32
#: Encoders that are fine-tuned in all: one without each half of the data, for the calibration, and one on
#: all of it.
PARTS = 3
#: So many batches are sorted by length together: little padding, still nearly random batches.
SORTED_TOGETHER = 32


def finetune_steps(rows: int, options: TrainOptions, *, known: bool) -> int:
    """Return about how many batches `fit_finetuned` runs."""
    once = options.finetune_epochs * -(-rows // BATCH)
    return once if known else once * PARTS


def fit_finetuned(
    data: TrainingData,
    texts: Texts,
    published: Floats,
    learn: NDArray[np.int64],
    options: TrainOptions,
    *,
    known: Fitted | None = None,
    on_step: Callable[[int], object] = lambda steps: None,
) -> Trained:
    """Fine-tune on some rows, calibrated by encoders that had not seen what they forecast.

    Parameters
    ----------
    data : TrainingData
        N queries.
    texts : Texts
        Of the same queries.
    published : ndarray of float32, shape (N, I)
        What the encoder says of them before it is fine-tuned.
    learn : ndarray of int64
        Rows to learn from.
    options : TrainOptions
        Recipe.
    known : Fitted, optional
        Use its calibration, made in the same way on nearly the same data, instead of making one.
    on_step : callable
        Called with 1 after each of about `finetune_steps` batches.

    Returns
    -------
    Trained
        Its states are those of all N queries.
    """
    context = prepare(data.select(learn), published[learn], options)
    calibration = None if known is None else known.calibration
    if calibration is None:
        sources = _unseen_sources(context, texts, learn, on_step)
        calibration = calibrate(context, sources, {})
        # How forecasts back off is learned with the encoder as it was: leaving each dataset out of the
        # fine-tuning would cost as many fine-tunings. Its similarities are carried over by their quantiles.
        _, plain_heads = context.cross_fit(lambda steps: None)
        home = context.neighbours(data.groups[learn])
        plain = Sources(plain_heads, neighbour_scores(home), home.similarity)
        back_offs = calibrate(context, plain, None)
        moved = {
            kind: _moved(each.back_off, home.similarity, sources.similarity)
            for kind, each in back_offs.items()
            if kind != "trained"
        }
        calibration = calibrate(context, sources, moved)
    tuned, heads = _finetune(context, texts, learn, on_step)
    states = encode_texts(tuned, texts, options.device)
    context = replace(context, states=states[learn])
    return Trained(tuned, assemble(context, heads, calibration), states)


def _unseen_sources(
    context: TrainingContext, texts: Texts, learn: NDArray[np.int64], on_step: Callable[[int], object]
) -> Sources:
    """Forecast every row by an encoder that was fine-tuned without its part of the data."""
    options, shape = context.options, context.raw.success.shape
    heads = [np.zeros(shape, dtype=np.float32) for _ in range(3)]
    near = [np.zeros(shape, dtype=np.float32) for _ in range(3)]
    similarity = np.zeros(shape[0], dtype=np.float32)
    parts = context.folds(PARTS - 1)
    for part in range(PARTS - 1):
        rows, out = np.flatnonzero(parts != part), np.flatnonzero(parts == part)
        some = _select_rows(context, rows)
        tuned, weights = _finetune(some, texts, learn[rows], on_step)
        states = encode_texts(tuned, texts, options.device)[learn]
        estimate = _between(context, states, rows, out)
        similarity[out] = estimate.similarity
        says = (run_heads(weights, context.metric.standardise(states[out])), neighbour_scores(estimate))
        for arrays, scores in zip((heads, near), says, strict=True):
            for array, values in zip(
                arrays, (scores.success_logit, scores.length_mean, scores.length_std), strict=True
            ):
                array[out] = values
    return Sources(Scores(*heads), Scores(*near), similarity)


def _select_rows(context: TrainingContext, rows: NDArray[np.int64]) -> TrainingContext:
    """Keep some rows; labels and standardisation stay as they are."""
    raw, denoised = (
        replace(each, success=each.success[rows], log_tokens=each.log_tokens[rows])
        for each in (context.raw, context.denoised)
    )
    data, states = context.data.select(rows), context.states[rows]
    return replace(context, data=data, states=states, raw=raw, denoised=denoised)


def _between(
    context: TrainingContext, states: Floats, known: NDArray[np.int64], asked: NDArray[np.int64]
) -> NeighbourEstimate:
    """Estimate some rows from neighbours among others."""
    embedding = context.metric.embed(states)
    near, index = search(embedding[asked], embedding[known], context.settings)
    denoised = _select_rows(context, known).denoised
    priors = label_priors(denoised)
    return estimate_from_neighbours(
        near, denoised.success, denoised.log_tokens, index, context.settings, **priors
    )


def _moved(back_off: BackOff, before: Floats, after: Floats) -> BackOff:
    """Carry similarities over to another encoder: the same share of queries lies below them."""

    def move(value: float) -> float:
        return float(np.quantile(after, np.mean(before <= value)))

    return replace(back_off, low=move(back_off.low), high=move(back_off.high))


def _finetune(
    context: TrainingContext, texts: Texts, learn: NDArray[np.int64], on_step: Callable[[int], object]
) -> tuple[SentenceEncoder, HeadWeights]:
    """Train the layers above `options.frozen_layers` and the heads at once, on the rows of the context."""
    targets, models = context.targets, len(context.data.models)
    standardise, options = context.metric.standardise, context.options
    ids, features = [texts.ids[row] for row in learn], texts.features[learn]
    torch.manual_seed(options.seed)
    device = options.device
    encoder = open_encoder(options.encoder).to(device).train()
    encoder.dropout = ENCODER_DROPOUT
    encoder.freeze(options.frozen_layers)
    loss = DualLoss(targets, models, device)
    member = Member(len(standardise.mean), targets.success.shape[1], options).to(device)
    loss.start(member.out)
    learnt = [each for each in encoder.parameters() if each.requires_grad]
    optimiser = torch.optim.AdamW(
        [
            {"params": learnt, "lr": options.finetune_rate, "weight_decay": 0.01},
            {"params": member.parameters(), "lr": HEAD_RATE, "weight_decay": options.weight_decay},
        ]
    )
    steps = options.finetune_epochs * -(-len(ids) // BATCH)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: one_cycle(step, steps))
    inputs = _Inputs(encoder, features, standardise, options)
    shuffle = np.random.default_rng(options.seed)
    lengths = np.array([len(row) for row in ids])
    for _ in range(options.finetune_epochs):
        for rows in _batches(lengths, shuffle):
            optimiser.zero_grad()
            x = inputs([ids[row] for row in rows], rows)
            loss(member(x), torch.from_numpy(rows).to(device)).backward()
            nn.utils.clip_grad_norm_(learnt, GRADIENT_NORM)
            optimiser.step()
            schedule.step()
            on_step(1)
    encoder.dropout = 0.0
    return encoder.cpu().eval(), head_weights(member, loss, models)


class _Inputs:
    """What the heads read, differentiable with respect to the encoder; the torch twin of the graph."""

    def __init__(
        self, encoder: SentenceEncoder, features: Floats, standardise: Standardise, options: TrainOptions
    ) -> None:
        self._encoder, self._device = encoder, options.device
        self._features, self._mean, self._std = (
            torch.from_numpy(each).to(options.device)
            for each in (features, standardise.mean, standardise.std)
        )
        self._half = options.device.startswith("cuda")

    def __call__(self, ids: list[NDArray[np.int64]], rows: NDArray[np.int64]) -> torch.Tensor:
        batch, mask = pad(ids, self._device)
        with torch.autocast("cuda", dtype=torch.bfloat16, enabled=self._half):
            low, last = self._encoder(batch, mask)
        low, last = (mean_over_tokens(each.float(), mask) for each in (low, last))
        unit = nn.functional.normalize(last, dim=1)
        x = torch.cat([low, unit, self._features[torch.from_numpy(rows).to(self._device)]], dim=1)
        return ((x - self._mean) / self._std).clamp(-CLAMP, CLAMP)


def _batches(lengths: NDArray[np.int64], shuffle: np.random.Generator) -> list[NDArray[np.int64]]:
    """Cut shuffled rows into batches of similar length, in random order."""
    order = shuffle.permutation(len(lengths))
    batches = []
    span = BATCH * SORTED_TOGETHER
    for start in range(0, len(order), span):
        some = order[start : start + span]
        some = some[np.argsort(lengths[some], kind="stable")]
        batches += [some[at : at + BATCH] for at in range(0, len(some), BATCH)]
    return [batches[at] for at in shuffle.permutation(len(batches))]
