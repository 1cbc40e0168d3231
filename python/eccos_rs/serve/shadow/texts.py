"""The text of an answer, out of what an endpoint sent in any dialect."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from eccos_rs.serve.sse import EventReader, parse_event

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["answer_text"]


def answer_text(raw: bytes, *, streamed: bool) -> str:
    """Return what the model said; empty where it said nothing (a call of a tool, say).

    Parameters
    ----------
    raw : bytes
        A body, or events.
    streamed : bool
        Which of them.

    Examples
    --------
    >>> answer_text(b'{"choices": [{"message": {"content": "Yes."}}]}', streamed=False)
    'Yes.'
    """
    if not streamed:
        with suppress(ValueError, RecursionError):
            return "".join(_whole(json.loads(raw)))
        return ""
    reader = EventReader()
    events = [*reader.feed(raw), reader.rest()]
    parts: list[str] = []
    for event in events:
        with suppress(ValueError, RecursionError):
            parts += _delta(parse_event(event).json())
    return "".join(parts)


def _whole(content: Any) -> Iterator[str]:
    """Yield the texts of an answer of Chat Completions, Messages, Responses or Gemini."""
    if not isinstance(content, dict):
        return
    for choice in _dicts(content.get("choices"))[:1]:
        message = choice.get("message")
        if isinstance(message, dict) and isinstance(message.get("content"), str):
            yield message["content"]
    for part in _dicts(content.get("content")):
        if part.get("type") == "text" and isinstance(part.get("text"), str):
            yield part["text"]
    for item in _dicts(content.get("output")):
        for part in _dicts(item.get("content")):
            if part.get("type") == "output_text" and isinstance(part.get("text"), str):
                yield part["text"]
    yield from _gemini(content)


def _delta(event: Any) -> list[str]:
    """Return the texts that an event of a stream adds."""
    if not isinstance(event, dict):
        return []
    found: list[Any] = [
        choice["delta"].get("content")
        for choice in _dicts(event.get("choices"))[:1]
        if isinstance(choice.get("delta"), dict)
    ]
    delta = event.get("delta")
    if event.get("type") == "content_block_delta" and isinstance(delta, dict):
        found.append(delta.get("text"))
    if event.get("type") == "response.output_text.delta":
        found.append(delta)
    return [text for text in [*found, *_gemini(event)] if isinstance(text, str)]


def _gemini(content: dict[str, Any]) -> Iterator[str]:
    for candidate in _dicts(content.get("candidates"))[:1]:
        inner = candidate.get("content")
        for part in _dicts(inner.get("parts") if isinstance(inner, dict) else None):
            if isinstance(part.get("text"), str) and not part.get("thought"):
                yield part["text"]


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []
