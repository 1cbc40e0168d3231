"""What every dialect says alike: server-sent events, and errors as clients know how to read them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from eccos_rs.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["DONE", "RequestError", "error_body", "event"]

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
    param : str or None
        The member of the request that is wrong.
    headers : dict of str to str
        Sent with the answer (``Retry-After``).
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.param = param
        self.headers = dict(headers or {})


def error_body(status: int, code: str, message: str, param: str | None = None) -> dict[str, Any]:
    """Return the body that OpenAI's clients know how to read."""
    kind = "invalid_request_error" if status < 500 and status != 429 else "server_error"
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def event(content: Mapping[str, Any], name: str = "") -> bytes:
    """Return one server-sent event."""
    head = f"event: {name}\n".encode() if name else b""
    return head + b"data: " + json.dumps(content, separators=(",", ":")).encode() + b"\n\n"
