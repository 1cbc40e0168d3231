"""HTTP as both servers need it: requests in, answers, errors and events out."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse

from eccos_rs.dialects.events import DONE, RequestError, error_body, event
from eccos_rs.serve.body import JsonBody, parse_body

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping

    from starlette.requests import Request
    from starlette.responses import Response

__all__ = [
    "CLIENT_LEFT",
    "DONE",
    "RequestError",
    "cancel_on_disconnect",
    "error_body",
    "error_response",
    "event",
    "read_body",
]

CLIENT_LEFT = 499
"""The status of an answer that nobody is there to read, as log readers know it."""


def error_response(
    status: int,
    code: str,
    message: str,
    headers: Mapping[str, str] | None = None,
    param: str | None = None,
) -> JSONResponse:
    """Answer with an error."""
    return JSONResponse(error_body(status, code, message, param), status, headers)


async def read_body(request: Request, timeout: float | None = None) -> JsonBody:
    """Read the body as a JSON object.

    Raises
    ------
    RequestError
        400: it is not one; 408: it did not come within `timeout` seconds.
    """
    try:
        async with asyncio.timeout(timeout):
            raw = await request.body()
    except TimeoutError:
        raise RequestError(
            408,
            "request_timeout",
            f"the body did not come within {timeout:g} s",
            headers={"Connection": "close"},
        ) from None
    try:
        return parse_body(raw)
    except ValueError as error:
        raise RequestError(400, "invalid_json", f"the body {error}") from error


async def cancel_on_disconnect(request: Request, work: Coroutine[Any, Any, Response]) -> Response | None:
    """Do the work, unless the client leaves first: then it is cancelled, and what it held is released."""
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
