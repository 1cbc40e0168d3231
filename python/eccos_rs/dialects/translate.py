"""From any dialect to any other, by way of Chat Completions."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from eccos_rs.dialects import gemini, messages, messages_answer, responses
from eccos_rs.dialects.base import ChatRequest
from eccos_rs.dialects.events import DONE, error_body, event

if TYPE_CHECKING:
    from collections.abc import Mapping

    from eccos_rs.dialects.base import ChunkSource, ChunkWriter

__all__ = ["ChatWriter", "Translation", "answer", "error_event", "to_chat", "to_endpoint"]


def to_chat(values: Mapping[str, Any], dialect: str) -> ChatRequest:
    """Return a client's request as a chat completion request.

    Raises
    ------
    RequestError
        400: a member is malformed.
    """
    if dialect == "messages":
        return messages.request_to_chat(values)
    if dialect == "responses":
        return responses.request_to_chat(values)
    return ChatRequest(dict(values))


def to_endpoint(chat: Mapping[str, Any], dialect: str, *, keep_cache: bool) -> ChatRequest:
    """Return a chat completion request in an endpoint's dialect."""
    if dialect == "messages":
        return messages.request_from_chat(chat, keep_cache=keep_cache)
    if dialect == "gemini":
        return gemini.request_from_chat(chat)
    return ChatRequest(dict(chat))


def answer(
    content: Mapping[str, Any], values: Mapping[str, Any], *, spoken: str, wanted: str, model: str
) -> Any:
    """Return an endpoint's answer in a client's dialect.

    Parameters
    ----------
    content : mapping
        The answer.
    values : mapping
        The client's request.
    spoken, wanted : str
        The endpoint's dialect and the client's.
    model : str
        Who answered, where the answer does not say.
    """
    chat = content
    if spoken == "messages":
        chat = messages_answer.answer_to_chat(content, model)
    elif spoken == "gemini":
        chat = gemini.answer_to_chat(content, model)
    if wanted == "messages":
        return messages_answer.answer_from_chat(chat, values)
    return responses.answer_from_chat(chat, values) if wanted == "responses" else chat


class _ChatSource:
    def feed(self, name: str, content: Any) -> list[dict[str, Any]]:
        return [content]


class ChatWriter:
    """Writes chunks of a chat completion as they are."""

    def __init__(self, *, keep_usage: bool) -> None:
        self._keep_usage = keep_usage

    def feed(self, chunk: Mapping[str, Any]) -> bytes:
        """Return the chunk's event; that of the usage alone only where it was asked for."""
        return event(chunk) if self._keep_usage or chunk.get("choices") else b""

    def end(self) -> bytes:
        """Return what ends the stream."""
        return DONE

    def fail(self, status: int, code: str, message: str) -> bytes:
        """Return the event that ends a stream which broke."""
        return event(error_body(status, code, message))


class Translation:
    """A stream on its way from an endpoint's dialect to a client's.

    Parameters
    ----------
    values : mapping
        The client's request.
    spoken, wanted : str
        The endpoint's dialect and the client's.
    model : str
        Who answers, where the events do not say.
    keep_usage : bool
        Whether a client of Chat Completions asked for the usage.
    """

    def __init__(
        self, values: Mapping[str, Any], *, spoken: str, wanted: str, model: str, keep_usage: bool
    ) -> None:
        sources: dict[str, type[Any]] = {
            "messages": messages_answer.MessagesSource,
            "gemini": gemini.GeminiSource,
        }
        self._source: ChunkSource = sources[spoken](model) if spoken in sources else _ChatSource()
        self._writer: ChunkWriter
        if wanted == "messages":
            self._writer = messages_answer.MessagesWriter(values)
        elif wanted == "responses":
            self._writer = responses.ResponsesWriter(values)
        else:
            self._writer = ChatWriter(keep_usage=keep_usage)

    def feed(self, name: str, content: Any) -> bytes:
        """Return the client's events for one of the endpoint's."""
        if not isinstance(content, dict):
            return b""
        return b"".join(map(self._writer.feed, self._source.feed(name, content)))

    def end(self) -> bytes:
        """Return the events that end the stream."""
        return self._writer.end()


def error_event(dialect: str, status: int, code: str, message: str) -> bytes:
    """Return the event that ends a broken stream in a client's dialect."""
    if dialect == "messages":
        return event(messages_answer.error_body(status, code, message), "error")
    if dialect == "responses":
        content = {"type": "error", "code": code, "message": message, "param": None, "sequence_number": 0}
        return event(content, "error")
    return event(error_body(status, code, message))


def encode(values: Mapping[str, Any]) -> bytes:
    """Return a body as bytes."""
    return json.dumps(values, separators=(",", ":")).encode()
