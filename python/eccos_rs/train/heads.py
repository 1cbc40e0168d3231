"""The dual heads: success and answer length of every model, read off the pooled states of the encoder.

A member of the ensemble is one hidden layer. All outputs are averaged where they are linear in the hidden
units (log odds, mean length, log variance), so the whole ensemble is one wide layer when it is shipped.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from eccos_rs.predict.calibration import Scores

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from eccos_rs.train.kernel import KernelHead
    from eccos_rs.train.options import TrainOptions

    Floats = NDArray[np.float32]

__all__ = [
    "DualLoss",
    "HeadWeights",
    "Member",
    "Standardise",
    "Targets",
    "fit_member",
    "head_weights",
    "merge_members",
    "one_cycle",
    "pinball",
    "run_heads",
]

# Standardised inputs beyond this are cut: an odd text must not run away with a linear layer.
CLAMP = 5.0
LOG_VARIANCE = (-4.0, 3.0)
#: Of the log length, where its loss looks.
QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)
#: Weight of the length's loss beside the success's.
LENGTH_SHARE = 1.0
NORMAL = NormalDist()


@dataclass(frozen=True, eq=False)
class Standardise:
    """Mean and spread of the inputs, fixed before the heads are trained.

    Attributes
    ----------
    mean, std : ndarray of float32, shape (D,)
    """

    mean: Floats
    std: Floats

    @classmethod
    def of(cls, inputs: Floats) -> Standardise:
        """Take them from the rows of `inputs`, (N, D)."""
        return cls(inputs.mean(axis=0), inputs.std(axis=0) + np.float32(1e-4))

    def __call__(self, inputs: Floats) -> Floats:
        """Standardise and cut to +-5 standard deviations."""
        return np.asarray(np.clip((inputs - self.mean) / self.std, -CLAMP, CLAMP), dtype=np.float32)


@dataclass(frozen=True, eq=False)
class Targets:
    """What the heads learn; NaN where a model was not observed.

    Attributes
    ----------
    success : ndarray of float32, shape (N, O)
        In [0, 1]. The pool's models come first, auxiliary ones after them.
    log_tokens : ndarray of float32, shape (N, O)
        ln(1 + output tokens).
    weight : ndarray of float32, shape (O,)
        Of each model's loss.
    """

    success: Floats
    log_tokens: Floats
    weight: Floats

    def select(self, rows: NDArray[np.intp]) -> Targets:
        """Keep some rows."""
        return Targets(self.success[rows], self.log_tokens[rows], self.weight)


@dataclass(frozen=True, eq=False)
class HeadWeights:
    """Trained heads for M models.

    With x the standardised inputs, h = activation(x hidden + hidden_bias) and o = h out + out_bias; the
    columns of o are M log odds, M means and M log variances of ln(1 + tokens). Without a hidden layer h = x.

    Attributes
    ----------
    hidden, hidden_bias : ndarray of float32, shapes (D, H) and (H,), or None for linear heads
    out, out_bias : ndarray of float32, shapes (H, 3 M) and (3 M,)
    kernel : KernelHead or None
        Averaged with log odds and means, by its share; the variance stays the network's.
    """

    hidden: Floats | None
    hidden_bias: Floats | None
    out: Floats
    out_bias: Floats
    kernel: KernelHead | None = None


class Member(nn.Module):  # type: ignore[misc]  # torch is not looked into
    """One member of the ensemble: inputs in; log odds, means and log variances of every model out."""

    def __init__(self, inputs: int, outputs: int, options: TrainOptions) -> None:
        super().__init__()
        self.linear = options.head == "linear"
        width = inputs if self.linear else options.hidden
        self.hidden = nn.Identity() if self.linear else nn.Linear(inputs, width)
        self.drop_in = nn.Dropout(0.1)
        self.drop = nn.Dropout(0.0 if self.linear else options.dropout)
        self.out = nn.Linear(width, 3 * outputs)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Run on standardised inputs (B, D)."""
        h = self.hidden(self.drop_in(x))
        h = self.drop(h if self.linear else nn.functional.gelu(h))
        logit, mean, variance = self.out(h).chunk(3, dim=1)
        return logit, mean, variance.clamp(*LOG_VARIANCE)


