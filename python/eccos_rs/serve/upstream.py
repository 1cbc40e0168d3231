"""The endpoints of the pool: one request out, its answer or the reason why another model should be asked."""

from __future__ import annotations

import asyncio
import email.utils
import os
import time
from typing import TYPE_CHECKING, Any

import httpx

from eccos_rs.errors import PoolError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from eccos_rs.pool import LLM, Pool

__all__ = ["Reply", "Upstream", "UpstreamError"]

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

    def __init__(
        self, response: httpx.Response, first: bytes, rest: AsyncIterator[bytes], ttft: float
    ) -> None:
        self._response = response
        self._first = first
        self._rest = rest
        self.status = response.status_code
        self.headers = {name: response.headers[name] for name in _ANSWER_HEADERS if name in response.headers}
        self.ttft = ttft

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes.

        Raises
        ------
        httpx.HTTPError
            The endpoint died on the way.
        """
        yield self._first
        async for chunk in self._rest:
            yield chunk

    async def body(self) -> bytes:
        """Return the whole body."""
        return b"".join([chunk async for chunk in self.chunks()])

    async def close(self) -> None:
        """Let go of the connection; an answer still on its way is cancelled."""
        await self._response.aclose()


class Upstream:
    """Sends requests to the models' own endpoints.

    Keys are read from the environment when the upstream is made, are sent to their own endpoint alone (a
    redirect is not followed) and appear in no message.

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
        self._headers = {model.name: _headers(model) for model in pool}
        self._models = {model.name: model for model in pool}
        self._first_byte_timeout = first_byte_timeout
        self._connect_timeout = connect_timeout
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=256, keepalive_expiry=30.0)
        # One client for each model: a busy endpoint does not slow the look-up of another's idle connection.
        self._clients = {model.name: self._client(model, limits) for model in pool}

    def _client(self, model: LLM, limits: httpx.Limits) -> httpx.AsyncClient:
        assert model.endpoint is not None  # _headers has refused a model without one
        timeout = httpx.Timeout(model.endpoint.timeout, connect=self._connect_timeout, pool=None)
        return httpx.AsyncClient(
            headers=self._headers[model.name], timeout=timeout, limits=limits,
            follow_redirects=False, trust_env=False,
        )  # fmt: skip

    def _url(self, model: str, path: str) -> str:
        endpoint = self._models[model].endpoint
        assert endpoint is not None
        return f"{endpoint.base_url.rstrip('/')}/{path}"

    async def send(self, model: str, body: Mapping[str, Any]) -> Reply:
        """Send a chat completion request and wait for the first byte of its answer.

        Raises
        ------
        UpstreamError
            Connect error, 429, 5xx, or no first byte in time: another model may be asked.
        """
        endpoint = self._models[model].endpoint
        assert endpoint is not None
        client = self._clients[model]
        content = {**body, "model": endpoint.model or model}
        request = client.build_request("POST", self._url(model, "chat/completions"), json=content)
        start = time.monotonic()
        response: httpx.Response | None = None
        try:
            async with asyncio.timeout(min(self._first_byte_timeout, endpoint.timeout)):
                response = await client.send(request, stream=True)
                _check_status(model, response)
                rest = response.aiter_bytes()
                first = await anext(rest, b"")
        except BaseException as error:
            if response is not None:
                await response.aclose()
            if isinstance(error, TimeoutError | httpx.TimeoutException):
                raise UpstreamError("timeout", f"{model}: no first byte in time") from error
            if isinstance(error, httpx.ConnectError):
                raise UpstreamError("connect", f"{model}: cannot be reached") from error
            if isinstance(error, httpx.HTTPError):
                raise UpstreamError("protocol", f"{model}: {type(error).__name__}") from error
            raise
        return Reply(response, first, rest, time.monotonic() - start)

    async def answers(self, model: str) -> bool:
        """Whether the model's endpoint says anything but that it is broken or busy."""
        try:
            response = await self._clients[model].get(
                self._url(model, "models"), timeout=self._connect_timeout
            )
        except httpx.HTTPError:
            return False
        return response.status_code < 500 and response.status_code != 429

    async def close(self) -> None:
        """Close every connection."""
        for client in self._clients.values():
            await client.aclose()


def _headers(model: LLM) -> dict[str, str]:
    if model.endpoint is None:
        raise PoolError(f"model {model.name!r} has no endpoint; a gateway needs one for every model")
    headers = {"accept-encoding": "identity", **(model.endpoint.headers or {})}
    name = model.endpoint.api_key_env
    if name is not None:
        key = os.environ.get(name)
        if not key:
            raise PoolError(f"model {model.name!r}: the environment variable {name} with its key is not set")
        headers["authorization"] = f"Bearer {key}"
    return headers


def _check_status(model: str, response: httpx.Response) -> None:
    status = response.status_code
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
