"""What a conversation's next turn costs at each model when prompt caches count, and what it makes later.

A provider reads the prefix that its cache holds at a fraction of the price; at another model the whole
prompt is new. So a turn's cost depends on where the earlier turns went, and its model decides what the next
ones cost: the price of a switch. `ConversationPolicy` gives both for every model, so that a turn moves only
where that is worth it.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from eccos_rs.routing.cache_terms import CachedPrompt, CacheTerms

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eccos_rs.domain.llm import LLM
    from eccos_rs.routing.prefix import Prefix

__all__ = ["CacheTerms", "CachedPrompt", "ConversationPolicy", "ConversationState", "StreamShape"]

_HORIZON = 8
"""Turns that are looked ahead: what lies behind is too uncertain to decide by."""

_SHRINK = 1.2
"""Turns that the stream's mean weighs against a conversation's own: the variance of a turn's difficulty over
that of a conversation's mean."""

_FLATTEN = 1.15
"""Logits are divided by this to expect a success over turns of uncertain difficulty."""

_MEMORY = 0.02
"""Weight of a new turn in the means over the stream."""

_MOST_FORKS = 4
"""Prompts of one conversation that a cache is taken to hold: a client may fork it and go on with both."""

_KNOWN_TOKENS = 2_000.0
"""Tokens that a model's own counts weigh against, before they say how it counts."""

_MOST_TURNS = 64
_PRIOR_TURNS = 8.0


@dataclass(slots=True)
class ConversationState:
    """What is known of one conversation.

    Attributes
    ----------
    turns : int
        Turns that were answered.
    last : int
        Index of the last turn's model; -1 before the first.
    caches : dict of int to tuple of CachedPrompt
        By model, the newest last.
    logits : list of float
        Sum over the turns of each model's forecast, as logits.
    tokens : float
        Of the whole conversation after the last turn.
    """

    turns: int = 0
    last: int = -1
    caches: dict[int, tuple[CachedPrompt, ...]] = field(default_factory=dict)
    logits: list[float] = field(default_factory=list)
    tokens: float = 0.0

    def used(self, model: int) -> float:
        """Return when a model's cache was last used; -inf: never."""
        cached = self.caches.get(model)
        return cached[-1].used if cached else -math.inf


class StreamShape:
    """What conversations of the stream are like, learned from the turns that were answered.

    Attributes
    ----------
    added, answered : float
        Mean tokens that a turn adds to the prompt, and that it answers.
    alive : float
        Share of turns that come while the cache lives.
    """

    def __init__(self, added: float = 600.0, answered: float = 300.0, alive: float = 0.85) -> None:
        self.added = added
        self.answered = answered
        self.alive = alive
        self._went_on = [0] * (_MOST_TURNS + 1)
        self._ended = [0] * (_MOST_TURNS + 1)
        self._logits: list[float] = []

    def note_turn(self, turns: int, added: float | None, answered: float, alive: bool | None) -> None:
        """Learn from one answered turn; `turns` counts it, and a first turn adds to nothing."""
        self.answered += _MEMORY * (answered - self.answered)
        if added is not None:
            self.added += _MEMORY * (added - self.added)
        if alive is not None:
            self.alive += _MEMORY * (alive - self.alive)
        self._went_on[min(turns - 1, _MOST_TURNS)] += 1

    def note_end(self, turns: int) -> None:
        """Learn that a conversation came to its end after so many turns."""
        self._ended[min(turns, _MOST_TURNS)] += 1

    def note_forecast(self, logits: Sequence[float]) -> Sequence[float]:
        """Learn the models' mean forecasts; return them."""
        if not self._logits:
            self._logits = list(logits)
        for at, value in enumerate(logits):
            self._logits[at] += _MEMORY * (value - self._logits[at])
        return self._logits

    def reordered(self, places: Sequence[int]) -> StreamShape:
        """Return it for another pool, which goes on learning what concerns no model for both.

        Parameters
        ----------
        places : sequence of int
            Where each model of the other pool stood in this one; -1 for a new one, taken for an average one.
        """
        other = copy.copy(self)
        known = [self._logits[at] for at in places if at >= 0] if self._logits else []
        middle = sum(known) / len(known) if known else 0.0
        other._logits = [self._logits[at] if at >= 0 else middle for at in places] if known else []
        return other

    def goes_on(self, turns: int) -> float:
        """Return the chance that a conversation of so many turns has another."""
        at = min(max(turns, 1), _MOST_TURNS - 1)
        prior = (at + 1) / (at + 2)  # the longer it has lasted, the longer it lasts
        seen = self._went_on[at] + self._ended[at]
        return (self._went_on[at] + _PRIOR_TURNS * prior) / (seen + _PRIOR_TURNS)