class DualLoss:
    """Cross-entropy of success plus a quantile loss of the standardised log length.

    The quantiles at `QUANTILES` are those of a normal distribution whose mean and spread the network gives;
    each is judged by how often it is exceeded (the pinball loss of Koenker and Bassett, 1978). Answers that
    ran to the limit of their length pull by their number, not by the square of their distance.

    Parameters
    ----------
    targets : Targets
        N rows.
    models : int
        The first so many are the pool's; the loss is per model of the pool.
    device : str
        Where the tensors live.
    """

    def __init__(self, targets: Targets, models: int, device: str = "cpu") -> None:
        self.center = _column_mean(targets.log_tokens)
        self.scale = _column_std(targets.log_tokens)
        self.prior = np.clip(_column_mean(targets.success, 0.5), 0.01, 0.99)
        self.models = models
        length = (targets.log_tokens - self.center) / self.scale

        def tensor(array: NDArray[np.generic]) -> torch.Tensor:
            return torch.from_numpy(np.nan_to_num(np.asarray(array, dtype=np.float32))).to(device)

        self.success, self.length = tensor(targets.success), tensor(length)
        self.has_success = tensor(np.isfinite(targets.success)) * tensor(targets.weight)
        self.has_length = tensor(np.isfinite(targets.log_tokens)) * tensor(targets.weight)

    def start(self, layer: nn.Linear) -> None:
        """Let an output layer begin at the mean success and the mean length of every model."""
        outputs = len(self.prior)
        with torch.no_grad():
            layer.bias.zero_()
            layer.bias[:outputs] = torch.from_numpy(np.log(self.prior / (1 - self.prior)))
            layer.weight[2 * outputs :] *= 0.1

    def __call__(
        self, out: tuple[torch.Tensor, torch.Tensor, torch.Tensor], rows: torch.Tensor
    ) -> torch.Tensor:
        """Return the mean loss over `rows`."""
        logit, mean, variance = out
        success = nn.functional.binary_cross_entropy_with_logits(logit, self.success[rows], reduction="none")
        length = pinball(self.length[rows], mean, torch.exp(0.5 * variance))
        total = success * self.has_success[rows] + LENGTH_SHARE * length * self.has_length[rows]
        return total.sum(1).mean() / self.models


