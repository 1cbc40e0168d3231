"""How each model of the pool is reached: addresses, headers, proxy, time-outs."""

from __future__ import annotations

import urllib.request
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import aiohttp
from yarl import URL

from eccos_rs.dialects import gemini
from eccos_rs.dialects.addresses import KEY_HEADERS, TIERS, TRANSLATED, VERSION_HEADERS, request_path
from eccos_rs.domain.endpoint import read_headers, read_key
from eccos_rs.errors import PoolError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from eccos_rs.domain.endpoint import Endpoint
    from eccos_rs.pools.pool import LLM

__all__ = ["EndpointConfig"]

_NATIVE = {
    "openai": ("chat", "responses", "completions", "embeddings"),
    "azure": ("chat", "responses", "completions", "embeddings"),
    "anthropic": ("messages",),
    "gemini": (),
}


@dataclass
class EndpointConfig:
    """One model's endpoint, and what was learned of it.

    Attributes
    ----------
    model : str
        The name sent upstream.
    effort : str or None
        The reasoning effort that the pool asks for.
    lane : str or None
        The lane that it is asked in, where that must be said.
    refused : set of str
        Members that the gateway adds and that this endpoint does not take.
    kind : str
        As that of `Endpoint`.
    native : set of str
        Dialects that it is asked in as they come.
    """

    model: str
    base: URL
    headers: Mapping[str, str]
    proxy: str | None
    timeout: aiohttp.ClientTimeout
    first_byte_timeout: float
    effort: str | None = None
    lane: str | None = None
    refused: set[str] = field(default_factory=set)
    kind: str = "openai"
    native: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, model: LLM, first_byte_timeout: float, connect_timeout: float) -> EndpointConfig:
        """Read a model's endpoint and the environment that it names.

        Raises
        ------
        PoolError
            There is no endpoint, or its key, headers or address cannot be used.
        """
        endpoint = model.endpoint
        if endpoint is None:
            raise PoolError(f"model {model.name!r} has no endpoint; a gateway needs one for every model")
        headers = {
            "accept-encoding": "identity",
            "content-type": "application/json",
            **read_headers(endpoint, model.name),
        }
        key = read_key(endpoint, model.name)
        kind = endpoint.kind
        if key is not None and kind in KEY_HEADERS:
            headers[KEY_HEADERS[kind]] = key
        elif key is not None:
            headers["authorization"] = f"Bearer {key}"
        headers = {**VERSION_HEADERS.get(kind, {}), **headers}
        lane = model.lane if model.lane in TIERS else None
        if lane is not None and kind == "anthropic":
            raise PoolError(
                f"model {model.name!r}: an endpoint of kind anthropic sells no lane {lane!r} by the request"
            )
        base = URL(endpoint.base_url)
        if base.user is not None and "authorization" in headers:
            raise PoolError(f"model {model.name!r}: base_url names a user although there is a key")
        native = set(_NATIVE[kind])
        if kind == "azure" and not base.path.rstrip("/").endswith("/v1"):
            native.discard("responses")  # which its deployments do not have
        return cls(
            endpoint.model or model.identity,
            base,
            headers,
            _proxy(endpoint, base),
            aiohttp.ClientTimeout(
                total=None, connect=connect_timeout, sock_connect=connect_timeout, sock_read=endpoint.timeout
            ),
            min(first_byte_timeout, endpoint.timeout),
            model.effort,
            lane,
            kind=kind,
            native=native,
        )

    @property
    def translated(self) -> str:
        """The dialect that it is asked in when a request comes in none of its own."""
        return TRANSLATED[self.kind]

    def url(self, dialect: str, *, streaming: bool = False) -> URL:
        """Return the address of a dialect's requests; the query of the base address stays behind it."""
        base, query = self.base.path.rstrip("/"), dict(self.base.query)
        path = request_path(self.kind, base, self.model, dialect, streaming=streaming)
        if self.kind == "gemini" and dialect == "gemini" and streaming:
            query["alt"] = "sse"
        return self.base.with_path(f"{base}/{path}").with_query(query)

    def additions(self, values: Mapping[str, Any], dialect: str) -> dict[str, Any]:
        """Return the members that the gateway sets in a request of its own accord."""
        added: dict[str, Any] = {}
        if dialect in ("chat", "completions") and values.get("stream"):
            # The last event then says how many tokens there were; it is taken out again if nobody asked.
            added["stream_options"] = {**(values.get("stream_options") or {}), "include_usage": True}
        tier = "serviceTier" if dialect == "gemini" else "service_tier"
        if self.lane is not None and dialect != "embeddings" and values.get(tier) in (None, "auto"):
            added[tier] = self.lane
        return added if self.effort is None else added | self._with_effort(values, dialect)

    def _with_effort(self, values: Mapping[str, Any], dialect: str) -> dict[str, Any]:
        """Return the member that asks for the pool's effort, where the client asks for none of its own."""
        if dialect == "chat":
            asked = {"reasoning_effort", "reasoning"} & values.keys()
            return {} if asked else {"reasoning_effort": self.effort}
        member, inner, told = {
            "responses": ("reasoning", "effort", self.effort),
            "messages": ("output_config", "effort", self.effort),
            "gemini": ("generationConfig", "thinkingConfig", gemini.thinking(self.effort)),
        }.get(dialect, ("", "", None))
        given = values.get(member) or {}
        return {} if told is None or given.get(inner) else {member: {**given, inner: told}}


def _proxy(endpoint: Endpoint, base: URL) -> str | None:
    if endpoint.proxy != "environment":
        return endpoint.proxy
    if base.host is None or urllib.request.proxy_bypass(base.host):
        return None
    proxies = urllib.request.getproxies()
    return proxies.get(base.scheme) or proxies.get("all")
