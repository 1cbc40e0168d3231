"""Which model a conversation is with, and what the prompt caches hold of it."""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from eccos_rs.routing.conversation import CachedPrompt, ConversationPolicy, ConversationState
from eccos_rs.routing.prefix import Prefix

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from eccos_rs.domain.query import Query
    from eccos_rs.pools.pool import LLM, Pool

__all__ = ["Conversations", "Turn", "digest"]

_IDLE = 3600.0
"""Seconds without a turn after which a conversation has come to its end."""


def digest(*parts: str) -> str:
    """Return what a conversation is known by; no two lists of parts are known by the same."""
    found = hashlib.blake2b(digest_size=16)
    for part in parts:
        raw = part.encode("utf-8", "surrogatepass")
        found.update(len(raw).to_bytes(8, "big") + raw)
    return found.hexdigest()


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of a conversation, as it is decided about.

    Attributes
    ----------
    key : str
        What the conversation is known by.
    last : str or None
        The model that the conversation is with: its cache may hold it, or a tool of its has just answered.
    sticks : bool
        Whether it stays there whatever a move would bring.
    """

    key: str
    last: str | None
    sticks: bool
    _known: Conversations
    _prefix: Prefix

    def __call__(
        self, *, input_tokens: int, output_tokens: Sequence[float], quality: Sequence[float]
    ) -> tuple[Sequence[float], Sequence[float]]:
        """Return what the turn costs at each model, and what it makes later turns cost; see `Costing`."""
        return self._known.costs(self, input_tokens, output_tokens, quality)

    @property
    def prefix(self) -> Prefix:
        """Marks of its prompt."""
        return self._prefix

    def stays(self, query: Query, exclude: Sequence[str], pool: Pool) -> bool:
        """Whether the conversation's own model is asked before any other."""
        if not self.sticks or self.last is None or self.last in exclude:
            return False
        at = pool.index(self.last)
        return query.models is None or any(at in pool.columns(name) for name in query.models)

    def how(self, model: str | None) -> str:
        """Return ``"kept"``, ``"moved"`` or ``"chosen"``: by the conversation's model, by another, anew."""
        return "chosen" if self.last is None else "kept" if model == self.last else "moved"

    def answered(self, model: int, **answer: Any) -> None:
        """Enter it as answered just now; see `Conversations.note`."""
        self._known.note(self.key, model, prefix=self._prefix, **answer)


class Conversations:
    """The conversations of late: which model each is with, and what the prompt caches hold of it.

    Parameters
    ----------
    pool : sequence of LLM
    stickiness : float
        Seconds for which a cache is taken to live where the pool does not say; 0: no conversation is known.
    most : int
        Conversations that are remembered; beyond, the oldest are forgotten.
    clock : callable
        Seconds that never run backwards.
    """

    def __init__(
        self,
        pool: Sequence[LLM],
        stickiness: float = 300.0,
        *,
        most: int = 100_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pool = pool
        self._stickiness = stickiness
        self._most = most
        self._clock = clock
        self._states: OrderedDict[str, ConversationState] = OrderedDict()
        self._price = 0.0
        self.policy = ConversationPolicy(pool, stickiness)

    def __len__(self) -> int:
        return len(self._states)

    def turn(self, query: Query, key: str | None = None, *, continues: bool = True) -> Turn | None:
        """Return a turn to be decided; None where conversations are not known.

        Parameters
        ----------
        query : Query
            The whole chat: what of it a cache holds is told by its text.
        key : str, optional
            What the conversation is known by, in place of the query's session and group.
        continues : bool
            Whether it goes on with a conversation; a first turn is with no model yet.
        """
        if key is None and query.session is not None:
            key = digest("session", query.group or "", query.session)
        if self._stickiness <= 0 or key is None:
            return None
        looping = _after_tool(query)
        last = self.last(key, looping=looping) if continues else None
        sticks = last is not None and (looping or not self._counts_cache(last))
        return Turn(key, last, sticks, self, Prefix.of(query))

    def last(self, key: str, *, looping: bool = False) -> str | None:
        """Return the model of the last turn while its cache may live, or whatever its age within a loop."""
        state = self._states.get(key)
        if state is None or state.last < 0:
            return None
        alive = looping or self.policy.is_alive(state.last, state.used(state.last), self._clock())
        return self._pool[state.last].name if alive else None

    def _counts_cache(self, model: str) -> bool:
        """Whether a model's price of cached input is known, so that a move can be weighed against it."""
        return any(llm.name == model and llm.cached_input_price is not None for llm in self._pool)

    def costs(
        self, turn: Turn, prompt: float, answers: Sequence[float], quality: Sequence[float]
    ) -> tuple[Sequence[float], Sequence[float]]:
        """Return what a turn costs at each model, and what it makes later turns cost, in US dollars."""
        state, policy = self._states.get(turn.key) or ConversationState(), self.policy
        costs = policy.costs(state, prompt, answers, self._clock(), turn.prefix)
        return costs, policy.surcharges(state, prompt, answers, quality, self._price)

    def note(
        self,
        key: str,
        model: int,
        *,
        price: float,
        forecasts: Sequence[float],
        prompt: float,
        answer: float,
        cached: float | None = None,
        prefix: Prefix | None = None,
        estimated: float | None = None,
    ) -> None:
        """Enter a turn that was answered just now.

        Parameters
        ----------
        key : str
        model : int
            Index of the model that answered.
        price : float
            US dollars that one more success was worth when it was chosen.
        forecasts : sequence of float
            Expected success by model.
        prompt, answer : float
            Tokens.
        cached : float, optional
            Of the prompt, those that the endpoint read from its cache; None where it does not say.
        prefix : Prefix, optional
            Of the prompt.
        estimated : float, optional
            Tokens of the prompt, where `prompt` is what the endpoint counted.
        """
        self._price = price
        state = self._states.setdefault(key, ConversationState())
        self.policy.note(
            state, model, prompt=prompt, answer=answer, quality=forecasts, now=self._clock(),
            cached=None if cached is None else min(cached, prompt), prefix=prefix, estimated=estimated,
        )  # fmt: skip
        self._states.move_to_end(key)
        self._forget()

    def _forget(self) -> None:
        now = self._clock()
        while self._states:
            state = next(iter(self._states.values()))
            if len(self._states) <= self._most and now - state.used(state.last) <= _IDLE:
                break
            self.policy.shape.note_end(state.turns)
            self._states.popitem(last=False)

    def follow(self, other: Conversations) -> None:
        """Go on with the conversations of another pool, as far as its models are in this one."""
        at = {llm.name: number for number, llm in enumerate(self._pool)}
        here = [at.get(llm.name, -1) for llm in other._pool]
        since = self._clock() - other._clock()
        there = {llm.name: number for number, llm in enumerate(other._pool)}
        self.policy.shape = other.policy.shape.reordered([there.get(llm.name, -1) for llm in self._pool])
        self._price = other._price
        for key, old in other._states.items():
            state = ConversationState(old.turns, here[old.last], tokens=old.tokens)
            if len(here) == len(at) and here == list(range(len(at))):
                state.logits = list(old.logits)
            for model, cached in old.caches.items():
                if here[model] >= 0:
                    state.caches[here[model]] = tuple(
                        CachedPrompt(each.tokens, each.used + since, each.prefix) for each in cached
                    )
            self._states[key] = state


def _after_tool(query: Query) -> bool:
    return query.messages is not None and query.messages[-1].get("role") in ("tool", "function")