def pinball(happened: torch.Tensor, mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
    """Mean over `QUANTILES` of max(q d, (q - 1) d), with d from the quantile at q to what happened."""
    total = torch.zeros_like(mean)
    for level in QUANTILES:
        away = happened - (mean + NORMAL.inv_cdf(level) * std)
        total = total + torch.maximum(level * away, (level - 1.0) * away)
    return total / len(QUANTILES)


def fit_member(
    inputs: Floats, targets: Targets, models: int, options: TrainOptions, seed: int
) -> HeadWeights:
    """Train one member.

    Parameters
    ----------
    inputs : ndarray of float32, shape (N, D)
        Standardised.
    targets : Targets
        Of the same rows.
    models : int
        M, the number of the pool's models, which come first; only their heads are kept.
    options : TrainOptions
        Recipe.
    seed : int
        Of the starting weights, the order of the rows and the dropout.

    Returns
    -------
    HeadWeights
    """
    torch.manual_seed(seed)
    loss = DualLoss(targets, models, options.device)
    member = Member(inputs.shape[1], targets.success.shape[1], options).to(options.device)
    loss.start(member.out)
    optimiser = torch.optim.AdamW(
        member.parameters(), lr=options.learning_rate, weight_decay=options.weight_decay
    )
    steps = options.epochs * -(-len(inputs) // options.batch)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: one_cycle(step, steps))
    x = torch.from_numpy(inputs).to(options.device)
    shuffle = np.random.default_rng(seed)
    for _ in range(options.epochs):
        order = torch.from_numpy(shuffle.permutation(len(inputs))).to(options.device)
        for rows in order.split(options.batch):
            optimiser.zero_grad()
            loss(member(x[rows]), rows).backward()
            optimiser.step()
            schedule.step()
    return head_weights(member, loss, models)


def one_cycle(step: int, steps: int, warm: float = 0.1) -> float:
    """Share of the full learning rate: up in a line, down in a cosine."""
    start = max(1.0, warm * steps)
    if step < start:
        return 0.04 + 0.96 * step / start
    return float(0.5 * (1.0 + np.cos(np.pi * min(1.0, (step - start) / max(1.0, steps - start))))) + 1e-4


def head_weights(member: Member, loss: DualLoss, models: int) -> HeadWeights:
    """Keep the pool's heads and undo the standardisation of the lengths."""
    weight = member.out.weight.detach().cpu().numpy().T
    bias = member.out.bias.detach().cpu().numpy()
    total = len(loss.prior)
    keep = np.concatenate([np.arange(models) + part * total for part in range(3)])
    scale = np.concatenate([np.ones(models), loss.scale[:models], np.ones(models)]).astype(np.float32)
    shift = np.concatenate([np.zeros(models), loss.center[:models], 2 * np.log(loss.scale[:models])])
    hidden = hidden_bias = None
    if isinstance(member.hidden, nn.Linear):
        hidden = member.hidden.weight.detach().cpu().numpy().T.copy()
        hidden_bias = member.hidden.bias.detach().cpu().numpy().copy()
    out = (weight[:, keep] * scale).astype(np.float32)
    return HeadWeights(hidden, hidden_bias, out, (bias[keep] * scale + shift).astype(np.float32))


def merge_members(members: Sequence[HeadWeights]) -> HeadWeights:
    """Make one wide head whose outputs are the means of the members' outputs."""
    out_bias = np.mean([member.out_bias for member in members], axis=0).astype(np.float32)
    if members[0].hidden is None:
        return HeadWeights(
            None, None, np.mean([member.out for member in members], axis=0, dtype=np.float32), out_bias
        )
    return HeadWeights(
        np.concatenate([member.hidden for member in members if member.hidden is not None], axis=1),
        np.concatenate([member.hidden_bias for member in members if member.hidden_bias is not None]),
        np.concatenate([member.out / np.float32(len(members)) for member in members]),
        out_bias,
    )


def run_heads(weights: HeadWeights, inputs: Floats) -> Scores:
    """Run heads on standardised inputs (N, D); the numpy twin of what the exported graph computes."""
    from scipy.special import erf

    h = inputs
    if weights.hidden is not None and weights.hidden_bias is not None:
        h = inputs @ weights.hidden + weights.hidden_bias
        h = (0.5 * h * (1.0 + erf(h / np.float32(np.sqrt(2.0))))).astype(np.float32)
    out = h @ weights.out + weights.out_bias
    logit, mean, variance = np.split(out.astype(np.float32), 3, axis=1)
    if weights.kernel is not None:
        share = np.float32(weights.kernel.share)
        kernel_logit, kernel_mean = weights.kernel(inputs)
        logit = share * kernel_logit + (1 - share) * logit
        mean = share * kernel_mean + (1 - share) * mean
    return Scores(logit, mean, np.exp(0.5 * variance))


def _column_mean(values: Floats, empty: float = 0.0) -> Floats:
    seen = np.isfinite(values)
    total = np.where(seen, values, 0.0).sum(axis=0)
    mean = np.where(seen.any(axis=0), total / np.maximum(seen.sum(axis=0), 1), empty)
    return np.asarray(mean, dtype=np.float32)


def _column_std(values: Floats) -> Floats:
    center = _column_mean(values)
    spread = np.sqrt(_column_mean(np.square(values - center), 1.0) + 1e-6)
    return np.asarray(spread, dtype=np.float32)
