"""What an answer cost in tokens, whichever provider states it in whichever words."""

from __future__ import annotations

import logging
import math
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from eccos_rs.domain.pricing import TOKENS_PER_PRICE_UNIT, model_cost, prices_at

if TYPE_CHECKING:
    from collections.abc import Mapping

    from eccos_rs.pools.pool import LLM

__all__ = ["Allowance", "Usage", "answer_cost", "read_usage", "written_tokens"]

_log = logging.getLogger("eccos_rs.serve")

_TEXT = re.compile(
    rb'"(?:content|reasoning_content|reasoning|arguments|text|thinking|partial_json|delta|refusal)"'
    rb'\s*:\s*"((?:[^"\\]|\\.)+)"'
)
_STORED = "cache_creation_input_tokens"
_CHARACTERS_PER_TOKEN = 4
_LARGEST_COUNT = 10**15
_TEMPLATE_TOKENS = 8192
"""Input tokens that an endpoint may add on its own (chat template, its system prompt)."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one answer; the parts are parts of the totals, as OpenAI counts.

    Attributes
    ----------
    input_tokens, output_tokens : int or None
        Totals; None where the answer does not say.
    cached_tokens, cache_write_tokens : int
        Of the input: read from the provider's cache, and written into it.
    reasoning_tokens : int
        Of the output: hidden.
    tier : str or None
        The service tier that was really used.
    stated : bool
        Whether the endpoint said it.
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    tier: str | None = None
    stated: bool = False

    def over(self, earlier: Usage) -> Usage:
        """Return this with what it does not say taken from an earlier event."""
        return Usage(
            earlier.input_tokens if self.input_tokens is None else self.input_tokens,
            earlier.output_tokens if self.output_tokens is None else self.output_tokens,
            self.cached_tokens or earlier.cached_tokens,
            self.cache_write_tokens or earlier.cache_write_tokens,
            self.reasoning_tokens or earlier.reasoning_tokens,
            self.tier or earlier.tier,
            self.stated or earlier.stated,
        )


def read_usage(content: Any) -> Usage | None:
    """Return the usage that an answer, or an event of one, states; None where it states none.

    Chat Completions and Responses count cached and reasoning tokens within their totals; Messages counts
    cached input beside ``input_tokens``, Gemini counts thoughts beside the candidates. LiteLLM's proxy uses
    the words of Messages for what lies within ``prompt_tokens``.
    """
    if not isinstance(content, dict):
        return None
    for inner in ("response", "message"):  # of `response.completed` and `message_start`
        if isinstance(nested := content.get(inner), dict) and isinstance(nested.get("usage"), dict):
            content = nested
            break
    if isinstance(found := content.get("usageMetadata"), dict):
        return replace(_gemini(found), stated=True)
    usage = content.get("usage")
    if not isinstance(usage, dict):
        return None
    tier = content.get("service_tier", usage.get("service_tier"))
    tier = tier if isinstance(tier, str) else None
    if "prompt_tokens" not in usage and ("cache_read_input_tokens" in usage or _STORED in usage):
        return replace(_messages(usage), tier=tier, stated=True)
    return replace(_openai(usage), tier=tier, stated=True)


def _openai(usage: Mapping[str, Any]) -> Usage:
    read = _first(usage, "prompt_tokens", "input_tokens")
    written = _first(usage, "completion_tokens", "output_tokens")
    details = _mapping(usage, "prompt_tokens_details", "input_tokens_details")
    cached = (
        _first(details, "cached_tokens")
        or _first(usage, "prompt_cache_hit_tokens", "cached_tokens", "cache_read_input_tokens")
        or 0
    )
    reasoning = _first(
        _mapping(usage, "completion_tokens_details", "output_tokens_details"),
        "reasoning_tokens",
        "thinking_tokens",
    )
    if read is None and "prompt_cache_hit_tokens" in usage:
        read = cached + (_first(usage, "prompt_cache_miss_tokens") or 0)
    reasoning = reasoning or _first(usage, "reasoning_tokens") or 0
    if written is not None and reasoning:
        total = _first(usage, "total_tokens")
        beside = total is not None and total == (read or 0) + written + reasoning
        if reasoning > written or beside:
            written += reasoning
    stored = _first(details, "cache_write_tokens") or _first(usage, _STORED) or 0
    return Usage(read, written, cached, stored, reasoning)


def _messages(usage: Mapping[str, Any]) -> Usage:
    cached = _first(usage, "cache_read_input_tokens") or 0
    stored = _first(usage, _STORED) or 0
    fresh = _first(usage, "input_tokens")
    reasoning = _first(_mapping(usage, "output_tokens_details"), "thinking_tokens") or 0
    read = None if fresh is None else fresh + cached + stored
    return Usage(read, _first(usage, "output_tokens"), cached, stored, reasoning)


def _gemini(usage: Mapping[str, Any]) -> Usage:
    read, written = _first(usage, "promptTokenCount"), _first(usage, "candidatesTokenCount")
    thoughts, tools = _first(usage, "thoughtsTokenCount") or 0, _first(usage, "toolUsePromptTokenCount") or 0
    return Usage(
        None if read is None else read + tools,
        thoughts if written is None and thoughts else None if written is None else written + thoughts,
        _first(usage, "cachedContentTokenCount") or 0,
        0,
        thoughts,
    )


def _mapping(usage: Mapping[str, Any], *names: str) -> Mapping[str, Any]:
    for name in names:
        if isinstance(found := usage.get(name), dict):
            return found
    return {}


def _first(usage: Mapping[str, Any], *names: str) -> int | None:
    for name in names:
        if (count := _count(usage.get(name))) is not None:
            return count
    return None


def _count(value: Any) -> int | None:
    """Return a count of tokens: an int, a whole float, or either as text."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return min(int(value), _LARGEST_COUNT) if value >= 0 else None


