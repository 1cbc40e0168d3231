"""A model's prices per token with the terms of its prompt cache, and a prompt that a cache was given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from eccos_rs.domain.pricing import TOKENS_PER_PRICE_UNIT

if TYPE_CHECKING:
    from eccos_rs.domain.llm import LLM, PriceStep
    from eccos_rs.routing.prefix import Prefix

__all__ = ["CacheTerms", "CachedPrompt"]


@dataclass(frozen=True, slots=True)
class CacheTerms:
    """A model's prices, US dollars per token, and the terms of its prompt cache.

    Attributes
    ----------
    fresh, answer : float
        Input that no cache holds, and output.
    read, write : float
        Input read from the cache, and input that is written into it.
    minimum : int
        Tokens of the shortest prefix that is cached.
    lifetime : float
        Seconds for which a prefix is held after its last use; 0: nothing is held.
    steps : tuple of (int, CacheTerms)
        Of prompts longer than so many tokens.
    """

    fresh: float
    answer: float
    read: float
    write: float
    minimum: int = 0
    lifetime: float = 300.0
    steps: tuple[tuple[int, CacheTerms], ...] = ()

    @classmethod
    def of(cls, llm: LLM, lifetime: float) -> CacheTerms:
        """Read them from a model; `lifetime` stands in for one that is not known."""
        least = llm.cache_minimum or 0
        lasts = lifetime if llm.cache_lifetime is None else llm.cache_lifetime
        steps = tuple((step.above, cls(*_per_token(step), least, lasts)) for step in llm.price_steps)
        return cls(*_per_token(llm), least, lasts, steps)

    def at(self, prompt: float) -> CacheTerms:
        """Return the terms of a prompt of so many tokens: long ones have prices of their own."""
        beyond = [terms for above, terms in self.steps if prompt > above]
        return beyond[-1] if beyond else self

    def cost(self, prompt: float, held: float, answer: float) -> float:
        """Return US dollars of a turn whose first `held` tokens are cached; the rest is written there."""
        return held * self.read + (prompt - held) * self.write + answer * self.answer


@dataclass(frozen=True, slots=True)
class CachedPrompt:
    """A prompt that a cache was last given.

    Attributes
    ----------
    tokens : float
    used : float
        When it was last used, in seconds.
    prefix : Prefix, optional
        Its marks; without them every later prompt is taken to go on from it.
    """

    tokens: float
    used: float
    prefix: Prefix | None = None

    def held(self, prompt: float, prefix: Prefix | None) -> float:
        """Return the tokens of a prompt that it begins with."""
        alike = 1.0 if prefix is None or self.prefix is None else self.prefix.share_in(prefix)
        return min(alike * self.tokens, prompt)


def _per_token(prices: LLM | PriceStep) -> tuple[float, float, float, float]:
    """Return US dollars per token: fresh, answer, read, written."""
    unit, fresh = TOKENS_PER_PRICE_UNIT, prices.input_price
    read = fresh if prices.cached_input_price is None else prices.cached_input_price
    write = fresh if prices.cache_write_price is None else prices.cache_write_price
    return fresh / unit, prices.output_price / unit, read / unit, write / unit
