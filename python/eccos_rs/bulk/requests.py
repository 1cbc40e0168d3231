"""What was asked inside a row: batch files, logs of requests with their responses, traces, other dialects."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from eccos_rs.dialects import translate
from eccos_rs.dialects.events import RequestError
from eccos_rs.domain.rows import is_blank
from eccos_rs.errors import QueryError

__all__ = ["TEXT_COLUMNS", "from_cell", "unwrap_request"]

TEXT_COLUMNS = ("query", "text", "prompt")
_WRAPPERS = (
    "request",
    "request_body",
    "requestBody",
    "body",
    "params",
    "payload",
    "input",
    "inputs",
    "kwargs",
)
"""Columns that hold a request body in the logs of gateways and tracers; the first one counts."""
_ANSWERS = ("output", "response", "completion", "choice", "answer", "result", "reply", "generation")
"""How columns begin that hold what came back: a chat in one of these is not what was asked."""
_TRANSLATED = {"system", "input", "instructions", "tools", "tool_choice", "max_tokens", "max_output_tokens"}
_SHAREGPT = {
    "human": "user",
    "gpt": "assistant",
    "user": "user",
    "system": "system",
    "assistant": "assistant",
}


def unwrap_request(row: dict[str, Any]) -> dict[str, Any]:
    """Return what was asked inside a line of a batch file, a log or a trace; any other row as it is.

    Parameters
    ----------
    row : dict
        Its keys may be taken out: give a copy.

    Raises
    ------
    QueryError
        The row is a line of a batch file or of a spend log, and holds no request for a chat or a text.
    """
    if "custom_id" in row or (isinstance(row.get("body"), Mapping) and "url" in row):
        return _batch_line(row)
    if "request_id" in row and ("proxy_server_request" in row or "call_type" in row or "spend" in row):
        return _logged(row)
    if not is_blank(row.get("messages")) or any(name in row for name in TEXT_COLUMNS):
        return _request(row) if "model" in row and not is_blank(row.get("system")) else row
    if _is_request(row):
        return _request(row)
    return _inside(row)


def _batch_line(row: dict[str, Any]) -> dict[str, Any]:
    body = from_cell(row.get("body", row.get("params")))
    if not isinstance(body, Mapping):
        raise QueryError(f"a line of a batch file needs a body (an object), got {body!r}")
    url = str(row.get("url") or "")
    if "embeddings" in url or "moderations" in url:
        raise QueryError(f"url: got {url!r}; requests for chats and texts are routed, these are not")
    inner = _request(dict(body))
    return inner if is_blank(row.get("custom_id")) else {**inner, "id": str(row["custom_id"])}


def _logged(row: Mapping[str, Any]) -> dict[str, Any]:
    request = from_cell(row.get("proxy_server_request"), lists=True)
    inner = _request(dict(request)) if isinstance(request, Mapping) else {}
    messages = from_cell(row.get("messages"), lists=True)
    if messages and isinstance(messages, list | str) and messages != "{}":
        inner["messages" if isinstance(messages, list) else "prompt"] = messages
    if not inner.get("messages") and not inner.get("prompt"):
        raise QueryError(
            "the log has no messages of this request; LiteLLM keeps them with "
            "general_settings.store_prompts_in_spend_logs: true"
        )
    return {**inner, "id": str(row["request_id"])}


def _inside(row: dict[str, Any]) -> dict[str, Any]:
    """Find the one column that holds a request or a chat, under whatever name a log gives it."""
    cells = {name: from_cell(cell) for name, cell in row.items() if not _answers(name)}
    bodies = [name for name, cell in cells.items() if isinstance(cell, Mapping) and _is_request(cell)]
    found = next((name for name in _WRAPPERS if name in bodies), bodies[0] if len(bodies) == 1 else None)
    if found is not None:
        return {**_without(row, found), **_request(dict(cells[found]))}
    chats = [name for name, cell in cells.items() if _is_chat(cell)]
    found = next((name for name in _WRAPPERS if name in chats), chats[0] if len(chats) == 1 else None)
    if found is not None:
        return {**_without(row, found), "messages": [_message(each) for each in cells[found]]}
    return row


def _answers(name: Any) -> bool:
    return isinstance(name, str) and name.lower().startswith(_ANSWERS)


def _without(row: Mapping[str, Any], found: str) -> dict[str, Any]:
    return {name: cell for name, cell in row.items() if name != found}


def _is_request(body: Mapping[str, Any]) -> bool:
    """Say whether an object is a request body of any of the dialects."""
    if _is_chat(body.get("messages")) or _is_contents(body.get("contents")):
        return True
    asked = next((body[name] for name in ("input", "prompt") if name in body), None)
    model = body.get("model")
    chats = isinstance(model, str) and not any(word in model.lower() for word in ("embed", "moderation"))
    return chats and (_is_chat(asked) or (isinstance(asked, str) and bool(asked)))


def _is_chat(cell: Any) -> bool:
    return (
        isinstance(cell, list)
        and bool(cell)
        and all(isinstance(each, Mapping) for each in cell)
        and any("role" in each or each.get("from") in _SHAREGPT for each in cell)
    )


def _is_contents(cell: Any) -> bool:
    return isinstance(cell, list) and any(isinstance(each, Mapping) and "parts" in each for each in cell)


def _message(each: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a message as chat completions have it; ShareGPT's lists say `from` and `value`."""
    if "role" in each or "from" not in each:
        return each
    return {"role": _SHAREGPT.get(each["from"], each["from"]), "content": each.get("value")}