def written_tokens(raw: bytes) -> int:
    """Estimate the output tokens in the bytes of an answer, or of some of its events, that state no usage."""
    texts = _TEXT.findall(raw)
    return max(len(texts), sum(map(len, texts)) // _CHARACTERS_PER_TOKEN)


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a request allowed its answer to use: a usage beyond it is an endpoint's mistake.

    Attributes
    ----------
    input_tokens : int
        A token is at least a byte of the request; images count apart.
    output_tokens : int
        Of all answers.
    """

    input_tokens: int
    output_tokens: int

    @classmethod
    def of(cls, llm: LLM, size: int, attached: int, cap: int | None, n: int) -> Allowance:
        """Work it out.

        Parameters
        ----------
        llm : LLM
        size : int
            Bytes of the request.
        attached : int
            Estimated tokens of its images and definitions.
        cap : int or None
            Output tokens of one answer.
        n : int
            Answers.
        """
        window = llm.context_window or 1_000_000
        longest = window if cap is None else min(cap, window)
        read = min(size + 20 * attached + _TEMPLATE_TOKENS, llm.context_window or 10**9)
        return cls(read, n * longest)

    def clamp(self, usage: Usage, model: str) -> Usage:
        """Return a usage within the allowance; one beyond it is logged."""
        read = None if usage.input_tokens is None else min(usage.input_tokens, self.input_tokens)
        written = None if usage.output_tokens is None else min(usage.output_tokens, self.output_tokens)
        if (read, written) != (usage.input_tokens, usage.output_tokens):
            _log.warning(
                "model %s states %.6g input and %.6g output tokens; its request allows at most %d and %d, "
                "which are booked", model, usage.input_tokens or 0, usage.output_tokens or 0,
                self.input_tokens, self.output_tokens,
            )  # fmt: skip
        most = self.input_tokens if read is None else read
        return replace(
            usage, input_tokens=read, output_tokens=written, cached_tokens=min(usage.cached_tokens, most),
            cache_write_tokens=min(usage.cache_write_tokens, max(most - usage.cached_tokens, 0)),
        )  # fmt: skip


def answer_cost(llm: LLM, usage: Usage) -> float | None:
    """Return US dollars of an answer; None where its usage does not say how many tokens."""
    if usage.input_tokens is None or usage.output_tokens is None:
        return None
    prices = prices_at(llm, usage.input_tokens)
    cost = model_cost(prices, usage.input_tokens, usage.output_tokens, cached_tokens=usage.cached_tokens)
    if prices.cache_write_price is not None:
        written = min(usage.cache_write_tokens, usage.input_tokens)
        cost += written * (prices.cache_write_price - prices.input_price) / TOKENS_PER_PRICE_UNIT
    return cost
