"""Gemini's generateContent: chat completion requests to it, and its answers as chat completions."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from eccos_rs.dialects.base import (
    ChatRequest,
    arguments,
    chat_usage,
    chunk,
    completion,
    new_id,
    texts,
)
from eccos_rs.dialects.usage import Usage, read_usage

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["GeminiSource", "answer_to_chat", "request_from_chat", "thinking"]

_DATA_URL = re.compile(r"data:([^;,]+);base64,(.*)", re.DOTALL)
_FINISH = {
    "STOP": "stop", "MAX_TOKENS": "length", "SAFETY": "content_filter", "RECITATION": "content_filter",
    "PROHIBITED_CONTENT": "content_filter", "BLOCKLIST": "content_filter",
}  # fmt: skip
_LEVELS = {"minimal": "MINIMAL", "low": "LOW", "medium": "MEDIUM", "high": "HIGH", "xhigh": "XHIGH"}


def request_from_chat(chat: Mapping[str, Any]) -> ChatRequest:
    """Return a chat completion request as a generateContent request."""
    request = ChatRequest({"contents": []})
    out, lost = request.values, request.lost
    system = [texts(m.get("content")) for m in chat["messages"] if m.get("role") in ("system", "developer")]
    if any(system):
        out["systemInstruction"] = {"parts": [{"text": "\n\n".join(system)}]}
    names: dict[str, str] = {}
    for message in chat["messages"]:
        if message.get("role") in ("system", "developer"):
            continue
        role = "model" if message.get("role") == "assistant" else "user"
        parts = _parts(message, names, lost)
        if out["contents"] and out["contents"][-1]["role"] == role:
            out["contents"][-1]["parts"] += parts
        else:
            out["contents"].append({"role": role, "parts": parts})
    config = _config(chat)
    if config:
        out["generationConfig"] = config
    if chat.get("service_tier") in ("flex", "priority"):
        out["serviceTier"] = chat["service_tier"]
    _tools(chat, out)
    lost += [
        name for name in ("logprobs", "logit_bias", "audio", "prediction", "functions") if chat.get(name)
    ]
    lost += ["n"] if (chat.get("n") or 1) > 1 else []
    return request


def _parts(message: Mapping[str, Any], names: dict[str, str], lost: list[str]) -> list[dict[str, Any]]:
    content = message.get("content")
    if message.get("role") == "tool":
        name = names.get(str(message.get("tool_call_id")), "tool")
        return [{"functionResponse": {"name": name, "response": {"output": texts(content)}}}]
    parts: list[dict[str, Any]] = [{"text": content}] if isinstance(content, str) and content else []
    for part in content if isinstance(content, list) else ():
        if part.get("type") == "text":
            parts.append({"text": part.get("text", "")})
        elif part.get("type") == "image_url":
            image = part.get("image_url")
            url = image.get("url", "") if isinstance(image, dict) else str(image)
            found = _DATA_URL.fullmatch(url)
            if found:
                parts.append({"inlineData": {"mimeType": found[1], "data": found[2]}})
            else:
                parts.append({"fileData": {"fileUri": url}})
        else:
            lost.append(f"messages: {part.get('type')}")
    for call in message.get("tool_calls") or ():
        function = call.get("function") or {}
        names[str(call.get("id"))] = str(function.get("name"))
        args = arguments(function.get("arguments"))
        parts.append({"functionCall": {"name": function.get("name"), "args": args}})
    return parts or [{"text": ""}]


def thinking(effort: Any) -> dict[str, str] | None:
    """Return how an effort is asked for; None where there is no such level."""
    level = _LEVELS.get(effort) if isinstance(effort, str) else None
    return None if level is None else {"thinkingLevel": level}


def _config(chat: Mapping[str, Any]) -> dict[str, Any]:
    config: dict[str, Any] = {}
    for name, other in (("temperature", "temperature"), ("top_p", "topP"), ("seed", "seed")):
        if chat.get(name) is not None:
            config[other] = chat[name]
    cap = chat.get("max_completion_tokens") or chat.get("max_tokens")
    if cap is not None:
        config["maxOutputTokens"] = cap
    if chat.get("stop"):
        config["stopSequences"] = [chat["stop"]] if isinstance(chat["stop"], str) else chat["stop"]
    if (level := thinking(chat.get("reasoning_effort"))) is not None:
        config["thinkingConfig"] = level
    form = chat.get("response_format")
    if isinstance(form, dict) and form.get("type") in ("json_object", "json_schema"):
        config["responseMimeType"] = "application/json"
        if isinstance(schema := form.get("json_schema"), dict):
            config["responseJsonSchema"] = schema.get("schema")
    return config


def _tools(chat: Mapping[str, Any], out: dict[str, Any]) -> None:
    functions = [tool.get("function") or {} for tool in chat.get("tools") or ()]
    if functions:
        out["tools"] = [
            {
                "functionDeclarations": [
                    {
                        "name": each.get("name"),
                        "description": each.get("description", ""),
                        "parametersJsonSchema": each.get("parameters")
                        or {"type": "object", "properties": {}},
                    }
                    for each in functions
                ]
            }
        ]
    choice = chat.get("tool_choice")
    if isinstance(choice, str):
        mode = {"auto": "AUTO", "required": "ANY", "none": "NONE"}.get(choice, "AUTO")
        out["toolConfig"] = {"functionCallingConfig": {"mode": mode}}
    elif isinstance(choice, dict):
        name = (choice.get("function") or {}).get("name")
        out["toolConfig"] = {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": [name]}}


def _candidate(content: Mapping[str, Any]) -> tuple[dict[str, Any], str | None]:
    """Return the first candidate's message, and how it ended."""
    candidate = (content.get("candidates") or [{}])[0]
    parts = (candidate.get("content") or {}).get("parts") or []
    message: dict[str, Any] = {
        "content": "".join(p.get("text", "") for p in parts if not p.get("thought")) or None
    }
    thoughts = "".join(p.get("text", "") for p in parts if p.get("thought"))
    if thoughts:
        message["reasoning_content"] = thoughts
    import json

    calls = [
        {
            "index": at,
            "id": new_id("call"),
            "type": "function",
            "function": {"name": call.get("name"), "arguments": json.dumps(call.get("args") or {})},
        }
        for at, call in enumerate(p["functionCall"] for p in parts if "functionCall" in p)
    ]
    if calls:
        message["tool_calls"] = calls
    reason = candidate.get("finishReason")
    finish = None if reason is None else "tool_calls" if calls else _FINISH.get(str(reason), "stop")
    return message, finish


