"""The OpenAI protocol, as far as both servers need it: requests in, answers, errors and events out."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse

from eccos_rs.errors import InputError
from eccos_rs.routing.query import Query

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping

    from starlette.requests import Request
    from starlette.responses import Response

__all__ = [
    "DONE",
    "RequestError",
    "error_body",
    "error_response",
    "event",
    "query_of",
    "read_json",
    "usage_of",
]

CLIENT_LEFT = 499
"""The status of an answer that nobody is there to read, as log readers know it."""

DONE = b"data: [DONE]\n\n"
"""What ends a stream that came to its end."""


class RequestError(InputError):
    """A request that cannot be served, with the HTTP status that says so.

    Attributes
    ----------
    status : int
        HTTP status.
    code : str
        The machine-readable word in the body.
    headers : dict of str to str
        Sent with the answer (``Retry-After``).
    """

    def __init__(
        self, status: int, code: str, message: str, *, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.headers = dict(headers or {})


def error_body(status: int, code: str, message: str) -> dict[str, Any]:
    """Return the body that OpenAI's clients know how to read."""
    kind = "invalid_request_error" if status < 500 and status != 429 else "server_error"
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def error_response(
    status: int, code: str, message: str, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """Answer with an error."""
    return JSONResponse(error_body(status, code, message), status, headers)


def event(content: Mapping[str, Any]) -> bytes:
    """Return one server-sent event."""
    return b"data: " + json.dumps(content, separators=(",", ":")).encode() + b"\n\n"


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no JSON")  # Python's own reader takes it


_DECODER = json.JSONDecoder(parse_constant=_no_number)


async def read_json(request: Request) -> dict[str, Any]:
    """Read the body as a JSON object.

    Raises
    ------
    RequestError
        400: it is not one.
    """
    raw = await request.body()
    try:
        body = _DECODER.decode(raw.decode(json.detect_encoding(raw), "surrogatepass"))
    except (ValueError, RecursionError) as error:
        reason = getattr(error, "msg", None) or type(error).__name__
        raise RequestError(400, "invalid_json", f"the body is not JSON: {reason}") from error
    if not isinstance(body, dict):
        raise RequestError(400, "invalid_json", f"the body must be a JSON object, got {type(body).__name__}")
    return body


def query_of(body: Mapping[str, Any], **fields: Any) -> Query:
    """Make a query of the body of a chat completion request.

    Raises
    ------
    RequestError
        400: no messages, or malformed ones.
    """
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise RequestError(400, "invalid_messages", "messages must be a list of at least one message")
    limit = body.get("max_completion_tokens", body.get("max_tokens"))
    try:
        return Query(
            messages=tuple(messages),
            tools=bool(body.get("tools") or body.get("functions")),
            max_output_tokens=limit,
            **fields,
        )
    except InputError as error:
        raise RequestError(400, "invalid_messages", str(error)) from error


async def unless_gone(request: Request, work: Coroutine[Any, Any, Response]) -> Response | None:
    """Do the work, unless the client leaves first: then it is cancelled, and what it held is given back."""
    task = asyncio.create_task(work)
    gone = asyncio.create_task(_disconnected(request))
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        return None
    finally:
        gone.cancel()
        if not task.done():
            task.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def usage_of(body: Mapping[str, Any]) -> tuple[int | None, int | None, int]:
    """Return input tokens, output tokens and cached input tokens of an answer, None where it does not say."""
    usage = body.get("usage")
    if not isinstance(usage, dict):
        return None, None, 0
    details = usage.get("prompt_tokens_details")
    cached = _count(details.get("cached_tokens")) if isinstance(details, dict) else None
    return _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens")), cached or 0


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
