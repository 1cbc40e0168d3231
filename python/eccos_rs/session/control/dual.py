"""The shadow price of quality for the whole stream, and a price for each model's capacity.

A promise forced on every micro-batch costs money for nothing: what counts is the mean over the stream. So the
quality row is dualised: queries are decided at a *price*, and the price comes from solving the recent past
as one batch, for the mean that the future must have so that the stream as a whole keeps its promise.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

from eccos_rs.solver.assignment import Assignment, Status, assign

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from eccos_rs.routing.policy import Policy
    from eccos_rs.session.control.pacing import Pacer
    from eccos_rs.session.limits.window import ModelLoad

__all__ = ["DualController", "History"]

_HISTORY = 1024
"""Queries of the recent past that stand for the future."""

_TOKENS_PER_SECOND = 50.0
"""Assumed speed of a model of which nothing has come back yet."""

_ENOUGH = 32
"""Queries that outweigh a price from an earlier run."""

_STALE = 5.0
"""Seconds after which a price is computed again at the next query."""

_REFRESH_THRESHOLD = 0.002
"""Share of a budget after whose spending a price is computed again, however few queries it took."""

_LARGEST_DEFICIT = 0.05
"""Deficit or surplus of mean quality, over one history's length, beyond which none is carried."""


class History:
    """The last queries: what each would have cost and been worth at every model.

    Parameters
    ----------
    models : int
    size : int
        How many are kept.
    """

    def __init__(self, models: int, size: int = _HISTORY) -> None:
        self.size = size
        self.seen = 0
        self._cost = np.zeros((size, models))
        self._quality = np.zeros((size, models), dtype=np.float32)
        self._tokens = np.zeros((size, models))
        self._allowed = np.zeros((size, models), dtype=np.bool_)

    def __len__(self) -> int:
        return min(self.seen, self.size)

    def add(
        self,
        cost: NDArray[np.float64],
        quality: NDArray[np.float32],
        tokens: NDArray[np.float64],
        allowed: NDArray[np.bool_],
    ) -> None:
        """Remember a batch of queries, each with at least one model allowed."""
        rows = np.arange(self.seen, self.seen + len(cost))[-self.size :] % self.size
        for kept, new in (
            (self._cost, cost), (self._quality, quality), (self._tokens, tokens), (self._allowed, allowed),
        ):  # fmt: skip
            kept[rows] = new[-self.size :]
        self.seen += len(cost)

    def clear(self) -> None:
        """Forget everything."""
        self.seen = 0

    @property
    def cost(self) -> NDArray[np.float64]:
        """US dollars, shape (n, M)."""
        return self._cost[: len(self)]

    @property
    def quality(self) -> NDArray[np.float32]:
        """Predicted success, shape (n, M)."""
        return self._quality[: len(self)]

    @property
    def tokens(self) -> NDArray[np.float64]:
        """Prompt and predicted output tokens, shape (n, M)."""
        return self._tokens[: len(self)]

    @property
    def allowed(self) -> NDArray[np.bool_]:
        """Pairs that may be chosen, shape (n, M)."""
        return self._allowed[: len(self)]


