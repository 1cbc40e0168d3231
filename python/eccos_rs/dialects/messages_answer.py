"""Answers of Anthropic's Messages as chat completions, and the other way; whole and as events."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from eccos_rs.dialects.base import arguments, chat_usage, chunk, completion, new_id, texts
from eccos_rs.dialects.events import event
from eccos_rs.dialects.usage import Usage, read_usage

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["MessagesSource", "MessagesWriter", "answer_from_chat", "answer_to_chat", "error_body"]

_FINISH = {
    "end_turn": "stop", "stop_sequence": "stop", "max_tokens": "length", "tool_use": "tool_calls",
    "refusal": "content_filter", "model_context_window_exceeded": "length",
}  # fmt: skip
_STOP = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}
_ERRORS = {
    400: "invalid_request_error", 401: "authentication_error", 403: "permission_error",
    404: "not_found_error",
    413: "request_too_large", 422: "invalid_request_error", 429: "rate_limit_error", 503: "overloaded_error",
}  # fmt: skip


def error_body(status: int, code: str, message: str) -> dict[str, Any]:
    """Return an error as Anthropic's clients read it."""
    kind = _ERRORS.get(status, "api_error")
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": None, "code": code}


def answer_to_chat(content: Mapping[str, Any], model: str) -> dict[str, Any]:
    """Return an answer of Messages as a chat completion."""
    blocks = [block for block in content.get("content") or () if isinstance(block, dict)]
    message: dict[str, Any] = {
        "role": "assistant",
        "content": "".join(block.get("text", "") for block in blocks if block.get("type") == "text") or None,
    }
    calls = [
        {
            "id": block.get("id"),
            "type": "function",
            "function": {"name": block.get("name"), "arguments": json.dumps(block.get("input") or {})},
        }
        for block in blocks
        if block.get("type") == "tool_use"
    ]
    if calls:
        message["tool_calls"] = calls
    thoughts = "".join(block.get("thinking", "") for block in blocks if block.get("type") == "thinking")
    if thoughts:
        message["reasoning_content"] = thoughts
    finish = _FINISH.get(str(content.get("stop_reason")), "stop")
    return completion(model, message, finish, _usage_to_chat(read_usage(content) or Usage()))


def _usage_to_chat(usage: Usage) -> dict[str, Any]:
    return chat_usage(
        usage.input_tokens or 0, usage.output_tokens or 0, cached=usage.cached_tokens,
        stored=usage.cache_write_tokens, hidden=usage.reasoning_tokens,
    )  # fmt: skip


def _usage_from_chat(content: Mapping[str, Any]) -> dict[str, Any]:
    usage = read_usage(content) or Usage()
    cached, stored = usage.cached_tokens, usage.cache_write_tokens
    return {
        "input_tokens": max((usage.input_tokens or 0) - cached - stored, 0),
        "cache_read_input_tokens": cached,
        "cache_creation_input_tokens": stored,
        "output_tokens": usage.output_tokens or 0,
    }


