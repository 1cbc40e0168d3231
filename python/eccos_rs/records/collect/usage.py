"""Token counts as a server states them, checked for what cannot be."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from eccos_rs.records.tokens import estimate_tokens

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["CallSizes", "CallUsage", "check_usage", "message_text", "most_input_tokens"]

# No tokenizer in use packs more than some 20 bytes of ordinary text into one token on average.
MOST_BYTES_A_TOKEN = 20
# What chat templates put around a message, and before the first.
TEMPLATE_TOKENS = 64
# What they usually put there.
TEMPLATE_MESSAGE = 8
# More than any provider counts for one picture.
IMAGE_TOKENS = 8192
# Answers after which the longest of them says how long answers get.
SHOWN = 20
MARGIN = 2


@dataclass(frozen=True, slots=True)
class CallUsage:
    """Tokens of one call.

    Attributes
    ----------
    input_tokens, output_tokens : int
        As stated where that can be, else counted.
    flag : str or None
        Why the stated counts were not taken.
    """

    input_tokens: int
    output_tokens: int
    flag: str | None = None

    @property
    def tokens(self) -> int:
        """Of prompt and answer together."""
        return self.input_tokens + self.output_tokens


@dataclass(slots=True)
class CallSizes:
    """How many tokens a call of one model may take.

    Before 20 answers: all that it could. After them: twice the longest of them, and a prompt's estimate times
    twice the highest factor by which it was short, never more than it could.

    Examples
    --------
    >>> sizes, sent = CallSizes(), [{"role": "user", "content": "What is 2 + 2?"}]
    >>> sizes.most(sent, longest=1000)
    1142
    >>> for _ in range(20):
    ...     sizes.learn(sent, CallUsage(input_tokens=14, output_tokens=30))
    >>> sizes.most(sent, longest=1000)
    108
    """

    answers: int = 0
    longest: int = 0
    factor: float = 1.0

    def most(self, messages: Sequence[Mapping[str, Any]], longest: int) -> int:
        """Return the tokens to hold for a call whose answer may have `longest`."""
        could = most_input_tokens(messages)
        if self.answers < SHOWN:
            return could + longest
        asked = min(could, math.ceil(MARGIN * self.factor * self.usual(messages)))
        return asked + min(longest, MARGIN * self.longest)

    def learn(self, messages: Sequence[Mapping[str, Any]], usage: CallUsage) -> None:
        """Take in what a call took."""
        self.answers += 1
        self.longest = max(self.longest, usage.output_tokens)
        self.factor = max(self.factor, usage.input_tokens / self.usual(messages))

    @staticmethod
    def usual(messages: Sequence[Mapping[str, Any]]) -> int:
        """Return what a prompt has by estimate, at least 1."""
        around = TEMPLATE_MESSAGE * (len(messages) + 1)
        return around + sum(
            estimate_tokens(message_text(message)) + IMAGE_TOKENS * _images(message) for message in messages
        )


def most_input_tokens(messages: Sequence[Mapping[str, Any]]) -> int:
    """Return what no tokenizer exceeds: one token per byte, the template around each message, images."""
    total = TEMPLATE_TOKENS
    for message in messages:
        total += _size(message_text(message)) + TEMPLATE_TOKENS + IMAGE_TOKENS * _images(message)
    return total


def message_text(message: Mapping[str, Any]) -> str:
    """Return what a message says, with the calls of tools in it."""
    content = message.get("content") or ""
    if not isinstance(content, str):
        texts = (part if isinstance(part, str) else part.get("text") or "" for part in content)
        content = "\n".join(texts)
    calls = message.get("tool_calls")
    return f"{content}\n{json.dumps(calls)}" if calls else content


def _images(message: Mapping[str, Any]) -> int:
    content = message.get("content")
    parts = content if isinstance(content, list | tuple) else ()
    return sum(isinstance(part, dict) and "image" in str(part.get("type")) for part in parts)


def check_usage(
    stated: Any,
    messages: Sequence[Mapping[str, Any]],
    answer: str,
    *,
    longest: int,
    count: Callable[[str], int],
) -> CallUsage:
    """Take a server's counts, or count where they cannot be true.

    Parameters
    ----------
    stated : object or None
        With `prompt_tokens` and `completion_tokens`.
    messages : sequence of dict
        What was sent.
    answer : str
        What came back.
    longest : int
        The most output tokens that were asked for; hidden reasoning counts among them.
    count : callable
        Counts the tokens of a text.

    Returns
    -------
    CallUsage
        With a flag when anything was counted here.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> lie = SimpleNamespace(prompt_tokens=-4, completion_tokens=3)
    >>> sent = [{"role": "user", "content": "What is 2 + 2?"}]
    >>> check_usage(lie, sent, "4", longest=16, count=lambda text: len(text.split()))
    CallUsage(input_tokens=5, output_tokens=3, flag='prompt_tokens=-4 is not a count')
    """
    sent = "\n".join(map(message_text, messages))
    asked, no_input = _checked(stated, "prompt_tokens", sent, most_input_tokens(messages))
    given, no_output = _checked(stated, "completion_tokens", answer, longest + 1)
    flags = [flag for flag in (no_input, no_output) if flag]
    return CallUsage(
        input_tokens=count(sent) if asked is None else asked,
        output_tokens=count(answer) if given is None else given,
        flag="; ".join(flags) or None,
    )


def _checked(stated: Any, name: str, text: str, most: int) -> tuple[int | None, str | None]:
    value = getattr(stated, name, None)
    if value is None:
        return None, f"{name} is missing"
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        return None, f"{name}={value!r} is not a count"
    size = _size(text)
    if value * MOST_BYTES_A_TOKEN < size:
        return None, f"{name}={value} cannot hold {size} bytes"
    if value > most:
        return None, f"{name}={value} is above {most}, the most there can be"
    return value, None


def _size(text: str) -> int:
    return len(text.encode("utf-8", "replace"))
