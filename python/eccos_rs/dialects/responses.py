"""OpenAI's Responses: a client's requests as chat completions, and their answers as Responses."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from eccos_rs.dialects import checks
from eccos_rs.dialects.base import ChatRequest, new_id, texts
from eccos_rs.dialects.events import RequestError, event
from eccos_rs.dialects.usage import Usage, read_usage

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ResponsesWriter", "answer_from_chat", "request_to_chat"]

_SAME = (
    "temperature",
    "top_p",
    "parallel_tool_calls",
    "stream",
    "user",
    "prompt_cache_key",
    "service_tier",
    "metadata",
)
_PASSED_OVER = frozenset(
    {"model", "input", "instructions", "store", "include", "truncation", "stream_options",
     "safety_identifier",
     "prompt_cache_retention", "prompt_cache_options", "tools", "tool_choice",
     "max_output_tokens", "reasoning", "text"}
)  # fmt: skip


def request_to_chat(values: Mapping[str, Any]) -> ChatRequest:
    """Return a Responses request as a chat completion request.

    Raises
    ------
    RequestError
        400: a member is malformed.
    """
    request = ChatRequest({"model": values.get("model"), "messages": []})
    chat, lost = request.values, request.lost
    checks.flag(values, "stream")
    cap = checks.whole(values, "max_output_tokens")
    if cap is not None:
        chat["max_completion_tokens"] = cap
    for name in _SAME:
        if values.get(name) is not None:
            chat[name] = values[name]
    lost += [
        name
        for name, value in values.items()
        if name not in {*_PASSED_OVER, *_SAME} and value not in (None, False)
    ]
    if values.get("instructions"):
        chat["messages"].append({"role": "system", "content": texts(values["instructions"])})
    given = values.get("input")
    if isinstance(given, str):
        chat["messages"].append({"role": "user", "content": given})
    elif isinstance(given, list):
        for at, item in enumerate(given):
            if not isinstance(item, dict):
                raise RequestError(400, "invalid_input", f"input {at} must be an object", param="input")
            _item_to_chat(at, item, chat["messages"], lost)
    elif values.get("prompt") is None:
        raise RequestError(400, "invalid_input", "input must be a text or a list of items", param="input")
    if not chat["messages"]:
        # The rest of the conversation lies with the endpoint.
        chat["messages"].append({"role": "user", "content": ""})
    _tools_to_chat(values, chat, lost)
    reasoning = checks.mapping(values, "reasoning") or {}
    if reasoning.get("effort"):
        chat["reasoning_effort"] = reasoning["effort"]
    _text_to_chat(checks.mapping(values, "text") or {}, chat)
    return request


def _item_to_chat(at: int, item: dict[str, Any], messages: list[dict[str, Any]], lost: list[str]) -> None:
    kind = item.get("type", "message")
    if kind == "message":
        messages.append(
            {"role": item.get("role", "user"), "content": _content_to_chat(at, item.get("content"), lost)}
        )
    elif kind == "function_call":
        call = {"name": item.get("name"), "arguments": item.get("arguments") or "{}"}
        made = {"id": item.get("call_id"), "type": "function", "function": call}
        if messages and messages[-1].get("role") == "assistant" and messages[-1].get("tool_calls"):
            messages[-1]["tool_calls"].append(made)
        else:
            messages.append({"role": "assistant", "content": None, "tool_calls": [made]})
    elif kind == "function_call_output":
        output = item.get("output")
        text = output if isinstance(output, str) else texts(output)
        messages.append({"role": "tool", "tool_call_id": item.get("call_id"), "content": text})
    elif kind == "reasoning" and not item.get("encrypted_content"):
        return  # a summary for people
    else:
        lost.append(f"input[{at}]: {kind}")


def _content_to_chat(at: int, content: Any, lost: list[str]) -> str | list[dict[str, Any]]:
    if isinstance(content, str):
        return content
    if not isinstance(content, list) or not all(isinstance(part, dict) for part in content):
        raise RequestError(
            400, "invalid_input", f"input {at}: content must be a text or a list of parts", param="input"
        )
    parts: list[dict[str, Any]] = []
    for part in content:
        kind = part.get("type")
        if kind in ("input_text", "output_text", "text", "refusal"):
            parts.append({"type": "text", "text": part.get("text") or part.get("refusal") or ""})
        elif kind == "input_image" and part.get("image_url"):
            image = {"url": part["image_url"], **({"detail": part["detail"]} if part.get("detail") else {})}
            parts.append({"type": "image_url", "image_url": image})
        else:
            lost.append(f"input[{at}]: {kind}")
    if all(part["type"] == "text" for part in parts):
        return "".join(part["text"] for part in parts)
    return parts


def _tools_to_chat(values: Mapping[str, Any], chat: dict[str, Any], lost: list[str]) -> None:
    tools = checks.listing(values, "tools") or []
    for at, tool in enumerate(tools):
        if tool.get("type") != "function":
            lost.append(f"tools[{at}]: {tool.get('type')}")
    functions = [
        {
            name: tool[name]
            for name in ("name", "description", "parameters", "strict")
            if tool.get(name) is not None
        }
        for tool in tools
        if tool.get("type") == "function"
    ]
    if functions:
        chat["tools"] = [{"type": "function", "function": function} for function in functions]
    choice = values.get("tool_choice")
    if isinstance(choice, str):
        chat["tool_choice"] = choice
    elif isinstance(choice, dict) and choice.get("type") == "function":
        chat["tool_choice"] = {"type": "function", "function": {"name": choice.get("name")}}
    elif choice is not None:
        lost.append("tool_choice")


def _text_to_chat(text: dict[str, Any], chat: dict[str, Any]) -> None:
    form = text.get("format")
    if isinstance(form, dict) and form.get("type") == "json_schema":
        schema = {
            name: form[name]
            for name in ("name", "description", "schema", "strict")
            if form.get(name) is not None
        }
        chat["response_format"] = {"type": "json_schema", "json_schema": schema}
    elif isinstance(form, dict) and form.get("type") == "json_object":
        chat["response_format"] = {"type": "json_object"}
    if text.get("verbosity"):
        chat["verbosity"] = text["verbosity"]


def _usage(content: Mapping[str, Any]) -> dict[str, Any] | None:
    usage = read_usage(content)
    if usage is None:
        return None
    usage = usage.over(Usage(0, 0))
    read, written = usage.input_tokens or 0, usage.output_tokens or 0
    return {
        "input_tokens": read,
        "input_tokens_details": {
            "cached_tokens": usage.cached_tokens,
            "cache_write_tokens": usage.cache_write_tokens,
        },
        "output_tokens": written,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": read + written,
    }


def _response(values: Mapping[str, Any], identity: str, **fields: Any) -> dict[str, Any]:
    """Return a response object; what the request set is repeated, as the provider does."""
    return {
        "id": identity, "object": "response", "created_at": int(time.time()), "status": "in_progress",
        "background": False, "error": None, "incomplete_details": None,
        "instructions": values.get("instructions"), "max_output_tokens": values.get("max_output_tokens"),
        "metadata": values.get("metadata") or {}, "model": values.get("model"), "output": [],
        "parallel_tool_calls": values.get("parallel_tool_calls", True), "previous_response_id": None,
        "reasoning": values.get("reasoning") or {}, "store": False, "temperature": values.get("temperature"),
        "text": values.get("text") or {"format": {"type": "text"}},
        "tool_choice": values.get("tool_choice", "auto"), "tools": values.get("tools") or [],
        "top_p": values.get("top_p"), "truncation": "disabled", "usage": None, "user": values.get("user"),
        **fields,
    }  # fmt: skip


def _ended(finish: Any) -> dict[str, Any]:
    reasons = {"length": "max_output_tokens", "content_filter": "content_filter"}
    if finish in reasons:
        return {"status": "incomplete", "incomplete_details": {"reason": reasons[finish]}}
    return {"status": "completed"}


def _message_item(identity: str, text: str | None, status: str) -> dict[str, Any]:
    parts = [] if text is None else [_text_part(text)]
    return {"id": identity, "type": "message", "status": status, "role": "assistant", "content": parts}


def _text_part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def answer_from_chat(content: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a chat completion as a response."""
    choice = (content.get("choices") or [{}])[0]
    message = choice.get("message") or {}
    output: list[dict[str, Any]] = []
    if text := texts(message.get("content")) or message.get("refusal"):
        output.append(_message_item(new_id("msg"), text, "completed"))
    for call in message.get("tool_calls") or ():
        output.append(_call_item(call, "completed"))
    return _response(
        values, new_id("resp"), model=content.get("model"), output=output, usage=_usage(content),
        **_ended(choice.get("finish_reason")),
    )  # fmt: skip


