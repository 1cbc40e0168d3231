"""Answers and events of each kind of endpoint, in the shapes that their providers send."""

from __future__ import annotations

from typing import Any

from tests.helpers.scripted import COMPLETION, DONE, FINAL, Answer, Scripted, chunk, data, plain, stream

WEATHER = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Oslo"}'}}


def named(name: str, content: dict[str, Any]) -> bytes:
    return f"event: {name}\n".encode() + data({"type": name, **content})


CHAT = {
    "hello": (
        plain(COMPLETION),
        stream(data(chunk("hel")), data(chunk("lo")), data(chunk(finish="stop")), data(FINAL), DONE),
    ),
    "call": (
        plain(
            {
                **COMPLETION,
                "choices": [
                    {
                        "index": 0,
                        "finish_reason": "tool_calls",
                        "message": {"role": "assistant", "content": None, "tool_calls": [CALL]},
                    }
                ],
            }
        ),
        stream(
            data(
                {
                    **chunk(),
                    "choices": [
                        {
                            "index": 0,
                            "delta": {
                                "role": "assistant",
                                "tool_calls": [
                                    {
                                        "index": 0,
                                        "id": "call_1",
                                        "type": "function",
                                        "function": {"name": "weather", "arguments": ""},
                                    }
                                ],
                            },
                        }
                    ],
                }
            ),
            *(
                data(
                    {
                        **chunk(),
                        "choices": [
                            {
                                "index": 0,
                                "delta": {"tool_calls": [{"index": 0, "function": {"arguments": part}}]},
                            }
                        ],
                    }
                )
                for part in ('{"city":', '"Oslo"}')
            ),
            data(chunk(finish="tool_calls")),
            data(FINAL),
            DONE,
        ),
    ),
}
ANTHROPIC_USAGE = {
    "input_tokens": 2,
    "cache_read_input_tokens": 7,
    "cache_creation_input_tokens": 1,
    "output_tokens": 1000,
}
MESSAGE = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude", "stop_sequence": None}
MESSAGES = {
    "hello": (
        plain(
            {
                **MESSAGE,
                "content": [{"type": "text", "text": "hello"}],
                "stop_reason": "end_turn",
                "usage": ANTHROPIC_USAGE,
            }
        ),
        stream(
            named(
                "message_start",
                {
                    "message": {
                        **MESSAGE,
                        "content": [],
                        "stop_reason": None,
                        "usage": {**ANTHROPIC_USAGE, "output_tokens": 1},
                    }
                },
            ),
            named("content_block_start", {"index": 0, "content_block": {"type": "text", "text": ""}}),
            named("ping", {}),
            *(
                named("content_block_delta", {"index": 0, "delta": {"type": "text_delta", "text": part}})
                for part in ("hel", "lo")
            ),
            named("content_block_stop", {"index": 0}),
            named(
                "message_delta",
                {
                    "delta": {"stop_reason": "end_turn", "stop_sequence": None},
                    "usage": {"output_tokens": 1000},
                },
            ),
            named("message_stop", {}),
            hold=5.0,
        ),
    ),
    "call": (
        plain(
            {
                **MESSAGE,
                "content": [
                    {"type": "tool_use", "id": "call_1", "name": "weather", "input": {"city": "Oslo"}}
                ],
                "stop_reason": "tool_use",
                "usage": ANTHROPIC_USAGE,
            }
        ),
        stream(
            named(
                "message_start",
                {"message": {**MESSAGE, "content": [], "stop_reason": None, "usage": ANTHROPIC_USAGE}},
            ),
            named(
                "content_block_start",
                {
                    "index": 0,
                    "content_block": {"type": "tool_use", "id": "call_1", "name": "weather", "input": {}},
                },
            ),
            *(
                named(
                    "content_block_delta",
                    {"index": 0, "delta": {"type": "input_json_delta", "partial_json": part}},
                )
                for part in ('{"city":', '"Oslo"}')
            ),
            named("content_block_stop", {"index": 0}),
            named(
                "message_delta",
                {
                    "delta": {"stop_reason": "tool_use", "stop_sequence": None},
                    "usage": {"output_tokens": 1000},
                },
            ),
            named("message_stop", {}),
        ),
    ),
}
GEMINI_USAGE = {
    "promptTokenCount": 10,
    "cachedContentTokenCount": 7,
    "candidatesTokenCount": 900,
    "thoughtsTokenCount": 100,
}


def gemini(parts: list[dict[str, Any]], finish: str | None = "STOP") -> dict[str, Any]:
    candidate = {"content": {"role": "model", "parts": parts}, "index": 0}
    if finish:
        candidate["finishReason"] = finish
    return {"candidates": [candidate], "usageMetadata": GEMINI_USAGE, "modelVersion": "g"}


GEMINI = {
    "hello": (
        plain(gemini([{"text": "hmm", "thought": True}, {"text": "hello"}])),
        stream(data(gemini([{"text": "hel"}], None)), data(gemini([{"text": "lo"}]))),
    ),
    "call": (
        plain(gemini([{"functionCall": {"name": "weather", "args": {"city": "Oslo"}}}])),
        stream(data(gemini([{"functionCall": {"name": "weather", "args": {"city": "Oslo"}}}]))),
    ),
}
ANSWERS: dict[str, dict[str, tuple[Answer, Answer]]] = {
    "openai": CHAT,
    "azure": CHAT,
    "anthropic": MESSAGES,
    "gemini": GEMINI,
}
BASES = {"openai": "/v1", "azure": "?api-version=2026-01-01", "anthropic": "", "gemini": "/v1beta"}
"""What stands behind the host in the base address of each kind."""


class DialectEndpoint(Scripted):
    """Answers as one kind of endpoint does, with what was asked for: words or a call of a tool."""

    def __init__(self, kind: str) -> None:
        self.kind, self.what = kind, "hello"
        super().__init__(self.respond)

    def respond(self, body: Any, path: str) -> Answer:
        if path.startswith("/v1/responses"):
            return plain({"error": {"message": "no such route"}}, 404)
        streaming = body.get("stream") or "alt=sse" in path
        return ANSWERS[self.kind][self.what][1 if streaming else 0]
