"""Anthropic's Messages: its requests as chat completion requests, and the other way."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from eccos_rs.dialects import checks
from eccos_rs.dialects.base import ChatRequest, arguments, texts
from eccos_rs.dialects.events import RequestError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["request_from_chat", "request_to_chat"]

_DEFAULT_CAP = 8192
"""Output tokens asked of Messages, which wants a cap, where the client gave none."""

_SAME = ("temperature", "top_p", "stream")
_PASSED_OVER = frozenset(
    {"model", "messages", "system", "max_tokens", "metadata", "cache_control", "service_tier"}
)
_READ = frozenset({"tools", "tool_choice", "stop_sequences", "thinking", "output_config", *_SAME})
_DATA_URL = re.compile(r"data:([^;,]+);base64,(.*)", re.DOTALL)


# A client's request, to an endpoint of another dialect.


def request_to_chat(values: Mapping[str, Any]) -> ChatRequest:
    """Return a Messages request as a chat completion request.

    Raises
    ------
    RequestError
        400: a member is malformed.
    """
    request = ChatRequest({"model": values.get("model"), "messages": []})
    chat, lost = request.values, request.lost
    cap = checks.whole(values, "max_tokens", least=0)
    if cap:
        chat["max_completion_tokens"] = cap
    elif cap == 0:
        lost.append("max_tokens: 0")
    for name in _SAME:
        if values.get(name) is not None:
            chat[name] = values[name]
    if values.get("stop_sequences"):
        chat["stop"] = values["stop_sequences"]
    lost += [name for name in values if name not in _PASSED_OVER | _READ and values[name] is not None]
    if values.get("system"):
        chat["messages"].append({"role": "system", "content": texts(values["system"])})
    messages = values.get("messages")
    if not isinstance(messages, list) or not messages:
        raise RequestError(
            400, "invalid_messages", "messages must be a list of at least one message", param="messages"
        )
    for at, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise RequestError(
                400, "invalid_messages", f"message {at} needs a role and content", param="messages"
            )
        chat["messages"] += _message_to_chat(at, message, lost)
    _tools_to_chat(values, chat, lost)
    _effort_to_chat(values, chat)
    return request


def _message_to_chat(at: int, message: dict[str, Any], lost: list[str]) -> list[dict[str, Any]]:
    content = message.get("content")
    if isinstance(content, str):
        return [{"role": message["role"], "content": content}]
    if not isinstance(content, list) or not all(isinstance(block, dict) for block in content):
        raise RequestError(
            400,
            "invalid_messages",
            f"message {at}: content must be a text or a list of blocks",
            param="messages",
        )
    results: list[dict[str, Any]] = []
    parts: list[dict[str, Any]] = []
    calls: list[dict[str, Any]] = []
    for block in content:
        kind = block.get("type")
        if kind == "text":
            parts.append({"type": "text", "text": str(block.get("text", ""))})
        elif kind == "image":
            parts.append({"type": "image_url", "image_url": {"url": _image_url(block.get("source"))}})
        elif kind == "tool_use":
            call = {"name": block.get("name"), "arguments": json.dumps(block.get("input") or {})}
            calls.append({"id": block.get("id"), "type": "function", "function": call})
        elif kind == "tool_result":
            results.append(_result_to_chat(at, block, lost))
        else:
            lost.append(f"messages[{at}]: {kind}")
    if results and not parts and not calls:
        return results
    return [*results, _turn(message["role"], parts, calls)]


def _result_to_chat(at: int, block: dict[str, Any], lost: list[str]) -> dict[str, Any]:
    inner = block.get("content")
    listed = inner if isinstance(inner, list) else ()
    if any(part.get("type") != "text" for part in listed if isinstance(part, dict)):
        lost.append(f"messages[{at}]: a tool result that is not text")
    return {"role": "tool", "tool_call_id": block.get("tool_use_id"), "content": texts(inner)}


def _turn(role: str, parts: list[dict[str, Any]], calls: list[dict[str, Any]]) -> dict[str, Any]:
    plain = all(part["type"] == "text" for part in parts)
    content: Any = "".join(part["text"] for part in parts) if plain else parts
    if not calls:
        return {"role": role, "content": content}
    return {"role": role, "content": content or None, "tool_calls": calls}


def _image_url(source: Any) -> str:
    if not isinstance(source, dict):
        return ""
    if source.get("type") == "base64":
        return f"data:{source.get('media_type', 'image/png')};base64,{source.get('data', '')}"
    return str(source.get("url", ""))


def _tools_to_chat(values: Mapping[str, Any], chat: dict[str, Any], lost: list[str]) -> None:
    tools = checks.listing(values, "tools") or []
    for at, tool in enumerate(tools):
        if tool.get("type") not in (None, "custom"):
            lost.append(f"tools[{at}]: {tool.get('type')}")
    if tools:
        chat["tools"] = [
            {
                "type": "function",
                "function": {
                    "name": tool.get("name"),
                    "description": tool.get("description", ""),
                    "parameters": tool.get("input_schema") or {"type": "object", "properties": {}},
                },
            }
            for tool in tools
        ]
    choice = checks.mapping(values, "tool_choice")
    if choice:
        kinds = {"auto": "auto", "any": "required", "none": "none"}
        named = {"type": "function", "function": {"name": choice.get("name")}}
        chat["tool_choice"] = kinds.get(str(choice.get("type")), named)
        if choice.get("disable_parallel_tool_use"):
            chat["parallel_tool_calls"] = False


def _effort_to_chat(values: Mapping[str, Any], chat: dict[str, Any]) -> None:
    config = checks.mapping(values, "output_config") or {}
    thinking = checks.mapping(values, "thinking") or {}
    if config.get("effort"):
        chat["reasoning_effort"] = config["effort"]
    elif thinking.get("type") == "enabled":
        budget = checks.whole(thinking, "budget_tokens") or 0
        chat["reasoning_effort"] = "low" if budget <= 2048 else "medium" if budget <= 8192 else "high"
    if isinstance(form := config.get("format"), dict) and form.get("type") == "json_schema":
        chat["response_format"] = {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": form.get("schema"), "strict": True},
        }  # fmt: skip


# A chat completion request, to an endpoint of Messages.


def request_from_chat(chat: Mapping[str, Any], *, keep_cache: bool) -> ChatRequest:
    """Return a chat completion request as a Messages request; `keep_cache`: its prefix is to be cached."""
    request = ChatRequest({"messages": [], "max_tokens": _cap(chat)})
    out, lost = request.values, request.lost
    for name in _SAME:
        if chat.get(name) is not None:
            out[name] = chat[name]
    if chat.get("stop"):
        out["stop_sequences"] = [chat["stop"]] if isinstance(chat["stop"], str) else chat["stop"]
    if keep_cache:
        out["cache_control"] = {"type": "ephemeral"}
    system = [texts(m.get("content")) for m in chat["messages"] if m.get("role") in ("system", "developer")]
    if any(system):
        out["system"] = "\n\n".join(system)
    for message in chat["messages"]:
        if message.get("role") not in ("system", "developer"):
            _add_turn(out["messages"], _message_from_chat(message, lost))
    _tools_from_chat(chat, out)
    if chat.get("reasoning_effort") not in (None, "none", "minimal"):
        out["output_config"] = {"effort": chat["reasoning_effort"]}
    form = chat.get("response_format")
    if isinstance(form, dict) and isinstance(schema := form.get("json_schema"), dict):
        out.setdefault("output_config", {})["format"] = {
            "type": "json_schema",
            "schema": schema.get("schema"),
        }
    elif isinstance(form, dict) and form.get("type") == "json_object":
        lost.append("response_format: json_object")
    lost += [
        name for name in ("logprobs", "logit_bias", "audio", "prediction", "functions") if chat.get(name)
    ]
    lost += ["n"] if (chat.get("n") or 1) > 1 else []
    return request


def _cap(chat: Mapping[str, Any]) -> int:
    cap = chat.get("max_completion_tokens") or chat.get("max_tokens")
    return cap if isinstance(cap, int) else _DEFAULT_CAP


def _add_turn(turns: list[dict[str, Any]], turn: dict[str, Any]) -> None:
    if turns and turns[-1]["role"] == turn["role"]:
        turns[-1]["content"] += turn["content"]  # the answers of several tools are one turn
    else:
        turns.append(turn)


def _message_from_chat(message: Mapping[str, Any], lost: list[str]) -> dict[str, Any]:
    role, content = message.get("role"), message.get("content")
    if role == "tool":
        result = {
            "type": "tool_result",
            "tool_use_id": message.get("tool_call_id"),
            "content": texts(content),
        }
        return {"role": "user", "content": [result]}
    blocks: list[dict[str, Any]] = []
    if isinstance(content, str) and content:
        blocks.append({"type": "text", "text": content})
    for part in content if isinstance(content, list) else ():
        if part.get("type") in ("text", "refusal"):
            blocks.append({"type": "text", "text": part.get("text") or part.get("refusal") or ""})
        elif part.get("type") == "image_url":
            blocks.append({"type": "image", "source": _image_source(part.get("image_url"))})
        else:
            lost.append(f"messages: {part.get('type')}")
    for call in message.get("tool_calls") or ():
        function = call.get("function") or {}
        blocks.append(
            {"type": "tool_use", "id": call.get("id"), "name": function.get("name"),
             "input": arguments(function.get("arguments"))}
        )  # fmt: skip
    return {"role": "assistant" if role == "assistant" else "user", "content": blocks}


def _image_source(image: Any) -> dict[str, Any]:
    url = image.get("url", "") if isinstance(image, dict) else str(image)
    found = _DATA_URL.fullmatch(url)
    if found is None:
        return {"type": "url", "url": url}
    return {"type": "base64", "media_type": found[1], "data": found[2]}


def _tools_from_chat(chat: Mapping[str, Any], out: dict[str, Any]) -> None:
    tools = [tool.get("function") or {} for tool in chat.get("tools") or ()]
    if tools:
        out["tools"] = [
            {
                "name": tool.get("name"),
                "description": tool.get("description", ""),
                "input_schema": tool.get("parameters") or {"type": "object", "properties": {}},
            }
            for tool in tools
        ]
    choice = chat.get("tool_choice")
    if isinstance(choice, str):
        out["tool_choice"] = {"type": {"auto": "auto", "required": "any", "none": "none"}.get(choice, "auto")}
    elif isinstance(choice, dict):
        out["tool_choice"] = {"type": "tool", "name": (choice.get("function") or {}).get("name")}
    if tools and chat.get("parallel_tool_calls") is False:
        out.setdefault("tool_choice", {"type": "auto"})["disable_parallel_tool_use"] = True
