"""The endpoints of the pool: one request out, its answer or the reason why another model should be asked."""

from __future__ import annotations

import asyncio
import email.utils
import io
import json
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiohttp
from yarl import URL

from eccos_rs.errors import PoolError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from types import SimpleNamespace

    from eccos_rs.routing.pool import LLM, Pool

__all__ = ["EndpointLeft", "Reply", "Upstream", "UpstreamError"]

_IDLE = 30.0
"""Seconds that a connection is kept for the next request."""

_AT_ONCE = 1.0
"""Seconds within which a connection that was closed before the request came shows that it was."""

_ANSWER_HEADERS = ("content-type", "openai-processing-ms", "x-request-id", "x-replay-quality")
"""What of an endpoint's headers goes on to the client; the rest concerns the one connection."""


class UpstreamError(Exception):
    """An endpoint that failed before its first byte, so that another model may be asked.

    Attributes
    ----------
    reason : str
        One word for metrics: connect, timeout, protocol, status_429, status_5xx.
    retry_after : float | None
        Seconds that the endpoint asked for.
    """

    def __init__(self, reason: str, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.retry_after = retry_after


class EndpointLeft(Exception):  # noqa: N818 - it says what happened
    """An endpoint that broke its answer off, or fell silent, after the first byte."""


class Reply:
    """An answer whose first byte has come.

    Attributes
    ----------
    status : int
        HTTP status; below 500 and not 429.
    headers : dict of str to str
        What goes on to the client.
    ttft : float
        Seconds from the request to the first byte of the body.
    """

    def __init__(self, response: aiohttp.ClientResponse, first: bytes, ttft: float) -> None:
        self._response = response
        self._first = first
        self.status = response.status
        self.headers = {name: response.headers[name] for name in _ANSWER_HEADERS if name in response.headers}
        self.ttft = ttft

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes.

        Raises
        ------
        EndpointLeft
            The endpoint died on the way; the text names the kind of failure.
        """
        chunk = self._first
        while chunk:
            yield chunk
            try:
                chunk = await self._response.content.readany()
            except (aiohttp.ClientError, OSError) as error:
                raise EndpointLeft(type(error).__name__) from error

    async def body(self) -> bytes:
        """Return the whole body. EndpointLeft: as of `chunks`."""
        return b"".join([chunk async for chunk in self.chunks()])

    def close(self) -> None:
        """Let go of the connection; an answer still on its way is cancelled."""
        self._response.close()


@dataclass
class _Journey:
    """Of one request: whether it went out on a connection that an earlier one had used."""

    reused: bool = False


async def _note_reuse(_: aiohttp.ClientSession, context: SimpleNamespace, __: object) -> None:
    context.trace_request_ctx.reused = True


class Upstream:
    """Sends requests to the models' own endpoints.

    Keys are read from the environment when the upstream is made, are sent to their own endpoint alone (a
    redirect is not followed, no cookie is kept) and appear in no message.

    Parameters
    ----------
    pool : Pool
        Every model has an endpoint.
    first_byte_timeout : float
        Seconds until the first byte; after that another model is asked.
    connect_timeout : float
        Seconds until the connection stands.

    Raises
    ------
    PoolError
        A model has no endpoint, or the environment variable of its key is not set.
    """

    def __init__(self, pool: Pool, *, first_byte_timeout: float = 60.0, connect_timeout: float = 5.0) -> None:
        self._ways = {model.name: _Way.to(model, first_byte_timeout, connect_timeout) for model in pool}
        self._connect_timeout = connect_timeout
        self._kept: aiohttp.ClientSession | None = None
        self._fresh: aiohttp.ClientSession | None = None

    def open(self) -> None:
        """Get ready to send, on the running event loop."""
        reuse = aiohttp.TraceConfig()
        reuse.on_connection_reuseconn.append(_note_reuse)
        # The limits in flight are the session's slots, not a second count of connections.
        self._kept = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_IDLE),
            cookie_jar=aiohttp.DummyCookieJar(),
            trace_configs=[reuse],
        )
        self._fresh = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, force_close=True), cookie_jar=aiohttp.DummyCookieJar()
        )

    async def send(self, model: str, body: Mapping[str, Any]) -> Reply:
        """Send a chat completion request and wait for the first byte of its answer.

        Raises
        ------
        UpstreamError
            Connect error, 429, 5xx, or no first byte in time: another model may be asked.
        """
        way = self._ways[model]
        raw = json.dumps({**body, "model": way.model}, separators=(",", ":")).encode()
        start = time.monotonic()
        response: aiohttp.ClientResponse | None = None
        try:
            async with asyncio.timeout(way.first_byte_timeout):
                response = await self._post(way, raw)
                _check_status(model, response)
                first = await response.content.readany()
        except BaseException as error:
            if response is not None:
                response.close()
            if isinstance(error, TimeoutError):
                raise UpstreamError("timeout", f"{model}: no first byte in time") from error
            if isinstance(error, aiohttp.ClientConnectorError):
                raise UpstreamError("connect", f"{model}: cannot be reached") from error
            if isinstance(error, aiohttp.ClientError | OSError):
                raise UpstreamError("protocol", f"{model}: {type(error).__name__}") from error
            raise
        return Reply(response, first, time.monotonic() - start)

    async def _post(self, way: _Way, raw: bytes) -> aiohttp.ClientResponse:
        """Send; once more where the connection was an idle one that the endpoint had just closed.

        Such a request was never read. It shows as a used connection that breaks at once, without a byte of an
        answer; what breaks later may have been worked on, and is not sent twice to the same endpoint.
        """
        assert self._kept is not None  # open() comes before the first request
        assert self._fresh is not None
        journey, start = _Journey(), time.monotonic()
        options: dict[str, Any] = {
            "headers": way.headers, "timeout": way.timeout, "allow_redirects": False,
        }  # fmt: skip
        try:
            return await self._kept.post(way.chat, data=_sent(raw), trace_request_ctx=journey, **options)
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
            if not journey.reused or _answered(error) or time.monotonic() - start > _AT_ONCE:
                raise
        return await self._fresh.post(way.chat, data=_sent(raw), **options)

    async def answers(self, model: str) -> bool:
        """Whether the model's endpoint says anything but that it is broken or busy."""
        way = self._ways[model]
        assert self._fresh is not None  # open() comes before the first request
        timeout = aiohttp.ClientTimeout(total=self._connect_timeout)
        try:
            async with self._fresh.get(
                way.models, headers=way.headers, timeout=timeout, allow_redirects=False
            ) as response:
                return response.status < 500 and response.status != 429
        except (aiohttp.ClientError, OSError):
            return False

    async def close(self) -> None:
        """Close every connection."""
        for session in (self._kept, self._fresh):
            if session is not None:
                await session.close()


@dataclass(frozen=True)
class _Way:
    """How a model is reached."""

    model: str
    chat: URL
    models: URL
    headers: Mapping[str, str]
    timeout: aiohttp.ClientTimeout
    first_byte_timeout: float

    @classmethod
    def to(cls, model: LLM, first_byte_timeout: float, connect_timeout: float) -> _Way:
        headers = _headers(model)
        endpoint = model.endpoint
        assert endpoint is not None  # _headers has refused a model without one
        base = URL(endpoint.base_url.rstrip("/"))
        if base.user is not None and "authorization" in headers:
            raise PoolError(f"model {model.name!r}: base_url names a user although there is a key")
        return cls(
            endpoint.model or model.identity,
            base / "chat/completions",
            base / "models",
            headers,
            aiohttp.ClientTimeout(
                total=None, connect=connect_timeout, sock_connect=connect_timeout, sock_read=endpoint.timeout
            ),
            min(first_byte_timeout, endpoint.timeout),
        )


def _sent(raw: bytes) -> bytes | io.BytesIO:
    # A large body is written piece by piece, so that others have their turn.
    return raw if len(raw) < 2**20 else io.BytesIO(raw)


def _answered(error: Exception) -> bool:
    """Whether something of an answer had come before the connection broke, or none was ever made."""
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return not isinstance(error.message, str)
    return isinstance(error, aiohttp.ClientConnectorError)


def _headers(model: LLM) -> dict[str, str]:
    if model.endpoint is None:
        raise PoolError(f"model {model.name!r} has no endpoint; a gateway needs one for every model")
    # Names in small letters: one given twice would be sent twice.
    own = {name.lower(): value for name, value in (model.endpoint.headers or {}).items()}
    headers = {"accept-encoding": "identity", "content-type": "application/json", **own}
    name = model.endpoint.api_key_env
    if name is not None:
        key = os.environ.get(name)
        if not key:
            raise PoolError(f"model {model.name!r}: the environment variable {name} with its key is not set")
        headers["authorization"] = f"Bearer {key}"
    return headers


def _check_status(model: str, response: aiohttp.ClientResponse) -> None:
    status = response.status
    if status == 429:
        retry_after = _retry_after(response.headers.get("retry-after"))
        raise UpstreamError("status_429", f"{model}: too many requests (429)", retry_after)
    if status >= 500:
        raise UpstreamError("status_5xx", f"{model}: failed with status {status}")
    if 300 <= status < 400:
        raise UpstreamError(
            "protocol", f"{model}: answered with a redirect ({status}), which is not followed"
        )


def _retry_after(value: str | None) -> float | None:
    """Seconds of a Retry-After header, which is a number or a date (RFC 9110, 10.2.3)."""
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None
