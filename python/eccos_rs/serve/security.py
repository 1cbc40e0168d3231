"""Who may ask, and how much: bearer tokens, the size of a body, the address to listen on."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from typing import TYPE_CHECKING

from eccos_rs.errors import InputError
from eccos_rs.serve.protocol import MAX_HEADERS
from eccos_rs.serve.wire import error_response

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["BearerTokens", "SizeLimits", "check_address", "read_tokens"]

_OPEN_PATHS = frozenset({"/", "/healthz", "/readyz"})
"""Open to all: what says nothing of the traffic. The page at / fetches its figures with a token."""


def check_address(host: str, tokens: Iterable[str]) -> None:
    """Refuse to be open to everybody.

    Raises
    ------
    InputError
        `host` can be reached from other machines and there is no token.
    """
    if any(True for _ in tokens):
        return
    if not _is_loopback(host.strip("[]")):
        raise InputError(
            f"host {host} can be reached from other machines: give client tokens (the environment variable "
            "ECCOS_TOKENS, separated by commas), or listen on 127.0.0.1"
        )


def read_tokens(text: str | None) -> tuple[str, ...]:
    """Split the value of ECCOS_TOKENS at its commas.

    Raises
    ------
    InputError
        A token is shorter than 16 characters or not plain ASCII; it is not repeated in the sentence.
    """
    tokens = tuple(token for part in (text or "").split(",") if (token := part.strip()))
    for at, token in enumerate(tokens):
        if len(token) < 16 or not token.isascii():
            raise InputError(f"client token {at + 1} must be at least 16 ASCII characters, got {len(token)}")
    return tokens


class BearerTokens:
    """Lets a request through that brings one of the tokens; with no token at all, every request.

    Digests of equal length are compared, each with all of them, in constant time (`hmac.compare_digest`): how
    long the answer takes tells nothing of how near a guess was.
    """

    def __init__(
        self, app: ASGIApp, tokens: Iterable[str], names: Callable[[], Mapping[bytes, str]] = dict
    ) -> None:
        self._app = app
        self._digests = [hashlib.sha256(token.encode()).digest() for token in tokens]
        self._names = names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http" and scope["path"] not in _OPEN_PATHS:
            headers = dict(scope["headers"])
            kind, _, token = headers.get(b"authorization", b"").partition(b" ")
            if not kind and b"x-api-key" in headers:  # as Anthropic's clients send it
                kind, token = b"bearer", headers[b"x-api-key"]
            digest = hashlib.sha256(token.strip()).digest()
            if kind.lower() == b"bearer" and self._knows(digest):
                scope["eccos.client"] = digest.hex()[:16]
                scope["eccos.key"] = self._names().get(digest)
            else:
                refusal = error_response(
                    401, "invalid_api_key", "a valid bearer token is needed", {"WWW-Authenticate": "Bearer"}
                )
                await refusal(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _knows(self, digest: bytes) -> bool:
        found = False
        for known in (*self._digests, *self._names()):
            found |= hmac.compare_digest(known, digest)
        return found


class LocalOnly:
    """Keeps a gateway without client tokens to programs of this machine.

    A page of any site can send requests to loopback from its visitor's browser. So the ``Host`` must be a
    loopback name (else the page's own name was pointed at 127.0.0.1), an ``Origin`` must be the gateway's own
    or one that was allowed, a cross-site request is refused, and a body is JSON by its content type, which no
    page sends elsewhere without asking first. A program that sends no content type at all is no browser.

    Parameters
    ----------
    app : ASGI application
        What serves the rest.
    origins : iterable of str
        Allowed beside the gateway's own; ``"*"`` allows any.
    """

    def __init__(self, app: ASGIApp, origins: Iterable[str] = ()) -> None:
        self._app = app
        self._origins = frozenset(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        refusal = self._refusal(scope) if scope["type"] == "http" else None
        if refusal is not None:
            status, code, message = refusal
            await error_response(status, code, message)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _refusal(self, scope: Scope) -> tuple[int, str, str] | None:
        # Of a name that is there twice, every value must do.
        headers: dict[bytes, list[str]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name, []).append(value.decode("latin-1").strip())
        hosts = headers.get(b"host", [])
        if len(hosts) != 1 or not _is_loopback(_hostname(hosts[0])):
            return (
                403,
                "host_not_allowed",
                "without client tokens the gateway serves its loopback address alone",
            )
        origins = [origin for origin in headers.get(b"origin", []) if not self._allows(origin, hosts[0])]
        if origins:
            return 403, "origin_not_allowed", "without client tokens no page of another site may ask"
        sites = headers.get(b"sec-fetch-site", [])
        if "cross-site" in sites and not headers.get(b"origin"):
            return 403, "origin_not_allowed", "without client tokens no page of another site may ask"
        if scope["method"] != "POST":
            return None
        kinds = headers.get(b"content-type", [])
        browser = bool(headers.get(b"origin") or sites)
        if any(not _is_json(kind) for kind in kinds) or (browser and not kinds):
            return 415, "unsupported_media_type", "the body must be sent as application/json"
        return None

    def _allows(self, origin: str, host: str) -> bool:
        if "*" in self._origins or origin in self._origins:
            return True
        return origin.lower() in (f"http://{host}".lower(), f"https://{host}".lower())


def _is_json(kind: str) -> bool:
    media = kind.partition(";")[0].strip().lower()
    return media == "application/json" or (media.startswith("application/") and media.endswith("+json"))


def _hostname(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0] if host.count(":") == 1 else host


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower().rstrip(".") == "localhost"


class _TooLargeError(Exception):
    pass


class SizeLimits:
    """Refuses what is too large: a body with 413, whether or not its header owns up to it, headers with 431.

    Parameters
    ----------
    app : ASGI application
        What serves the rest.
    body, headers : int
        Bytes.
    """

    def __init__(self, app: ASGIApp, *, body: int, headers: int = MAX_HEADERS) -> None:
        self._app = app
        self._limit = body
        self._headers = headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # The parser bounds what it buffers; headers that came in one piece pass it whole.
        if sum(len(name) + len(value) for name, value in scope["headers"]) > self._headers:
            refusal = error_response(431, "headers_too_large", f"headers of over {self._headers} bytes")
            await refusal(scope, receive, send)
            return
        length = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        seen = 0
        started = False

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self._limit:
                raise _TooLargeError
            return message

        async def noted(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            if length.isdigit() and int(length) > self._limit:
                raise _TooLargeError
            await self._app(scope, counted, noted)
        except _TooLargeError:
            if started:
                raise
            refusal = error_response(
                413, "body_too_large", f"the body is larger than {self._limit} bytes", {"Connection": "close"}
            )
            await refusal(scope, receive, send)
