"""Where a model is served: its address, its key by name, its headers."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

from eccos_rs.domain.validation import check_choice, check_number, shown
from eccos_rs.errors import PoolError

__all__ = ["KINDS", "Endpoint", "read_headers", "read_key"]

KINDS = ("openai", "anthropic", "azure", "gemini")

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_PLAIN_VARIABLE = re.compile(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)+|[A-Z][A-Z0-9]{0,11}")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a model is served.

    Parameters
    ----------
    base_url : str
        Begins with ``http://`` or ``https://``, as the ``openai`` client takes it; a query
        (``?api-version=…``) stays behind the path of every request.
    model : str, optional
        The name sent upstream; None sends the pool's name.
    api_key_env : str, optional
        The environment variable that holds the key. A key itself never lies in a pool.
    headers : mapping of str to str, optional
        Sent with every request; ``${NAME}`` in a value stands for an environment variable.
    timeout : float
        Seconds.
    kind : {"openai", "anthropic", "azure", "gemini"}
        What it speaks, and how it is told its key: ``Authorization`` (openai), ``x-api-key`` (anthropic),
        ``api-key`` (azure), ``x-goog-api-key`` (gemini).
    proxy : str, optional
        Address of an HTTP proxy, or ``"environment"`` for those that ``HTTPS_PROXY`` and its like name.

    Raises
    ------
    PoolError
        A field is malformed. Values that may hold a secret are not repeated in the sentence.
    """

    base_url: str
    model: str | None = None
    api_key_env: str | None = None
    headers: Mapping[str, str] | None = field(default=None, repr=False)
    timeout: float = 600.0
    proxy: str | None = None
    kind: str = "openai"

    def __post_init__(self) -> None:
        _check_url("base_url", self.base_url)
        for name in ("model", "api_key_env", "proxy"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, str):
                raise PoolError(f"{name} must be a text, got {shown(value)}")
        if self.api_key_env is not None and not _VARIABLE.fullmatch(self.api_key_env):
            raise PoolError(
                "api_key_env must be the name of an environment variable (letters, digits and _); a key "
                "itself does not belong in a pool file"
            )
        check_choice("kind", self.kind, KINDS, error=PoolError)
        if self.proxy not in (None, "environment"):
            _check_url("proxy", self.proxy)
        check_number("timeout", self.timeout, error=PoolError, above=True)
        if self.headers is not None:
            object.__setattr__(self, "headers", MappingProxyType(_checked_headers(self.headers)))

    def __reduce__(self) -> tuple[Any, ...]:
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        values["headers"] = None if self.headers is None else dict(self.headers)
        return _rebuilt, (values,)


def _rebuilt(values: dict[str, Any]) -> Endpoint:
    return Endpoint(**values)


def read_key(endpoint: Endpoint, model: str) -> str | None:
    """Return the key that the environment holds for an endpoint, without spaces around it; None: it has none.

    Raises
    ------
    PoolError
        The variable is not set, or its value cannot be sent in a header; the value is not repeated.
    """
    name = endpoint.api_key_env
    if name is None:
        return None
    # A key that was pasted in place of a variable's name is not repeated.
    variable = f"the environment variable {name}" if _PLAIN_VARIABLE.fullmatch(name) else "the variable"
    key = os.environ.get(name, "").strip()
    if not key:
        raise PoolError(f"model {model!r}: {variable} with its key is not set (api_key_env)")
    _check_header_value(f"model {model!r}: {variable} with its key", key)
    return key


def read_headers(endpoint: Endpoint, model: str) -> dict[str, str]:
    """Return an endpoint's headers, names in small letters, with ``${NAME}`` replaced from the environment.

    Raises
    ------
    PoolError
        A variable is not set, or its value cannot be sent in a header; the value is not repeated.
    """
    found = {}
    for name, value in (endpoint.headers or {}).items():
        where = f"model {model!r}: header {name!r}"

        def replaced(match: re.Match[str], where: str = where) -> str:
            got = os.environ.get(match[1], "").strip()
            if not got:
                raise PoolError(f"{where}: the environment variable {match[1]} is not set")
            return got

        text = _REFERENCE.sub(replaced, value).strip()
        _check_header_value(where, text)
        found[name.lower()] = text
    return found


def _check_url(name: str, url: Any) -> None:
    if not isinstance(url, str) or not url.startswith(("http://", "https://")):
        raise PoolError(f"{name} must begin with http:// or https://, got {shown(url)}")
    try:
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname
    except ValueError as error:
        raise PoolError(f"{name} must be an address, got one that cannot be read: {error}") from None
    if not host or re.search(r"\s", url) or _CONTROL.search(url):
        raise PoolError(f"{name} must name a host and hold no spaces, got {_without_user(url)!r}")
    if port == 0:
        raise PoolError(f"{name} must have a port in [1, 65535], got 0")


def _without_user(url: str) -> str:
    return re.sub(r"//[^/]*@", "//…@", url)


def _checked_headers(headers: Any) -> dict[str, str]:
    if not isinstance(headers, Mapping):
        raise PoolError(f"headers must map names to texts, got {type(headers).__name__}")
    for name, value in headers.items():
        if not isinstance(name, str) or not _HEADER.fullmatch(name):
            raise PoolError(f"headers must have names of letters, digits and -, got {shown(name)}")
        if not isinstance(value, str):
            raise PoolError(f"headers must map names to texts, got {type(value).__name__} for {name!r}")
        _check_header_value(f"header {name!r}", value)
    return dict(headers)


def _check_header_value(name: str, value: str) -> None:
    """Raise `PoolError` for what no HTTP header may hold; the value is not repeated."""
    if _CONTROL.search(value):
        raise PoolError(f"{name} must not hold line breaks or other control characters within it")
    if not value.isascii():
        raise PoolError(f"{name} must be plain ASCII")
