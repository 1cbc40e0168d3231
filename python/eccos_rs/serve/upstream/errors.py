"""What an endpoint's failure means: for the request, for the model, for the money."""

from __future__ import annotations

import email.utils
import json
import re
import time
from typing import TYPE_CHECKING, Any

import aiohttp

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "REQUEST_STATUSES",
    "UpstreamDisconnected",
    "UpstreamError",
    "embedded_error",
    "failure_of_connection",
    "failure_of_status",
]

REQUEST_STATUSES = frozenset({400, 413, 422})
"""With these an endpoint says that the request is wrong; with every other error, that it cannot serve it."""

_KEY_STATUSES = frozenset({401, 402, 403})
_GAVE_UP = frozenset({504, 524})
_REFUSALS = {404: "knows no such model or path", 408: "took too long to read the request"}

_OVERFLOW = re.compile(
    r"context_length_exceeded|context.{0,12}(length|window|limit|size)"
    r"|(prompt|input|request).{0,24}too (long|large)|too many (input )?tokens"
    r"|exceeds?.{0,40}(maximum|max|limit).{0,40}tokens?|maximum.{0,24}tokens",
    re.IGNORECASE | re.DOTALL,
)
_ACCOUNT = re.compile(
    r"api[ _-]?key|organi[sz]ation|billing|insufficient_quota|credit balance|account|model_not_found"
    r"|model.{0,80}(does not exist|not found|no access|not supported)",
    re.IGNORECASE | re.DOTALL,
)


class UpstreamError(Exception):
    """An endpoint that failed before anything of its answer was passed on: another model may be asked.

    The text is the gateway's own: nothing that the endpoint said is in it.

    Attributes
    ----------
    reason : str
        One word for metrics: connect, tls, timeout, protocol, empty, error_in_200, key, overflow,
        effort, lane, status_NNN.
    retry_after : float or None
        Seconds that the endpoint asked for.
    charged : bool
        Whether the provider may charge for the call all the same.
    at_once : bool
        Whether the model is taken out of the pool without waiting for more failures.
    """

    def __init__(
        self,
        reason: str,
        message: str,
        *,
        retry_after: float | None = None,
        charged: bool = False,
        at_once: bool = False,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.retry_after = retry_after
        self.charged = charged
        self.at_once = at_once

    @property
    def blames_model(self) -> bool:
        """Whether the breaker counts it: a request that is too long says nothing about the endpoint."""
        return self.reason not in ("overflow", "untranslatable", "effort")

    @property
    def needs_somebody(self) -> bool:
        """Whether it stays until somebody mends the pool file or the account: logged as an error."""
        return self.at_once or self.reason in ("tls", "status_404", "status_408", "overflow")


class UpstreamDisconnected(Exception):  # noqa: N818 - it says what happened
    """An endpoint that broke its answer off, or fell silent, after the first byte was passed on."""


def failure_of_status(
    model: str, status: int, headers: Mapping[str, str], body: bytes
) -> UpstreamError | None:
    """Return why an answer with this status is the endpoint's failure; None where it is the request's."""
    if status in REQUEST_STATUSES:
        return _failure_in_refusal(model, status, body)
    if status in (429, 503):
        reason = "status_429" if status == 429 else "status_5xx"
        what = "too many requests" if status == 429 else "is not available"
        retry_after = _retry_after(headers.get("retry-after"))
        return UpstreamError(reason, f"{model}: {what} ({status})", retry_after=retry_after)
    if status in _KEY_STATUSES:
        what = "payment is required" if status == 402 else "its endpoint refuses the key"
        return UpstreamError("key", f"{model}: {what} ({status})", at_once=True)
    if status >= 500:
        # Behind a gateway that gave up waiting, the call may have been worked on.
        charged = status in _GAVE_UP
        return UpstreamError("status_5xx", f"{model}: failed with status {status}", charged=charged)
    what = _REFUSALS.get(status, "answers with a redirect" if status < 400 else "refuses the call")
    reason = "protocol" if status < 400 else f"status_{status}"
    return UpstreamError(reason, f"{model}: its endpoint {what} ({status})")


def _failure_in_refusal(model: str, status: int, body: bytes) -> UpstreamError | None:
    """Return the endpoint's failure behind a status that blames the request: its window, its account."""
    text = body[:65536].decode("utf-8", "replace")
    if _OVERFLOW.search(text):
        message = f"{model}: the request is longer than its context window ({status})"
        return UpstreamError("overflow", message)
    if status == 400 and _ACCOUNT.search(text):
        message = f"{model}: its endpoint refuses the account or the model ({status})"
        return UpstreamError("key", message, at_once=True)
    return None


def failure_of_connection(model: str, error: BaseException, *, sent: bool) -> UpstreamError | None:
    """Return what a broken connection means; None for an exception that is none."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientConnectorSSLError):
        cause = getattr(error, "certificate_error", None) or error.__cause__ or error
        reason = (
            getattr(cause, "verify_message", None) or getattr(cause, "reason", None) or type(cause).__name__
        )
        return UpstreamError("tls", f"{model}: the certificate of its endpoint is not accepted ({reason})")
    if isinstance(error, aiohttp.ClientConnectorError):
        return UpstreamError("connect", f"{model}: cannot be reached")
    if isinstance(error, TimeoutError):
        if not sent:
            return UpstreamError("connect", f"{model}: no connection in time")
        return UpstreamError("timeout", f"{model}: no answer in time", charged=True)
    if isinstance(error, aiohttp.ClientError | OSError):
        return UpstreamError("protocol", f"{model}: {type(error).__name__}", charged=sent)
    return None


def embedded_error(content: Any, name: str = "") -> bool:
    """Whether an answer of status 200, or an event, holds an error in place of an answer."""
    if name == "error":
        return True
    if not isinstance(content, dict):
        return False
    if content.get("type") in ("error", "response.failed") or content.get("object") == "error":
        return True
    return bool(content.get("error")) and not (
        content.get("choices") or content.get("output") or content.get("content")
    )


def broken_answer(model: str, body: bytes, content_type: str) -> UpstreamError | None:
    """Return why the body of a 200 is no answer: nothing, HTML, an error; None where it is one."""
    if not body.strip():
        return UpstreamError("empty", f"{model}: answered with nothing")
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        what = "HTML" if "html" in content_type or body.lstrip()[:1] == b"<" else "what is not JSON"
        return UpstreamError("protocol", f"{model}: answered with {what}")
    if not isinstance(content, dict):
        return UpstreamError(
            "protocol", f"{model}: answered with {type(content).__name__} in place of an object"
        )
    if embedded_error(content):
        return UpstreamError("error_in_200", f"{model}: answered 200 with an error in it")
    return None


def _retry_after(value: str | None) -> float | None:
    """Seconds of a Retry-After header, which is a number or a date (RFC 9110, 10.2.3)."""
    if value is None:
        return None
    try:
        seconds = float(value)
        return max(0.0, seconds) if seconds < float("inf") else None
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None
