"""Distil the published encoder into a shorter one, from texts alone.

Of the published encoder's layers the lowest are kept, and the last two of them learn to give what its low
and its last layer give: the two means over tokens that heads and neighbours read. No label takes part, so
whatever is later learned from labels of the same texts is as honest as with the published encoder.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from eccos_rs.errors import InputError
from eccos_rs.records.grouping import text_groups
from eccos_rs.train.encoder import (
    LAYERS,
    LOW_LAYER,
    SentenceEncoder,
    length_batches,
    load_encoder,
    mean_over_tokens,
    pad,
    pooled_states,
)
from eccos_rs.train.heads import one_cycle
from eccos_rs.train.texts import read_texts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Progress = Callable[[str, int], AbstractContextManager[Callable[[int], object]]]

__all__ = ["Agreement", "DistilOptions", "distil", "held_back"]

#: Tokens of a batch, padding included; a batch is of texts of similar length, out of so many at random.
TOKENS, SORTED_TOGETHER = 2048, 1024
GRADIENT_NORM = 1.0
#: Layers that learn: more of them took longer and said no more.
LEARNT = 2
# A dimension that hardly varies counts as one that varies by this share of the median.
_LEAST_SPREAD = 0.2


@dataclass(frozen=True)
class DistilOptions:
    """How to distil.

    Attributes
    ----------
    layers : int
        Layers of the encoder that is made, 2 to 5; all but the last two stay as published.
    epochs : int
        Passes over the texts.
    rate : float
        Highest learning rate.
    holdout : float
        Share of the texts, by groups of near-identical ones, that the agreement is measured on.
    max_tokens : int
        What the encoder reads of a text.
    device : str
        Where torch computes.
    seed : int
        Everything random follows from it.
    """

    layers: int = 4
    epochs: int = 8
    rate: float = 1e-3
    holdout: float = 0.1
    max_tokens: int = 256
    device: str = "cpu"
    seed: int = 0

    @property
    def frozen_layers(self) -> int:
        """So many of the lowest layers stay as published."""
        return self.layers - LEARNT

    def __post_init__(self) -> None:
        if not 2 <= self.layers < LAYERS:
            raise InputError(f"layers: got {self.layers}, wanted 2 to {LAYERS - 1}")
        if self.epochs < 1:
            raise InputError(f"epochs: got {self.epochs}, wanted 1 or more")
        if not 0.0 < self.rate <= 0.1:
            raise InputError(f"rate: got {self.rate}, wanted above 0, at most 0.1")
        if not 0.0 < self.holdout <= 0.5:
            raise InputError(f"holdout: got {self.holdout}, wanted above 0, at most 0.5")
        if not 8 <= self.max_tokens <= 512:
            raise InputError(f"max_tokens: got {self.max_tokens}, wanted 8 to 512")


@dataclass(frozen=True)
class Agreement:
    """How well the short encoder says what the published one says.

    Attributes
    ----------
    low, last : float
        Share of the variance over texts that it gives back, of the low and of the last layer's mean; the
        dimensions count alike.
    cosine : float
        Mean similarity of the two sentence embeddings of a text.
    texts : int
        So many were compared.
    """

    low: float
    last: float
    cosine: float
    texts: int


def distil(
    texts: Sequence[str], options: DistilOptions, progress: Progress
) -> tuple[SentenceEncoder, Agreement, Agreement]:
    """Make a shorter encoder.

    Parameters
    ----------
    texts : sequence of str
        Queries like those that will be routed; equal ones count once.
    options : DistilOptions
        Recipe.
    progress : callable
        As for `eccos_rs.train.pipeline.train_bundle`.

    Returns
    -------
    encoder : SentenceEncoder
        On the CPU, in evaluation mode.
    unread, read : Agreement
        On the texts that it has not learned from, and on as many that it has.

    Raises
    ------
    InputError
        Fewer than 40 different texts.
    """
    texts = list(dict.fromkeys(texts))
    if len(texts) < 40:
        raise InputError(f"texts: got {len(texts)} different ones, wanted at least 40")
    torch.manual_seed(options.seed)
    torch.use_deterministic_algorithms(True, warn_only=True)
    shuffle = np.random.default_rng(options.seed)
    ids = read_texts(texts, options.max_tokens).ids
    teacher = load_encoder()
    with progress("encoding with the published encoder", len(texts)) as done:
        wanted = pooled_states(teacher, ids, device=options.device, on_rows=done)
    out = held_back(texts, options.holdout, shuffle)
    learn, unread = np.flatnonzero(~out), np.flatnonzero(out)
    student, distillation = _shortened(teacher, options), _Distillation(ids, wanted, options.device)
    _learn(student, distillation, learn, options=options, shuffle=shuffle, progress=progress)
    read = shuffle.permutation(learn)[: len(unread)]
    made = student, distillation.agreement(student, unread), distillation.agreement(student, read)
    student.cpu()
    return made


def held_back(texts: Sequence[str], share: float, shuffle: np.random.Generator) -> NDArray[np.bool_]:
    """Say which of N different texts are not learned from: never a part of a group of near-identical ones."""
    groups = text_groups(texts)
    sizes = np.bincount(groups)
    order = shuffle.permutation(len(sizes))
    chosen = order[: 1 + int(np.searchsorted(np.cumsum(sizes[order]), share * len(texts)))]
    return np.isin(groups, chosen)


def _shortened(teacher: SentenceEncoder, options: DistilOptions) -> SentenceEncoder:
    """Keep the lowest layers; what the upper two give begins on the scale of what they shall give."""
    student = load_encoder(layers=options.layers)
    for ours, theirs in ((student.low, LOW_LAYER), (len(student.layers), LAYERS)):
        norm = teacher.layers[theirs - 1].norm_output
        student.layers[ours - 1].norm_output.load_state_dict(norm.state_dict())
    student.freeze(options.frozen_layers)
    student.to(options.device)
    return student


class _Distillation:
    """Tokenised texts, and the low and the last layer's means that are wanted of them."""

    def __init__(self, ids: Sequence[NDArray[np.int64]], wanted: tuple[Floats, Floats], device: str) -> None:
        self.ids, self._device = ids, device
        self._wanted = [torch.from_numpy(each).to(device) for each in wanted]
        self._spread = []
        for each in self._wanted:
            spread = each.std(0)
            self._spread.append(spread.clamp(min=_LEAST_SPREAD * spread.median()))

    def errors(self, pooled: Sequence[torch.Tensor], rows: NDArray[np.intp]) -> list[torch.Tensor]:
        """Return the mean squared error of each of both means, in units of each dimension's spread."""
        at = torch.from_numpy(rows)
        both = zip(pooled, self._wanted, self._spread, strict=True)
        return [(((got - wanted[at]) / spread) ** 2).mean() for got, wanted, spread in both]

    def agreement(self, student: SentenceEncoder, rows: NDArray[np.intp]) -> Agreement:
        """Compare on some texts; the student moves to the device."""
        made = pooled_states(student, [self.ids[row] for row in rows], device=self._device)
        pooled = [torch.from_numpy(each).to(self._device) for each in made]
        low, last = self.errors(pooled, rows)
        cosine = nn.functional.cosine_similarity(pooled[1], self._wanted[1][torch.from_numpy(rows)])
        return Agreement(1 - float(low), 1 - float(last), float(cosine.mean()), len(rows))


