"""What answers of a log took: tokens of prompts and answers, as the provider counted them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from eccos_rs.bulk.requests import from_cell
from eccos_rs.dialects.usage import Usage
from eccos_rs.dialects.usage import read_usage as stated_usage

__all__ = ["Used", "read_usage"]

_IMPOSSIBLE = 10**9
"""Tokens that no call takes: such a count is a mistake."""
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
        (``response``) or its ``usage``, in the words of any dialect; a line of a batch's output.
    depth : int
        Levels at which it is looked for.
    """
    content = row if "usageMetadata" in row else {"usage": dict(row)}
    stated = stated_usage(content) or Usage()
    sent, answer = stated.input_tokens, stated.output_tokens
    if sent is None and answer is None:
        for name in _INSIDE:
            inner = from_cell(row.get(name))
            found = read_usage(inner, depth - 1) if depth and isinstance(inner, Mapping) else None
            if found is not None:
                return found
        return None
    # An answer of no token is a call that failed.
    return Used(1, sent, answer) if sent and answer and max(sent, answer) < _IMPOSSIBLE else None