def _usage(content: Mapping[str, Any]) -> dict[str, Any] | None:
    usage = read_usage(content)
    if usage is None:
        return None
    usage = usage.over(Usage(0, 0))
    return chat_usage(
        usage.input_tokens or 0, usage.output_tokens or 0, cached=usage.cached_tokens,
        hidden=usage.reasoning_tokens,
    )  # fmt: skip


def answer_to_chat(content: Mapping[str, Any], model: str) -> dict[str, Any]:
    """Return an answer of generateContent as a chat completion."""
    message, finish = _candidate(content)
    for call in message.get("tool_calls") or ():
        call.pop("index")
    return completion(model, {"role": "assistant", **message}, finish or "stop", _usage(content))


class GeminiSource:
    """Reads the events of streamGenerateContent as chunks of a chat completion."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._id = new_id("chatcmpl")
        self._begun = False

    def feed(self, name: str, content: Any) -> list[dict[str, Any]]:
        """Return the chunks that an event stands for."""
        message, finish = _candidate(content)
        delta = {name: value for name, value in message.items() if value}
        if not self._begun:
            self._begun = True
            delta = {"role": "assistant", **delta}
        chunks = [chunk(self._id, self._model, delta, finish)]
        usage = _usage(content)
        if finish is not None and usage is not None:
            chunks.append(chunk(self._id, self._model, None, usage=usage))
        return chunks