def _request(body: dict[str, Any]) -> dict[str, Any]:
    """Return a request body with its messages where chat completions have them."""
    if _is_contents(body.get("contents")):
        told = body.pop("systemInstruction", None) or body.pop("system_instruction", None)
        body["messages"] = [*_told(_parts(told)), *map(_content, body.pop("contents"))]
    elif "messages" in body:
        asked = from_cell(body["messages"])
        if isinstance(asked, list):
            if _speaks_messages(asked, body):
                return _as_chat({**body, "messages": asked}, "messages")
            told = from_cell(body.pop("system", None))
            body["messages"] = [*_told(told), *map(_named, asked)]
    elif "input" in body:
        asked = from_cell(body["input"])
        return _as_chat({**body, "input": asked if asked else ""}, "responses")
    return body


def _speaks_messages(asked: list[Any], body: Mapping[str, Any]) -> bool:
    """Say whether a body has what Messages alone has: calls and results as blocks, schemas of its tools."""
    tools = from_cell(body.get("tools"))
    if isinstance(tools, list) and any(
        isinstance(tool, Mapping) and "input_schema" in tool for tool in tools
    ):
        return True
    blocks = (
        block
        for each in asked
        if isinstance(each, Mapping) and isinstance(each.get("content"), list)
        for block in each["content"]
    )
    return any(
        isinstance(block, Mapping) and block.get("type") in ("tool_use", "tool_result", "thinking")
        for block in blocks
    )


def _as_chat(body: dict[str, Any], dialect: str) -> dict[str, Any]:
    """Translate a body; what a table writes for nothing is nothing, and 5.0 is 5."""
    values = {
        name: int(cell) if isinstance(cell, float) and cell.is_integer() else from_cell(cell)
        for name, cell in body.items()
        if not is_blank(cell)
    }
    try:
        chat = translate.to_chat(values, dialect).values
    except RequestError as error:
        raise QueryError(str(error)) from error
    return {name: cell for name, cell in body.items() if name not in _TRANSLATED} | chat


def _named(each: Any) -> Any:
    return _message(each) if isinstance(each, Mapping) else each


def _told(system: Any) -> list[dict[str, Any]]:
    """Return the message for instructions: a text, or blocks of text as Messages and Gemini have them."""
    if isinstance(system, list):
        texts = [each.get("text") for each in system if isinstance(each, Mapping)]
        system = "\n".join(text for text in texts if isinstance(text, str))
    return [{"role": "system", "content": system}] if isinstance(system, str) and system else []


def _parts(content: Any) -> Any:
    return content.get("parts") if isinstance(content, Mapping) else content


def _content(each: Any) -> dict[str, Any]:
    """Return one of Gemini's contents as a message; what is not text counts as an image."""
    if not isinstance(each, Mapping) or not isinstance(each.get("parts"), list):
        raise QueryError(f"contents: got {each!r}, wanted objects with role and parts")
    blocks = []
    for part in each["parts"]:
        if isinstance(part, Mapping) and isinstance(part.get("text"), str):
            blocks.append({"type": "text", "text": part["text"]})
        elif isinstance(part, Mapping) and ("inlineData" in part or "inline_data" in part):
            blocks.append({"type": "image_url", "image_url": {"url": "data:"}})
    return {"role": "assistant" if each.get("role") == "model" else "user", "content": blocks}


def from_cell(cell: Any, *, lists: bool = True) -> Any:
    """Return the list or object that a cell spells as JSON (a CSV file has no other way), else the cell."""
    if hasattr(cell, "tolist") and not isinstance(cell, str):
        cell = cell.tolist()
    if lists and isinstance(cell, str) and cell.lstrip()[:1] in ("[", "{"):
        try:
            return json.loads(cell)
        except (ValueError, RecursionError):
            return cell
    return cell
