"""Sends requests to the models' own endpoints, over connections that are kept."""

from __future__ import annotations

import asyncio
import io
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import aiohttp

from eccos_rs.dialects.translate import encode, to_endpoint
from eccos_rs.serve.body import REMOVED
from eccos_rs.serve.upstream.config import EndpointConfig
from eccos_rs.serve.upstream.errors import (
    REQUEST_STATUSES,
    UpstreamError,
    broken_answer,
    failure_of_connection,
    failure_of_status,
)
from eccos_rs.serve.upstream.reply import Reply

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import SimpleNamespace

    from yarl import URL

    from eccos_rs.dialects.base import ChatRequest
    from eccos_rs.pools.pool import Pool
    from eccos_rs.serve.body import JsonBody

__all__ = ["Outbound", "Upstream"]

_IDLE = 30.0
"""Seconds that a connection is kept for the next request."""

_AT_ONCE = 1.0
"""Seconds within which a connection that was closed before the request came shows that it was."""

_NO_SUCH_PATH = ("status_404", "status_405")

_TIERS = {"service_tier", "serviceTier"}

_WORDS = {"generationConfig": b"thinking"}
"""By what an endpoint's refusal of a member is known, where that is not the member's name."""

_LONGEST_REFUSAL = 2**20
"""Bytes of an error's body that are read."""


@dataclass
class Outbound:
    """A request on its way out.

    Attributes
    ----------
    body : JsonBody
        As the client sent it.
    dialect : str
        Which it is in.
    chat : ChatRequest or None
        The same as a chat completion request, for endpoints of other dialects.
    headers : mapping of str to str
        Of the client's, those that belong to the dialect; sent to endpoints of the same.
    trace : mapping of str to str
        Headers that pass a trace on.
    routed : bool
        Whether the gateway chose the model: what it refuses of the client's wishes, another may take.
    keep_cache : bool
        Ask for the prefix to be cached where the endpoint must be asked.
    sent : bool
        Whether the attempt that runs has been sent: a provider may charge for it from then on.
    """

    body: JsonBody
    dialect: str = "chat"
    chat: ChatRequest | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    trace: Mapping[str, str] = field(default_factory=dict)
    keep_cache: bool = False
    routed: bool = False
    sent: bool = False

    @property
    def streaming(self) -> bool:
        """Whether the client wants events."""
        return bool(self.body.values.get("stream"))


@dataclass
class RequestTrace:
    """Of one HTTP request: whether it went out on a connection that an earlier one had used."""

    outbound: Outbound
    reused: bool = False


async def _note_reuse(_: aiohttp.ClientSession, context: SimpleNamespace, __: object) -> None:
    if isinstance(context.trace_request_ctx, RequestTrace):
        context.trace_request_ctx.reused = True


