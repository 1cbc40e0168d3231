"""How each model of the pool is reached: addresses, headers, proxy, time-outs."""

from __future__ import annotations

import urllib.request
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import aiohttp
from yarl import URL

from eccos_rs.errors import PoolError
from eccos_rs.routing.endpoint import read_headers, read_key

if TYPE_CHECKING:
    from collections.abc import Mapping

    from eccos_rs.routing.endpoint import Endpoint
    from eccos_rs.routing.pool import LLM

__all__ = ["EndpointConfig"]

_PATHS = {
    "chat": "chat/completions",
    "completions": "completions",
    "embeddings": "embeddings",
    "models": "models",
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
    refused : set of str
        Members that the gateway adds and that this endpoint does not take.
    """

    model: str
    base: URL
    headers: Mapping[str, str]
    proxy: str | None
    timeout: aiohttp.ClientTimeout
    first_byte_timeout: float
    effort: str | None = None
    refused: set[str] = field(default_factory=set)

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
        if key is not None:
            headers["authorization"] = f"Bearer {key}"
        base = URL(endpoint.base_url)
        if base.user is not None and "authorization" in headers:
            raise PoolError(f"model {model.name!r}: base_url names a user although there is a key")
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
        )

    def url(self, dialect: str) -> URL:
        """Return the address of a dialect's requests; the query of the base address stays behind it."""
        path = self.base.path.rstrip("/") + "/" + _PATHS[dialect]
        return self.base.with_path(path).with_query(self.base.query)

    def additions(self, values: Mapping[str, Any], dialect: str) -> dict[str, Any]:
        """Return the members that the gateway sets in a request of its own accord."""
        added: dict[str, Any] = {}
        if dialect not in ("chat", "completions"):
            return added
        if values.get("stream"):
            # The last event then says how many tokens there were; it is taken out again if nobody asked.
            added["stream_options"] = {**(values.get("stream_options") or {}), "include_usage": True}
        if (
            self.effort is not None
            and dialect == "chat"
            and not ({"reasoning_effort", "reasoning"} & values.keys())
        ):
            added["reasoning_effort"] = self.effort
        return added


def _proxy(endpoint: Endpoint, base: URL) -> str | None:
    if endpoint.proxy != "environment":
        return endpoint.proxy
    if base.host is None or urllib.request.proxy_bypass(base.host):
        return None
    proxies = urllib.request.getproxies()
    return proxies.get(base.scheme) or proxies.get("all")