class ConversationPolicy:
    """Costs of a conversation's next turn, and of what it makes the later ones cost.

    Parameters
    ----------
    pool : sequence of LLM
    lifetime : float
        Seconds for which a cache is taken to live where the pool does not say.
    shape : StreamShape, optional
        What is expected of conversations; learned as they go.
    horizon : int
        Turns that are looked ahead; 0 counts this turn's cache alone.
    """

    def __init__(
        self,
        pool: Sequence[LLM],
        lifetime: float = 300.0,
        *,
        shape: StreamShape | None = None,
        horizon: int = _HORIZON,
    ) -> None:
        self.terms = [CacheTerms.of(llm, lifetime) for llm in pool]
        self.shape = StreamShape() if shape is None else shape
        self._horizon = horizon
        self._hits = [1.0] * len(self.terms)
        self._counted = [(_KNOWN_TOKENS, _KNOWN_TOKENS)] * len(self.terms)

    def is_alive(self, model: int, used: float, now: float) -> bool:
        """Whether a model's cache may still hold what was last used at a moment."""
        return self.terms[model].lifetime > 0 and now - used <= self.terms[model].lifetime

    def held(
        self, state: ConversationState, prompt: float, now: float, prefix: Prefix | None = None
    ) -> list[float]:
        """Return for each model the tokens of a prompt that its cache is expected to hold."""
        held = [0.0] * len(self.terms)
        for at, cached in state.caches.items():
            alive = [each for each in cached if self.is_alive(at, each.used, now)]
            most = max((each.held(self.scale(at) * prompt, prefix) for each in alive), default=0.0)
            if most >= max(self.terms[at].minimum, 1):
                held[at] = self._hits[at] * most
        return held

    def costs(
        self,
        state: ConversationState,
        prompt: float,
        answers: Sequence[float],
        now: float,
        prefix: Prefix | None = None,
    ) -> list[float]:
        """Return US dollars of the next turn at each model, with what the caches hold counted.

        Parameters
        ----------
        state : ConversationState
        prompt : float
            Tokens of the whole prompt.
        answers : sequence of float, one per model
            Expected output tokens.
        now : float
            Seconds, on the clock of `ConversationState.caches`.
        prefix : Prefix, optional
            Of the prompt: where it parts from the earlier ones, caches end.
        """
        held = self.held(state, prompt, now, prefix)
        return [
            terms.at(self.scale(at) * prompt).cost(self.scale(at) * prompt, cached, answer)
            for at, (terms, cached, answer) in enumerate(zip(self.terms, held, answers, strict=True))
        ]

    def scale(self, model: int) -> float:
        """Return how a model counts tokens, as a multiple of the estimate, as far as it has told."""
        estimated, counted = self._counted[model]
        return min(max(counted / estimated, 0.5), 2.0)

    def surcharges(
        self,
        state: ConversationState,
        prompt: float,
        answers: Sequence[float],
        quality: Sequence[float],
        price: float,
    ) -> list[float]:
        """Return what giving this turn to each model makes the later turns cost, less that of the best one.

        A dynamic programme over the next turns, on mean sizes and on the conversation's own difficulty as far
        as its turns have shown it, shrunk to the stream's. At each later turn the conversation stays, with a
        warm cache, or moves to the then best model, with a cold one.

        Parameters
        ----------
        quality : sequence of float, one per model
            Predicted success of this turn.
        price : float
            US dollars of one more success.
        """
        shape, terms = self.shape, [each.at(prompt) for each in self.terms]
        logits = [_logit(value) for value in quality]
        worth = [price * value for value in self._expected(state, logits)]
        ahead = [0.0] * len(terms)
        turns = state.turns + 1
        goes_on = [shape.goes_on(turns + step) for step in range(self._horizon)]
        for step in range(self._horizon, 0, -1):
            # Mean sizes: the prompt grows by what is added and by what was answered.
            grown = step * shape.added + (step - 1) * shape.answered
            best, stay = math.inf, []
            for at, each in enumerate(terms):
                size = prompt + answers[at] + grown
                before = prompt if step == 1 else size - shape.added - shape.answered
                rest = ahead[at] - worth[at] + shape.answered * each.answer
                cold = size * each.write
                held = self._hits[at] * before if before >= each.minimum else 0.0
                warm = held * each.read + (size - held) * each.write
                best = min(best, cold + rest)
                alive = shape.alive if each.lifetime > 0 else 0.0
                stay.append(alive * warm + (1 - alive) * cold + rest)
            chance = goes_on[step - 1]
            ahead = [chance * min(value, best) for value in stay]
        least = min(ahead)
        return [value - least for value in ahead]

    def _expected(self, state: ConversationState, logits: Sequence[float]) -> list[float]:
        """Return the success that each model is expected to have on later turns."""
        mean = self.shape.note_forecast(logits)
        seen = state.turns + 1
        before = state.logits or [0.0] * len(logits)
        return [
            _logistic((before[at] + logits[at] + _SHRINK * mean[at]) / (seen + _SHRINK) / _FLATTEN)
            for at in range(len(logits))
        ]

    def note(
        self,
        state: ConversationState,
        model: int,
        *,
        prompt: float,
        answer: float,
        quality: Sequence[float],
        now: float,
        cached: float | None = None,
        prefix: Prefix | None = None,
        estimated: float | None = None,
    ) -> None:
        """Enter an answered turn.

        Parameters
        ----------
        state : ConversationState
            Changed in place.
        model : int
            Index of the model that answered.
        prompt, answer : float
            Tokens, as the provider counted them.
        quality : sequence of float
            Forecasts of the turn.
        now : float
        cached : float, optional
            Tokens that the provider says its cache held: a cache that does not hold what was expected is
            counted on less.
        prefix : Prefix, optional
            Of the prompt.
        estimated : float, optional
            Tokens of the prompt before the provider counted them: tokenizers differ.
        """
        if estimated is not None:
            before, counted = self._counted[model]
            keep = 1 - _MEMORY
            self._counted[model] = keep * before + estimated, keep * counted + prompt
        expected = self.held(state, prompt / self.scale(model), now, prefix)[model]
        if cached is not None and expected > 0:
            hit = min(cached * self._hits[model] / expected, 1.0)
            # A prompt that parted from the earlier ones at its beginning says little of what is held.
            weight = 0.2 * min(expected / self._hits[model] / prompt, 1.0)
            self._hits[model] = max(0.01, self._hits[model] + weight * (hit - self._hits[model]))
        alive = None
        if state.last >= 0 and self.terms[state.last].lifetime > 0:
            alive = self.is_alive(state.last, state.used(state.last), now)
        state.turns += 1
        added = prompt - state.tokens if state.tokens and prompt >= state.tokens else None
        self.shape.note_turn(state.turns, added, answer, alive)
        logits = [_logit(value) for value in quality]
        state.logits = [a + b for a, b in zip(state.logits or [0.0] * len(logits), logits, strict=True)]
        state.last, state.tokens = model, prompt + answer
        # The answer is new to the cache when it comes back as a part of the next prompt.
        kept = None if prefix is None else prefix.kept()
        others = () if prefix is None else tuple(
            each for each in state.caches.get(model, ())
            if each.prefix is not None and each.prefix.share_in(prefix) < 1
        )  # fmt: skip
        state.caches[model] = (*others, CachedPrompt(prompt, now, kept))[-_MOST_FORKS:]


def _logit(value: float) -> float:
    value = min(max(value, 1e-4), 1 - 1e-4)
    return math.log(value / (1 - value))


def _logistic(value: float) -> float:
    return 1 / (1 + math.exp(-value))