async def _note_sent(_: aiohttp.ClientSession, context: SimpleNamespace, __: object) -> None:
    if isinstance(context.trace_request_ctx, RequestTrace):
        context.trace_request_ctx.outbound.sent = True


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
        self._configs = {
            model.name: EndpointConfig.of(model, first_byte_timeout, connect_timeout) for model in pool
        }
        self._connect_timeout = connect_timeout
        self._kept: aiohttp.ClientSession | None = None
        self._fresh: aiohttp.ClientSession | None = None

    def open(self) -> None:
        """Get ready to send, on the running event loop."""
        trace = aiohttp.TraceConfig()
        trace.on_connection_reuseconn.append(_note_reuse)
        trace.on_request_headers_sent.append(_note_sent)
        # The limits in flight are the session's slots, not a second count of connections.
        self._kept = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_IDLE),
            cookie_jar=aiohttp.DummyCookieJar(),
            trace_configs=[trace],
        )
        self._fresh = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, force_close=True),
            cookie_jar=aiohttp.DummyCookieJar(),
            trace_configs=[trace],
        )

    async def send(self, model: str, outbound: Outbound) -> Reply:
        """Send a request and wait until its answer begins, or until it is there if it is not streamed.

        Raises
        ------
        UpstreamError
            The endpoint failed before anything could be passed on: another model may be asked.
        """
        config = self._configs[model]
        outbound.sent = False
        while True:
            native = outbound.dialect in config.native
            raw, added = (
                _native_body(config, outbound) if native else _translated_body(model, config, outbound)
            )
            dialect = outbound.dialect if native else config.translated
            try:
                reply = await self._attempt(model, config, outbound, raw, dialect)
            except UpstreamError as error:
                if (
                    native
                    and outbound.dialect == "responses"
                    and error.reason in _NO_SUCH_PATH
                    and outbound.chat
                ):
                    # It may speak Chat Completions alone; if the model is unknown, that will say so.
                    config.native.discard("responses")
                    if not outbound.chat.lost:
                        continue
                raise
            refused = _refused_additions(reply, added - config.refused)
            if not refused:
                if outbound.routed and _refuses_effort(reply, outbound):
                    reply.close()
                    raise UpstreamError(
                        "effort", f"{model}: its endpoint refuses the effort that is asked for"
                    )
                return reply
            if closed := refused & _TIERS:
                # Asked without it, it would answer at the price of another lane.
                reply.close()
                raise UpstreamError("lane", f"{model}: its endpoint refuses {closed.pop()}", at_once=True)
            # It will not take them next time either; the client has not asked for them.
            config.refused |= refused

    def speakers(self, dialect: str) -> tuple[str, ...]:
        """Return the models whose endpoints are asked in a dialect as it comes."""
        return tuple(name for name, config in self._configs.items() if dialect in config.native)

    async def _attempt(
        self, model: str, config: EndpointConfig, outbound: Outbound, raw: bytes, dialect: str
    ) -> Reply:
        start = time.monotonic()
        response: aiohttp.ClientResponse | None = None
        try:
            async with asyncio.timeout(config.first_byte_timeout) as patience:
                response = await self._post(config, outbound, raw, dialect)
                reply = Reply(response, dialect)
                if response.status >= 300:
                    await self._refusal(model, reply)
                    return reply
                first = await response.content.readany()
                reply.ttft = time.monotonic() - start
                if outbound.streaming and reply.is_stream:
                    await reply.read_first_event(model, first)
                    reply.ttft = time.monotonic() - start
                    return reply
                patience.reschedule(None)
                await reply.read_whole(first)
            if failure := broken_answer(model, reply.whole or b"", response.headers.get("content-type", "")):
                raise failure
        except BaseException as error:
            if response is not None:
                response.close()
            if failure := failure_of_connection(model, error, sent=outbound.sent):
                raise failure from error
            raise
        response.release()
        return reply

    async def _refusal(self, model: str, reply: Reply) -> None:
        response = reply.response
        body = await response.content.read(_LONGEST_REFUSAL) if response.status in REQUEST_STATUSES else b""
        if response.status in REQUEST_STATUSES:
            while len(body) < _LONGEST_REFUSAL and (more := await response.content.readany()):
                body += more
        failure = failure_of_status(model, response.status, response.headers, body)
        response.close()
        if failure is not None:
            raise failure
        reply.whole = body

    async def _post(
        self, config: EndpointConfig, outbound: Outbound, raw: bytes, dialect: str
    ) -> aiohttp.ClientResponse:
        """Send; once more where the connection was an idle one that the endpoint had just closed.

        Such a request was never read. It shows as a used connection that breaks at once, without a byte of an
        answer; what breaks later may have been worked on, and is not sent twice to the same endpoint.
        """
        assert self._kept is not None  # open() comes before the first request
        assert self._fresh is not None
        trace, start = RequestTrace(outbound), time.monotonic()
        url: URL = config.url(dialect, streaming=outbound.streaming)
        own = outbound.headers if dialect == outbound.dialect else {}
        options: dict[str, Any] = {
            "headers": {**config.headers, **own, **outbound.trace},
            "timeout": config.timeout, "allow_redirects": False,
            "proxy": config.proxy, "trace_request_ctx": trace,
        }  # fmt: skip
        try:
            return await self._kept.post(url, data=_sent(raw), **options)
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
            if not trace.reused or _answered(error) or time.monotonic() - start > _AT_ONCE:
                raise
        outbound.sent = False
        return await self._fresh.post(url, data=_sent(raw), **options)

    async def answers(self, model: str) -> bool:
        """Whether the model's endpoint says anything but that it is broken, busy, or closed to its key."""
        config = self._configs[model]
        assert self._fresh is not None  # open() comes before the first request
        timeout = aiohttp.ClientTimeout(total=self._connect_timeout)
        try:
            async with self._fresh.get(
                config.url("models"), headers=config.headers, timeout=timeout, allow_redirects=False,
                proxy=config.proxy,
            ) as response:  # fmt: skip
                return response.status < 500 and response.status not in (401, 402, 403, 429)
        except (aiohttp.ClientError, OSError):
            return False

    async def close(self) -> None:
        """Close every connection."""
        for session in (self._kept, self._fresh):
            if session is not None:
                await session.close()


