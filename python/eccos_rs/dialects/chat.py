"""Chat Completions, as clients send them: what is asked, and what it needs of a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eccos_rs.dialects import checks
from eccos_rs.dialects.events import RequestError
from eccos_rs.domain.attachments import definition_tokens
from eccos_rs.domain.query import Query
from eccos_rs.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["asked_effort", "chat_query", "output_cap", "parse_ask"]

_PLAIN_PARTS = ("text", "input_text", "refusal")


def output_cap(values: Mapping[str, Any]) -> int | None:
    """Return the cap of one answer's tokens: the newer member's, else the older one's."""
    newer, older = (checks.whole(values, name) for name in ("max_completion_tokens", "max_tokens"))
    return older if newer is None else newer


def asked_effort(values: Mapping[str, Any]) -> str | None:
    """Return the reasoning effort that a request asks for, in the words of Chat Completions or Responses."""
    effort = values.get("reasoning_effort")
    if effort is None and isinstance(reasoning := values.get("reasoning"), dict):
        effort = reasoning.get("effort")
    return effort if isinstance(effort, str) and effort else None


def chat_query(values: Mapping[str, Any], *, named: bool = False, **fields: Any) -> Query:
    """Make a query of the body of a chat completion request.

    Parameters
    ----------
    values : mapping
        The body.
    named : bool
        The client has chosen the model itself: abilities are not asked for, and content of any kind passes.
    **fields
        Further fields of the query.

    Raises
    ------
    RequestError
        400: a member is malformed; the message names it.
    """
    messages = values.get("messages")
    if not isinstance(messages, list) or not messages:
        raise RequestError(
            400, "invalid_messages", "messages must be a list of at least one message", param="messages"
        )
    checks.flag(values, "stream")
    checks.mapping(values, "stream_options")
    tools = checks.listing(values, "tools") or checks.listing(values, "functions")
    schema = checks.mapping(values, "response_format")
    if schema is not None:
        schema = schema.get("json_schema", schema.get("schema"))
    n = checks.whole(values, "n", most=checks.MOST_CHOICES)
    try:
        query = Query(
            messages=tuple(map(_readable, messages) if named else messages),
            tools=bool(tools),
            max_output_tokens=output_cap(values),
            extra_input_tokens=definition_tokens(tools, schema),
            n=n or 1,
            **fields,
        )
    except RequestError:
        raise
    except InputError as error:
        raise RequestError(400, "invalid_messages", str(error), param="messages") from error
    return _without_needs(query) if named else query


def _readable(message: Any) -> Any:
    """Return a message with those parts alone that are text; what is no message is left to be refused."""
    content = message.get("content") if isinstance(message, dict) else None
    if not isinstance(content, list):
        return message
    parts = [
        part for part in content if not isinstance(part, dict) or part.get("type", "text") in _PLAIN_PARTS
    ]
    return {**message, "content": parts}


def _without_needs(query: Query) -> Query:
    from dataclasses import replace

    bare = replace(query)
    for name in ("tools", "vision"):
        object.__setattr__(bare, name, False)
    return bare


def parse_ask(values: Mapping[str, Any]) -> tuple[str, str]:
    """Return system text and first user message: what tells conversations apart that bear no name."""
    system, first = [], ""
    for message in values.get("messages") or ():
        if not isinstance(message, dict):
            continue
        if message.get("role") in ("system", "developer"):
            system.append(str(message.get("content")))
        elif message.get("role") == "user":
            first = str(message.get("content"))
            break
    return "\n".join(system), first