def answer_from_chat(content: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a chat completion as an answer of Messages."""
    choice = (content.get("choices") or [{}])[0]
    message = choice.get("message") or {}
    blocks: list[dict[str, Any]] = []
    if text := texts(message.get("content")) or message.get("refusal"):
        blocks.append({"type": "text", "text": text})
    for call in message.get("tool_calls") or ():
        function = call.get("function") or {}
        blocks.append(
            {"type": "tool_use", "id": call.get("id"), "name": function.get("name"),
             "input": arguments(function.get("arguments"))}
        )  # fmt: skip
    finish = "tool_calls" if message.get("tool_calls") else choice.get("finish_reason")
    return {
        "id": new_id("msg"), "type": "message", "role": "assistant", "model": content.get("model") or "",
        "content": blocks, "stop_reason": _STOP.get(str(finish), "end_turn"), "stop_sequence": None,
        "usage": _usage_from_chat(content),
    }  # fmt: skip


class MessagesSource:
    """Reads the events of Messages as chunks of a chat completion."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._id = new_id("chatcmpl")
        self._usage = Usage()
        self._calls: dict[int, int] = {}

    def feed(self, name: str, content: Any) -> list[dict[str, Any]]:
        """Return the chunks that an event stands for."""
        kind = content.get("type", name)
        usage = read_usage(content)
        if usage is not None:
            self._usage = usage.over(self._usage)
        if kind == "message_start":
            return [chunk(self._id, self._model, {"role": "assistant", "content": ""})]
        if kind == "content_block_start":
            return self._start(content)
        if kind == "content_block_delta":
            return self._delta(content)
        if kind == "message_delta":
            finish = _FINISH.get(str((content.get("delta") or {}).get("stop_reason")), "stop")
            return [chunk(self._id, self._model, {}, finish)]
        if kind == "message_stop":
            return [chunk(self._id, self._model, None, usage=_usage_to_chat(self._usage))]
        return []

    def _start(self, content: Mapping[str, Any]) -> list[dict[str, Any]]:
        block = content.get("content_block") or {}
        if block.get("type") != "tool_use":
            return []
        at = self._calls.setdefault(int(content.get("index", 0)), len(self._calls))
        function = {"name": block.get("name"), "arguments": ""}
        call = {"index": at, "id": block.get("id"), "type": "function", "function": function}
        return [chunk(self._id, self._model, {"tool_calls": [call]})]

    def _delta(self, content: Mapping[str, Any]) -> list[dict[str, Any]]:
        delta = content.get("delta") or {}
        kind = delta.get("type")
        if kind == "text_delta":
            return [chunk(self._id, self._model, {"content": delta.get("text", "")})]
        if kind == "thinking_delta":
            return [chunk(self._id, self._model, {"reasoning_content": delta.get("thinking", "")})]
        if kind == "input_json_delta":
            at = self._calls.get(int(content.get("index", 0)), 0)
            call = {"index": at, "function": {"arguments": delta.get("partial_json", "")}}
            return [chunk(self._id, self._model, {"tool_calls": [call]})]
        return []


class MessagesWriter:
    """Writes chunks of a chat completion as the events of Messages."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._model = str(values.get("model"))
        self._open: tuple[str, int] | None = None
        self._blocks = 0
        self._begun = False
        self._finish = "stop"
        self._usage: Mapping[str, Any] = {}

    def feed(self, chunk: Mapping[str, Any]) -> bytes:
        """Return the events that a chunk becomes."""
        out = b""
        if isinstance(chunk.get("usage"), dict):
            self._usage = chunk
        if not self._begun:
            self._begun = True
            message: dict[str, Any] = {
                "id": new_id("msg"), "type": "message", "role": "assistant", "content": [],
                "model": chunk.get("model") or self._model, "stop_reason": None, "stop_sequence": None,
                "usage": _usage_from_chat(chunk),
            }  # fmt: skip
            out += event({"type": "message_start", "message": message}, "message_start")
        for choice in (chunk.get("choices") or ())[:1]:
            delta = choice.get("delta") or {}
            if delta.get("content"):
                out += self._into("text", 0, {"type": "text", "text": ""})
                out += self._send({"type": "text_delta", "text": delta["content"]})
            for call in delta.get("tool_calls") or ():
                out += self._call(call)
            self._finish = choice.get("finish_reason") or self._finish
        return out

    def _call(self, call: Mapping[str, Any]) -> bytes:
        function = call.get("function") or {}
        block: dict[str, Any] = {
            "type": "tool_use", "id": call.get("id"), "name": function.get("name"), "input": {},
        }  # fmt: skip
        out = self._into("tool", int(call.get("index", 0)), block)
        if function.get("arguments"):
            out += self._send({"type": "input_json_delta", "partial_json": function["arguments"]})
        return out

    def _into(self, kind: str, at: int, block: dict[str, Any]) -> bytes:
        if self._open == (kind, at):
            return b""
        out = self._close()
        self._open = (kind, at)
        start = {"type": "content_block_start", "index": self._blocks, "content_block": block}
        return out + event(start, "content_block_start")

    def _send(self, delta: dict[str, Any]) -> bytes:
        content = {"type": "content_block_delta", "index": self._blocks, "delta": delta}
        return event(content, "content_block_delta")

    def _close(self) -> bytes:
        if self._open is None:
            return b""
        self._open = None
        self._blocks += 1
        content = {"type": "content_block_stop", "index": self._blocks - 1}
        return event(content, "content_block_stop")

    def end(self) -> bytes:
        """Return the events that end the message."""
        delta = {"stop_reason": _STOP.get(self._finish, "end_turn"), "stop_sequence": None}
        content = {"type": "message_delta", "delta": delta, "usage": _usage_from_chat(self._usage)}
        return (
            self._close() + event(content, "message_delta") + event({"type": "message_stop"}, "message_stop")
        )

    def fail(self, status: int, code: str, message: str) -> bytes:
        """Return the event that ends a stream which broke."""
        return event(error_body(status, code, message), "error")