def _learn(
    student: SentenceEncoder,
    distillation: _Distillation,
    learn: NDArray[np.intp],
    *,
    options: DistilOptions,
    shuffle: np.random.Generator,
    progress: Progress,
) -> None:
    learnt = [each for each in student.parameters() if each.requires_grad]
    optimiser = torch.optim.AdamW(learnt, lr=options.rate, weight_decay=0.01)
    lengths = np.array([len(row) for row in distillation.ids], dtype=np.intp)
    epochs = [_batches(learn, lengths, shuffle) for _ in range(options.epochs)]
    steps = sum(len(each) for each in epochs)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: one_cycle(step, steps))
    kind, half = options.device.split(":")[0], _has_half(options.device)
    with progress("teaching the short encoder", options.epochs * len(learn)) as done:
        for rows in (rows for epoch in epochs for rows in epoch):
            batch, mask = pad([distillation.ids[row] for row in rows], options.device)
            optimiser.zero_grad()
            with torch.autocast(kind, dtype=torch.bfloat16, enabled=half):
                states = student(batch, mask)
            low, last = distillation.errors([mean_over_tokens(each.float(), mask) for each in states], rows)
            (low + last).backward()
            nn.utils.clip_grad_norm_(learnt, GRADIENT_NORM)
            optimiser.step()
            schedule.step()
            done(len(rows))
    student.eval()


def _has_half(device: str) -> bool:
    """Say whether products of bfloat16 numbers are faster than of float32 ones there."""
    if device.startswith("cuda"):
        return True
    # Known to torch from 2.10 on.
    able: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))


def _batches(
    rows: NDArray[np.intp], lengths: NDArray[np.intp], shuffle: np.random.Generator
) -> list[NDArray[np.intp]]:
    """Cut shuffled rows into batches of similar length, in random order."""
    batches = []
    shuffled = shuffle.permutation(rows)
    for some in np.array_split(shuffled, -(-len(shuffled) // SORTED_TOGETHER)):
        batches += [some[each] for each in length_batches(lengths[some], TOKENS)]
    return [batches[at] for at in shuffle.permutation(len(batches))]
