"""What answers of a log took: tokens of prompts and answers, as the provider counted them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from eccos_rs.bulk.requests import from_cell

__all__ = ["Used", "read_usage"]

_INPUT = ("prompt_tokens", "input_tokens")
_OUTPUT = ("completion_tokens", "output_tokens")
_CACHED = ("cache_read_input_tokens", "cache_creation_input_tokens")
"""Counted beside the input tokens where these are called by Anthropic's names."""
_INSIDE = ("usage", "response", "body")
"""Where a count may stand: beside the request, in its answer, in the line of a batch's output."""


@dataclass(frozen=True, slots=True)
class Used:
    """Answers that were counted, and their tokens in all.

    Attributes
    ----------
    answers : int
    input_tokens, output_tokens : float
        Over all of them; hidden reasoning included.
    """

    answers: int = 0
    input_tokens: float = 0.0
    output_tokens: float = 0.0

    def __add__(self, other: Used) -> Used:
        return Used(
            self.answers + other.answers,
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
        )

    @property
    def means(self) -> tuple[float, float]:
        """Input and output tokens of one answer."""
        return self.input_tokens / self.answers, self.output_tokens / self.answers


def read_usage(row: Mapping[str, Any], depth: int = 3) -> Used | None:
    """Return what the answer of a row took; None where it was not counted, or cannot be true.

    Parameters
    ----------
    row : mapping
        A row of LiteLLM's spend logs (``prompt_tokens``, ``completion_tokens``), a request with the answer
        (``response``) or its ``usage``, by the names of OpenAI or Anthropic; a line of a batch's output.
    depth : int
        Levels at which it is looked for.
    """
    sent, answer = _first(row, _INPUT), _first(row, _OUTPUT)
    if sent is None and answer is None:
        for name in _INSIDE:
            inner = from_cell(row.get(name))
            found = read_usage(inner, depth - 1) if depth and isinstance(inner, Mapping) else None
            if found is not None:
                return found
        return None
    if "prompt_tokens" not in row and sent is not None:
        sent += sum(_count(row.get(name)) or 0.0 for name in _CACHED)
    # An answer of no token is a call that failed.
    return Used(1, sent, answer) if sent and answer else None


def _first(row: Mapping[str, Any], names: tuple[str, ...]) -> float | None:
    return next((count for name in names if (count := _count(row.get(name))) is not None), None)


def _count(value: Any) -> float | None:
    try:
        count = float(value)
    except (TypeError, ValueError):
        return None
    return count if 0.0 <= count < 1e9 and math.isfinite(count) else None
