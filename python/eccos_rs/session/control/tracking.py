"""Promised against realised, per model, and the alarm when a promise that binds drifts away."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Alarm", "Drift", "ModelRecord", "Tracker"]

logger = logging.getLogger("eccos_rs.session")


@dataclass(frozen=True, slots=True)
class ModelRecord:
    """What was predicted of one model and what came, over the recent past.

    Attributes
    ----------
    feedback : int
        Answers judged, since the beginning.
    predicted_quality, realised_quality : float
        Means over the recently judged answers; NaN before the first.
    settled : int
        Answers whose length is known, since the beginning.
    predicted_tokens, realised_tokens : float
        Mean output tokens over the recently settled answers; NaN before the first.
    predicted_cost, realised_cost : float
        Mean US dollars over the recently settled answers; NaN before the first.
    """

    feedback: int
    predicted_quality: float
    realised_quality: float
    settled: int
    predicted_tokens: float
    realised_tokens: float
    predicted_cost: float
    realised_cost: float


class _Means:
    """Means of several numbers together, each observation decaying as others come in."""

    __slots__ = ("count", "sums", "weight")

    def __init__(self, width: int) -> None:
        self.count = 0
        self.weight = 0.0
        self.sums = [0.0] * width

    def decay(self, keep: float) -> None:
        self.weight *= keep
        self.sums = [keep * value for value in self.sums]

    def add(self, values: Sequence[float], keep: float = 1.0) -> None:
        self.count += 1
        self.weight = self.weight * keep + 1.0
        sums = self.sums
        for at, value in enumerate(values):
            sums[at] = sums[at] * keep + value

    def add_sums(self, count: int, sums: Sequence[float]) -> None:
        self.count += count
        self.weight += count
        for at, value in enumerate(sums):
            self.sums[at] += value

    def mean(self, at: int) -> float:
        return self.sums[at] / self.weight if self.weight > 0 else math.nan


class Tracker:
    """Follows predicted and realised quality, length and cost of every model.

    Evidence fades with all feedback, not with its model's own: a model that once did badly and gets
    nothing any more is forgiven in time and tried again.

    Parameters
    ----------
    models : int
    memory : float
        Judged answers after which evidence has faded to 1/e.
    prior : float
        Judged answers that a prediction is worth: the correction is shrunk by that many agreeing ones.
    """

    def __init__(self, models: int, memory: float = 2000.0, prior: float = 50.0) -> None:
        self._keep = math.exp(-1.0 / memory)
        self._prior = prior
        self._quality = [_Means(2) for _ in range(models)]
        self._settled = [_Means(4) for _ in range(models)]
        self.bias = [0.0] * models
        """What to add to a predicted quality, by model."""
        self.totals = [[0, 0.0, 0.0] for _ in range(models)]
        """Answers judged here since the beginning, and the sums predicted and realised of them, by model."""

    def judged(self, model: int, predicted: float, realised: float) -> None:
        """Take one judged answer."""
        for at, amount in enumerate((1, predicted, realised)):
            self.totals[model][at] += amount
        self.absorb(model, 1, predicted, realised)

    def absorb(self, model: int, answers: int, predicted: float, realised: float) -> None:
        """Take judged answers by their sums, which another session may have counted."""
        for at, means in enumerate(self._quality):
            means.decay(self._keep**answers)
            if at == model:
                means.add_sums(answers, (predicted, realised))
            self.bias[at] = (means.sums[1] - means.sums[0]) / (means.weight + self._prior)

    def settled(
        self, model: int, predicted: tuple[float, float], realised: tuple[float | None, float]
    ) -> None:
        """Take the (output tokens, US dollars) of one answer; the tokens may be unknown."""
        if realised[0] is None:
            return
        means = self._settled[model]
        means.add((*predicted, realised[0], realised[1]), self._keep)

    def record(self, model: int) -> ModelRecord:
        """Return what is known of a model."""
        quality, settled = self._quality[model], self._settled[model]
        return ModelRecord(
            feedback=quality.count,
            predicted_quality=quality.mean(0),
            realised_quality=quality.mean(1),
            settled=settled.count,
            predicted_tokens=settled.mean(0),
            realised_tokens=settled.mean(2),
            predicted_cost=settled.mean(1),
            realised_cost=settled.mean(3),
        )

    def overall(self) -> tuple[float, float, float]:
        """Return the recent (weight of evidence, mean predicted, mean realised) over all models."""
        weight = sum(means.weight for means in self._quality)
        if weight <= 0:
            return 0.0, math.nan, math.nan
        sums = [sum(means.sums[at] for means in self._quality) for at in (0, 1)]
        return weight, sums[0] / weight, sums[1] / weight


@dataclass(frozen=True, slots=True)
class Alarm:
    """A constraint that binds and drifts.

    Attributes
    ----------
    constraint : str
        ``quality``, ``budget``, or ``tokens:MODEL``.
    raised : bool
        True when it begins, False when it is over.
    promised, realised : float
        In the constraint's own unit: success, US dollars, tokens an answer.
    message : str
        One sentence.
    """

    constraint: str
    raised: bool
    promised: float
    realised: float
    message: str


class Drift:
    """Raises an alarm when a promise is broken beyond chance, and calls it off when it holds again.

    Parameters
    ----------
    callback : callable, optional
        Called with each `Alarm`, on the session's thread. What it raises is logged.
    """

    def __init__(self, callback: Callable[[Alarm], None] | None = None) -> None:
        self._callback = callback
        self.active: dict[str, Alarm] = {}
        self.raised = 0

    def quality(self, floor: float, weight: float, realised: float) -> None:
        """Check the realised mean against the floor: 2.6 standard errors below is no chance any more."""
        if weight < 30:
            return
        error = math.sqrt(max(realised * (1 - realised), 0.01) / weight)
        self._judge(
            "quality", realised + 2.6 * error < floor, realised + error >= floor,
            promised=floor, realised=realised,
            message=f"realised quality {realised:.3f} over {weight:.0f} judged answers, promised {floor:.3f}",
        )  # fmt: skip

    def budget(self, budget: float, on_pace: float, spent: float) -> None:
        """Check the spend against the pace: a tenth of the budget ahead, or all of it gone."""
        ahead = spent - on_pace
        self._judge(
            "budget", ahead > 0.1 * budget or spent > budget, ahead < 0.05 * budget and spent <= budget,
            promised=on_pace, realised=spent,
            message=f"${spent:.6g} spent of ${budget:.6g}; an even pace stands at ${on_pace:.6g}",
        )  # fmt: skip

    def tokens(self, names: Sequence[str], bound: Sequence[bool], tracker: Tracker) -> None:
        """Check the real lengths of the models whose tokens per minute are limited."""
        for at, name in enumerate(names):
            record = tracker.record(at) if bound[at] else None
            if record is None or record.settled < 30 or record.predicted_tokens <= 0:
                continue
            ratio = record.realised_tokens / record.predicted_tokens
            self._judge(
                f"tokens:{name}", ratio > 1.5, ratio < 1.25,
                promised=record.predicted_tokens, realised=record.realised_tokens,
                message=f"{name} writes {ratio:.2f} times the tokens that were reserved for it",
            )  # fmt: skip

    def _judge(
        self,
        constraint: str,
        broken: bool,
        kept: bool,
        *,
        promised: float,
        realised: float,
        message: str,
    ) -> None:
        active = constraint in self.active
        if broken and not active:
            alarm = Alarm(constraint, True, promised, realised, message)
            self.active[constraint] = alarm
            self.raised += 1
            logger.warning("drift of %s: %s", constraint, message)
        elif kept and active:
            del self.active[constraint]
            alarm = Alarm(constraint, False, promised, realised, message)
            logger.info("%s holds again: %s", constraint, message)
        else:
            return
        if self._callback is not None:
            try:
                self._callback(alarm)
            except Exception:
                logger.exception("the alarm callback failed")