class DualController:
    """Keeps the prices at which queries are decided.

    Parameters
    ----------
    policy : Policy
    models : int
    pacer : Pacer, optional
        With a budget.
    price : float, optional
        To begin with, from an earlier run.
    """

    def __init__(
        self, policy: Policy, models: int, pacer: Pacer | None = None, price: float | None = None
    ) -> None:
        self.policy = policy
        self.pacer = pacer
        self.history = History(models)
        self.price = price if policy.quality_value is None else policy.quality_value
        """US dollars per success; None before the first query."""
        self.slot_price = np.zeros(models)
        """US dollars for one more request at each model, where the stream as a whole asks for too many."""
        self.own_price = self.price
        """The price that this session's own past gives, before others' prices are averaged in."""
        self.target = math.nan
        """Mean corrected quality asked of the next queries."""
        self.promised = math.nan
        """Mean quality asked of the stream; NaN for a budget or a price."""
        self._target_of_stream = math.nan  # `promised`, with the margin of the policy's confidence
        self.decided = 0
        self.deficit = 0.0
        """Quality that the stream is behind its target, summed over queries; negative when it is ahead."""
        self._elsewhere: list[float] = []  # prices of other sessions with the same goal
        self._deficit_elsewhere = 0.0
        self._sessions = 1
        self._since = 0
        self._updated = -math.inf
        self._committed = 0.0
        self._resumed = self.price is not None
        self._warm: Assignment | None = None

    def count(self, quality: float, decisions: int = 1) -> None:
        """Count decisions (or take them back) with the sum of their corrected predicted quality."""
        self.decided += decisions
        self._since += max(decisions, 0)
        if not math.isnan(self._target_of_stream):
            self._carry(decisions * self._target_of_stream - quality)

    def judged(self, expected: float, realised: float) -> None:
        """Take a realised quality in place of what was expected (and counted) of it."""
        if not math.isnan(self._target_of_stream):
            self._carry(expected - realised)

    def _carry(self, quality: float) -> None:
        # What cannot be made good within one history is dropped: an hour in which the strong model was down
        # must not be followed by an hour of overspending to catch up.
        most = _LARGEST_DEFICIT * self.history.size
        self.deficit = min(max(self.deficit + quality, -most), most)

    def due(self, now: float) -> bool:
        """Say whether enough has changed for the price to be computed again: queries, or time."""
        if self.price is None:
            return True
        # A price that thousands of queries have made is not thrown away for what three new ones say.
        if self._resumed and self.history.seen < _ENOUGH:
            return False
        if self._since >= max(1, min(len(self.history) // 4, self.history.size // 4)):
            return True
        if (
            self.pacer is not None
            and self.pacer.committed - self._committed > _REFRESH_THRESHOLD * self.pacer.budget
        ):
            return True
        # Thin traffic: the budget left and the capacity asked for change with time alone.
        return now - self._updated >= _STALE

    def update(self, now: float, models: Sequence[ModelLoad] = (), arrivals_per_second: float = 0.0) -> None:
        """Compute the prices again from the recent past.

        Parameters
        ----------
        now : float
            On the session's clock, in seconds.
        models : sequence of ModelLoad
            The load of each model; with none, capacity has no price.
        arrivals_per_second : float
            Queries that share the capacity; with 0, it has no price.
        """
        self._since = 0
        self._updated = now
        if not len(self.history):
            return
        self._set_target()
        options: dict[str, object] = {"allowed": self.history.allowed, "warm_start": self._warm}
        share = self._capacity_share(models, arrivals_per_second)
        if share is not None:
            options["capacity"] = share * len(self.history)
        cost, quality = self.history.cost, self.history.quality
        if self.policy.quality_value is not None:
            if share is not None:
                found = assign(cost, quality, quality_value=self.price, **options)  # type: ignore[arg-type]
                self.slot_price = self._slot_prices(found)
            return
        if self.pacer is not None:
            self._committed = self.pacer.committed
            budget = self.pacer.allowance() * len(self.history)
            found = assign(cost, quality, budget=budget, **options)  # type: ignore[arg-type]
        else:
            found = assign(cost, quality, min_quality=self.target, **options)  # type: ignore[arg-type]
        self._warm = found
        self.own_price = self._quality_price(found)
        self.price = _average([self.own_price, *self._elsewhere])
        self.slot_price = self._slot_prices(found) if share is not None else np.zeros_like(self.slot_price)

    def _set_target(self) -> None:
        policy, history = self.policy, self.history
        if policy.min_quality is not None:
            self.promised = policy.min_quality
        elif policy.relative_quality is not None:
            masked = np.where(history.allowed, history.quality, np.nan)
            counts = history.allowed.sum(axis=0)
            means = np.where(counts > 0, np.nansum(masked, axis=0) / np.maximum(counts, 1), -1.0)
            # The strongest that a query may take: where the strongest of all is ruled out, its own best.
            strongest = int(np.argmax(means))
            own = np.where(history.allowed, history.quality, -1.0).max(axis=1)
            reached = np.where(history.allowed[:, strongest], history.quality[:, strongest], own)
            self.promised = policy.relative_quality * float(reached.mean(dtype=np.float64))
        else:
            return
        self._target_of_stream = self.promised
        if policy.confidence is not None:
            # The flip of n coins with a mean of p: what the realised mean of one history may fall short.
            spread = math.sqrt(self.promised * (1.0 - self.promised) / history.size)
            self._target_of_stream += NormalDist().inv_cdf(policy.confidence) * spread
        deficit = (self.deficit + self._deficit_elsewhere) / self._sessions
        self.target = min(max(self._target_of_stream + deficit / history.size, 0.0), 1.0)

    def _quality_price(self, found: Assignment) -> float:
        # The multiplier is where one of these very queries is torn between two models. A hair more, and it
        # goes to the better one: a promised mean is kept from above.
        dual = found.duals.requirement * (1.0 if self.pacer is not None else 1.0 + 1e-6)
        if self.pacer is not None:
            if found.status is Status.BUDGET_UNREACHABLE:
                return 0.0
            # Under a budget the multiplier is the success that a dollar buys.
            dual = 1.0 / dual if dual > 0 else math.inf
        if math.isfinite(dual) and found.status is not Status.QUALITY_UNREACHABLE:
            return dual
        return self.highest_price()

    def highest_price(self) -> float:
        """Return a price at which quality decides nearly alone: a thousandth of it outweighs any cost."""
        return 1e3 * float(self.history.cost.max(initial=1e-9))

    def _capacity_share(
        self, models: Sequence[ModelLoad], arrivals_per_second: float
    ) -> NDArray[np.float64] | None:
        """Return the share of the stream that each model can carry, when any cannot carry all of it."""
        history = self.history
        if len(history) < 64 or arrivals_per_second <= 0:
            return None
        output_seconds = history.tokens.mean(axis=0) / _TOKENS_PER_SECOND
        mean_tokens = history.tokens.mean(axis=0)
        share = np.full(len(models), np.inf)
        for at, model in enumerate(models):
            if model.slots is not None:
                held = model.seconds or float(output_seconds[at])
                share[at] = model.slots / max(held, 1e-9)
            if model.requests is not None:
                share[at] = min(share[at], model.requests.limit / 60.0)
            if model.tokens is not None:
                share[at] = min(share[at], model.tokens.limit / 60.0 / max(float(mean_tokens[at]), 1.0))
            if not model.up:
                share[at] = 0.0
        share /= arrivals_per_second
        # Nothing binds, or everything does: in neither case is there a choice that prices could guide.
        if share.min() >= 1.0 or share.sum() <= 1.0:
            return None
        return share

    def _slot_prices(self, found: Assignment) -> NDArray[np.float64]:
        if found.status is Status.OVERLOADED:
            return np.zeros_like(self.slot_price)
        prices = np.asarray(found.capacity_price, dtype=np.float64)
        return np.where(np.isfinite(prices), prices, 0.0)

    def take_elsewhere(self, prices: Sequence[float], deficit: float, sessions: int) -> None:
        """Take the prices and the summed deficit of other sessions that serve the same stream.

        Parameters
        ----------
        prices : sequence of float
            US dollars per success.
        deficit : float
        sessions : int
            How many there are, this one included.
        """
        self._elsewhere = list(prices)
        self._deficit_elsewhere = deficit
        self._sessions = sessions
        if prices and self.policy.quality_value is None and self.history.seen < _ENOUGH:
            # A head begins with the price that others have found.
            self.price = _average(prices)
            self._resumed = True

    def reset(self) -> None:
        """Begin anew from the next query: the recent past cannot be solved."""
        self.history.clear()
        self._warm = None

    def premium(self, models: Sequence[ModelLoad]) -> NDArray[np.float64]:
        """Return what a slot of each model costs now, in US dollars: the less, the emptier the model is.

        The price rests on estimates of arrivals and service times. Were they wrong, a price on an idle model
        would only turn queries away from it. A model that is at least half busy asks the full price.
        """
        if not self.slot_price.any():
            return self.slot_price
        busy = np.ones(len(models))
        for at, model in enumerate(models):
            uses = []
            if model.slots:
                uses.append(model.in_flight / model.slots)
            for window in (model.requests, model.tokens):
                if window is not None and window.limit:
                    uses.append(window.used / window.limit)
            busy[at] = min(2.0 * max(uses, default=1.0), 1.0)
        return self.slot_price * busy


def _average(prices: Sequence[float]) -> float:
    """Return the geometric mean of prices; the first one where any is 0 or infinite."""
    if len(prices) == 1 or not all(0 < price < math.inf for price in prices):
        return prices[0]
    return math.exp(sum(map(math.log, prices)) / len(prices))
