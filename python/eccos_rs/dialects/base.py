"""What the dialects share: Chat Completions is the form in between.

A request in one dialect goes to an endpoint of another as a chat completion request, and its answer comes
back as a chat completion or as its chunks. What has no form there is named, and such a request goes to
endpoints of its own dialect alone.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ChatRequest", "ChunkSource", "ChunkWriter", "chunk", "completion", "texts"]


@dataclass
class ChatRequest:
    """A request of any dialect as a chat completion request.

    Attributes
    ----------
    values : dict
        The body.
    lost : list of str
        Members that have no form in it, by their names in the client's dialect.
    """

    values: dict[str, Any]
    lost: list[str] = field(default_factory=list)


class ChunkSource(Protocol):
    """Reads the events of an endpoint's dialect as chunks of a chat completion."""

    def feed(self, name: str, content: Any) -> list[dict[str, Any]]:
        """Return the chunks that an event stands for."""


class ChunkWriter(Protocol):
    """Writes chunks of a chat completion as the events of a client's dialect."""

    def feed(self, chunk: Mapping[str, Any]) -> bytes:
        """Return the events that a chunk becomes."""

    def end(self) -> bytes:
        """Return the events that end a stream which came to its end."""

    def fail(self, status: int, code: str, message: str) -> bytes:
        """Return the event that ends a stream which broke."""


def new_id(prefix: str) -> str:
    """Return an identifier as the dialects have them."""
    return f"{prefix}_{secrets.token_hex(16)}"


def completion(
    model: str,
    message: Mapping[str, Any],
    finish: str,
    usage: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Return a chat completion of one choice."""
    content: dict[str, Any] = {
        "id": new_id("chatcmpl"),
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "choices": [{"index": 0, "message": dict(message), "finish_reason": finish, "logprobs": None}],
    }
    return {**content, "usage": dict(usage)} if usage is not None else content


def chunk(
    identity: str, model: str, delta: Mapping[str, Any] | None, finish: str | None = None, **extra: Any
) -> dict[str, Any]:
    """Return a chunk of a chat completion; without a delta it has no choice."""
    choices = [] if delta is None else [{"index": 0, "delta": dict(delta), "finish_reason": finish}]
    head = {"id": identity, "object": "chat.completion.chunk", "created": int(time.time()), "model": model}
    return {**head, "choices": choices, **extra}


def chat_usage(
    read: int, written: int, *, cached: int = 0, stored: int = 0, hidden: int = 0
) -> dict[str, Any]:
    """Return a usage as Chat Completions states it."""
    return {
        "prompt_tokens": read,
        "completion_tokens": written,
        "total_tokens": read + written,
        "prompt_tokens_details": {"cached_tokens": cached, "cache_write_tokens": stored},
        "completion_tokens_details": {"reasoning_tokens": hidden},
    }


def texts(content: Any) -> str:
    """Return the text of a message's content, whether it is a text or a list of parts."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return "".join(str(part.get("text", "")) for part in parts if isinstance(part, dict))


def arguments(text: Any) -> Any:
    """Return a tool call's arguments as an object; what is no JSON object is put into one."""
    import json

    try:
        value = json.loads(text) if isinstance(text, str) else text
    except ValueError:
        value = {"input": text}
    return value if isinstance(value, dict) else {"input": value} if value is not None else {}
