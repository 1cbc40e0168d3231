"""Which model a conversation is with, and for how long its prompt cache may live there."""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from eccos_rs.routing.conversation import ConversationPolicy, ConversationState

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from eccos_rs.dialects.usage import Usage
    from eccos_rs.pools.pool import LLM
    from eccos_rs.session.request import Costing

__all__ = ["Conversations", "conversation_key", "of_tenant"]

_IDLE = 3600.0
"""Seconds without a turn after which a conversation has come to its end."""


def conversation_key(
    values: Mapping[str, Any], header: str | None, client: str, asked: tuple[str, str]
) -> str:
    """Return what a conversation is known by, apart for every client.

    Parameters
    ----------
    values : mapping
        The request's body.
    header : str, optional
        ``x-session-id``.
    client : str
        Who asks; two clients with one session id do not meet.
    asked : tuple of str
        System text and first user message, which stay the same through a conversation.
    """
    named = header or values.get("prompt_cache_key")
    parts: tuple[str, ...]
    if isinstance(named, str) and named:
        parts = ("named", client, named)
    else:
        parts = ("asked", client, str(values.get("user")), *asked)
    return _digest(*parts)


def of_tenant(key: str, tenant: str) -> str:
    """Return what a conversation is known by for one tenant: one that changes tenant begins anew."""
    return _digest(key, tenant)


def _digest(*parts: str) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        raw = part.encode("utf-8", "surrogatepass")
        digest.update(len(raw).to_bytes(8, "big") + raw)
    return digest.hexdigest()


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
        self._answers: OrderedDict[str, str] = OrderedDict()
        self.policy = ConversationPolicy(pool, stickiness)

    def __len__(self) -> int:
        return len(self._states)

    def last(self, key: str) -> str | None:
        """Return the model of the last turn while its cache may live; None: there is none."""
        state = self._states.get(key)
        if state is None or state.last < 0 or self._stickiness <= 0:
            return None
        used = state.caches[state.last][1]
        alive = self._clock() - used <= self.policy.terms[state.last].lifetime
        return self._pool[state.last].name if alive else None

    def keep_answer(self, identity: str, model: str) -> None:
        """Remember which model holds a response that a later request may go on from."""
        self._answers[identity] = model
        while len(self._answers) > self._most:
            self._answers.popitem(last=False)

    def holder(self, identity: str) -> str | None:
        """Return the model that holds a response."""
        return self._answers.get(identity)

    def counts_cache(self, model: str) -> bool:
        """Whether a model's price of cached input is known, so that a move can be weighed against it."""
        return any(llm.name == model and llm.cached_input_price is not None for llm in self._pool)

    def costing(self, key: str) -> Costing | None:
        """Return what a turn of a conversation costs at each model, as `Session.acquire` takes it."""
        if self._stickiness <= 0:
            return None
        state = self._states.get(key) or ConversationState()
        now = self._clock()

        def cost(
            *, input_tokens: int, output_tokens: Sequence[float], quality: Sequence[float]
        ) -> tuple[Sequence[float], Sequence[float]]:
            policy = self.policy
            costs = policy.costs(state, input_tokens, output_tokens, now)
            ahead = policy.surcharges(state, input_tokens, output_tokens, quality, self._price)
            return costs, ahead

        return cost

    def note(
        self, key: str, model: int, *, price: float, forecasts: Sequence[float], usage: Usage, prompt: int
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
        usage : Usage
            What the endpoint counted.
        prompt : int
            Estimated input tokens, where it did not count them.
        """
        if self._stickiness <= 0:
            return
        self._price = price
        state = self._states.setdefault(key, ConversationState())
        self.policy.note(
            state, model, prompt=usage.input_tokens or prompt, answer=usage.output_tokens or 0,
            quality=forecasts, now=self._clock(), cached=usage.cached_tokens if usage.stated else None,
        )  # fmt: skip
        self._states.move_to_end(key)
        self._forget()

    def _forget(self) -> None:
        now = self._clock()
        while self._states:
            state = next(iter(self._states.values()))
            idle = now - max(used for _, used in state.caches.values())
            if len(self._states) <= self._most and idle <= _IDLE:
                break
            self.policy.shape.note_end(state.turns)
            self._states.popitem(last=False)