def _call_item(call: Mapping[str, Any], status: str) -> dict[str, Any]:
    function = call.get("function") or {}
    return {
        "id": new_id("fc"), "type": "function_call", "status": status,
        "call_id": call.get("id") or new_id("call"),
        "name": function.get("name") or "", "arguments": function.get("arguments") or "",
    }  # fmt: skip


class ResponsesWriter:
    """Writes chunks of a chat completion as the events of a response."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values
        self._id = new_id("resp")
        self._number = 0
        self._begun = False
        self._output: list[dict[str, Any]] = []
        self._open: tuple[str, int] | None = None
        self._finish: Any = None
        self._usage: dict[str, Any] | None = None
        self._model = values.get("model")

    def _event(self, kind: str, **fields: Any) -> bytes:
        content = {"type": kind, "sequence_number": self._number, **fields}
        self._number += 1
        return event(content, kind)

    def _whole(self, **fields: Any) -> dict[str, Any]:
        return _response(self._values, self._id, model=self._model, output=self._output, **fields)

    def feed(self, chunk: Mapping[str, Any]) -> bytes:
        """Return the events that a chunk becomes."""
        out = b""
        self._usage = _usage(chunk) or self._usage
        if not self._begun:
            self._begun, self._model = True, chunk.get("model") or self._model
            out += self._event("response.created", response=self._whole())
            out += self._event("response.in_progress", response=self._whole())
        for choice in (chunk.get("choices") or ())[:1]:
            delta = choice.get("delta") or {}
            if delta.get("content"):
                out += self._text(delta["content"])
            for call in delta.get("tool_calls") or ():
                out += self._call(call)
            self._finish = choice.get("finish_reason") or self._finish
        return out

    @property
    def _at(self) -> int:
        return len(self._output) - 1

    def _text(self, text: str) -> bytes:
        out = b""
        if self._open != ("text", 0):
            out += self._close()
            self._open = ("text", 0)
            self._output.append(_message_item(new_id("msg"), None, "in_progress"))
            item = self._output[-1]
            out += self._event("response.output_item.added", output_index=self._at, item=item)
            item["content"].append(_text_part(""))
            out += self._event(
                "response.content_part.added", item_id=item["id"], output_index=self._at, content_index=0,
                part=_text_part(""),
            )  # fmt: skip
        item = self._output[-1]
        item["content"][0]["text"] += text
        return out + self._event(
            "response.output_text.delta", item_id=item["id"], output_index=self._at, content_index=0,
            delta=text, logprobs=[],
        )  # fmt: skip

    def _call(self, call: Mapping[str, Any]) -> bytes:
        out, place = b"", ("call", int(call.get("index", 0)))
        function = call.get("function") or {}
        if self._open != place:
            out += self._close()
            self._open = place
            self._output.append(
                _call_item({**call, "function": {**function, "arguments": ""}}, "in_progress")
            )
            out += self._event("response.output_item.added", output_index=self._at, item=self._output[-1])
        item, more = self._output[-1], function.get("arguments")
        if more:
            item["arguments"] += more
            out += self._event(
                "response.function_call_arguments.delta",
                item_id=item["id"],
                output_index=self._at,
                delta=more,
            )
        return out

    def _close(self) -> bytes:
        if self._open is None:
            return b""
        kind, item = self._open[0], self._output[-1]
        self._open = None
        item["status"] = "completed"
        where = {"item_id": item["id"], "output_index": self._at}
        if kind == "text":
            part = item["content"][0]
            out = self._event(
                "response.output_text.done", **where, content_index=0, text=part["text"], logprobs=[]
            )
            out += self._event("response.content_part.done", **where, content_index=0, part=part)
        else:
            out = self._event(
                "response.function_call_arguments.done",
                **where,
                name=item["name"],
                arguments=item["arguments"],
            )
        return out + self._event("response.output_item.done", output_index=self._at, item=item)

    def end(self) -> bytes:
        """Return the events that end the response."""
        out = self._close()
        ended = _ended(self._finish)
        whole = self._whole(usage=self._usage, **ended)
        return out + self._event(f"response.{ended['status']}", response=whole)

    def fail(self, status: int, code: str, message: str) -> bytes:
        """Return the event that ends a stream which broke."""
        return self._event("error", code=code, message=message, param=None)