def _native_body(config: EndpointConfig, outbound: Outbound) -> tuple[bytes, set[str]]:
    """Return a request's bytes for an endpoint of its own dialect, and the members that were added."""
    values = outbound.body.values
    added = config.additions(values, outbound.dialect)
    changes: dict[str, Any] = {"model": config.model, **added}
    for name in config.refused & changes.keys():
        changes.pop(name)
        if name in values and name in added:
            changes[name] = REMOVED
    return outbound.body.edited(changes), set(added)


def _translated_body(model: str, config: EndpointConfig, outbound: Outbound) -> tuple[bytes, set[str]]:
    """Return a request's bytes for an endpoint of another dialect.

    Raises
    ------
    UpstreamError
        Something in it has no form there.
    """
    chat = outbound.chat
    if chat is None:
        raise UpstreamError("untranslatable", f"{model}: its endpoint has no {outbound.dialect}")
    request = to_endpoint(chat.values, config.translated, keep_cache=outbound.keep_cache)
    lost = [*chat.lost, *request.lost]
    if lost:
        raise UpstreamError("untranslatable", f"{model}: its endpoint has no form for {', '.join(lost)}")
    added = config.additions(request.values, config.translated)
    values = {**request.values, **{name: added[name] for name in added.keys() - config.refused}}
    if config.translated == "gemini":
        values.pop("model", None)
    else:
        values["model"] = config.model
    return encode(values), set(added)


def _refused_additions(reply: Reply, added: set[str]) -> set[str]:
    """Return which of the members that the gateway added an endpoint names in its refusal."""
    if reply.status not in (400, 422) or reply.whole is None:
        return set()
    return {name for name in added if _WORDS.get(name, name.encode()) in reply.whole}


def _refuses_effort(reply: Reply, outbound: Outbound) -> bool:
    """Whether an endpoint names the effort, which the client has asked for, in its refusal."""
    if reply.status not in (400, 422) or reply.whole is None or outbound.chat is None:
        return False
    asked = any(outbound.chat.values.get(name) for name in ("reasoning_effort", "reasoning"))
    return asked and any(word in reply.whole for word in (b"effort", b"thinking"))


def _sent(raw: bytes) -> bytes | io.BytesIO:
    # A large body is written piece by piece, so that others have their turn.
    return raw if len(raw) < 2**20 else io.BytesIO(raw)


def _answered(error: Exception) -> bool:
    """Whether something of an answer had come before the connection broke, or none was ever made."""
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return not isinstance(error.message, str)
    return isinstance(error, aiohttp.ClientConnectorError)
