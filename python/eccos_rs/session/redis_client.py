"""Clients of Redis and Valkey: URLs of stores, the functions that run in the server, and their errors."""

from __future__ import annotations

import importlib.resources
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from eccos_rs.errors import InputError, MissingExtraError, StoreError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["RedisAddress", "RedisClient", "is_redis_url"]

_SCHEMES = ("redis", "rediss", "unix", "valkey", "valkeys")

_ANSWER_WITHIN = 2.0
"""Seconds after which a server that does not answer is taken for lost."""


def is_redis_url(url: object) -> bool:
    """Whether a store's URL is one of Redis or Valkey."""
    return isinstance(url, str) and url.split("://")[0] in _SCHEMES and "://" in url


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """Where a store is, and under which names.

    Parameters
    ----------
    url : str
        For the client, without this package's own parameters; it may hold a password.
    namespace : str
        All keys begin with it. What is shared is shared within a namespace.
    durable : bool
        Whether feedback needs the server's append-only file.
    """

    url: str
    namespace: str = "eccos"
    durable: bool = True

    @classmethod
    def parse(cls, url: str) -> RedisAddress:
        """Read ``redis://[user:password@]host[:port][/db][?namespace=NAME][&durable=no]``.

        Raises
        ------
        InputError
            A parameter of this package is malformed.

        Examples
        --------
        >>> RedisAddress.parse("redis://localhost/0?namespace=team").namespace
        'team'
        """
        parts = urlsplit(url)
        own = {"namespace": "eccos", "durable": "yes"}
        others = []
        for name, value in parse_qsl(parts.query, keep_blank_values=True):
            if name in own:
                own[name] = value
            else:
                others.append((name, value))
        if not own["namespace"] or set("{}|: ") & set(own["namespace"]):
            raise InputError(
                f"store: namespace must be a name without {{}}|: and blanks, got {own['namespace']!r}"
            )
        if own["durable"] not in ("yes", "no"):
            raise InputError(f"store: durable must be yes or no, got {own['durable']!r}")
        scheme = {"valkey": "redis", "valkeys": "rediss"}.get(parts.scheme, parts.scheme)
        plain = urlunsplit((scheme, parts.netloc, parts.path, urlencode(others), ""))
        return cls(plain, own["namespace"], own["durable"] == "yes")

    @property
    def shown(self) -> str:
        """The address for messages, without a password."""
        parts = urlsplit(self.url)
        host = parts.netloc.rsplit("@", 1)[-1]
        return f"{parts.scheme}://{host}{parts.path} (namespace {self.namespace})"

    def key(self, name: str) -> str:
        """Return a key; those of one namespace lie in one slot of a cluster."""
        return f"{{{self.namespace}}}:{name}"


class RedisClient:
    """A connection of one thread, without retries: what is sent twice would be done twice.

    Parameters
    ----------
    address : RedisAddress

    Raises
    ------
    MissingExtraError
        The client library is not installed.
    """

    def __init__(self, address: RedisAddress) -> None:
        try:
            import redis
            from redis.backoff import NoBackoff
            from redis.retry import Retry
        except ImportError as error:
            raise MissingExtraError(
                f"the store {address.shown} needs the client of Redis: pip install 'eccos-rs[redis]'"
            ) from error
        self.address = address
        self._errors = redis.RedisError
        try:
            self._client: Any = redis.Redis.from_url(
                address.url,
                socket_timeout=_ANSWER_WITHIN,
                socket_connect_timeout=_ANSWER_WITHIN,
                retry=Retry(NoBackoff(), 0),
                decode_responses=False,
            )
        except ValueError as error:
            raise InputError(f"store: {error}") from error

    def command(self, *words: Any) -> Any:
        """Run a command; StoreError: the server cannot be reached, or refuses."""
        try:
            return self._client.execute_command(*words)
        except (self._errors, OSError) as error:
            raise StoreError(f"{self.address.shown}: {error}") from error

    def pipeline(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """Run commands in one round trip, all or none."""
        try:
            pipe = self._client.pipeline(transaction=True)
            for words in commands:
                pipe.execute_command(*words)
            return list(pipe.execute())
        except (self._errors, OSError) as error:
            raise StoreError(f"{self.address.shown}: {error}") from error

    def function(self, name: str, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        """Call a function of this package in the server; load it when it is not there."""
        words = ("FCALL", name, len(keys), *keys, *arguments)
        try:
            return self.command(*words)
        except StoreError as error:
            if "not found" not in str(error).lower():
                raise
        source = importlib.resources.files("eccos_rs.session").joinpath("limits", "shared_limits.lua")
        try:
            self.command("FUNCTION", "LOAD", source.read_text("utf-8"))
        except StoreError as error:
            if "already exists" not in str(error):  # another session has just loaded it
                raise
        return self.command(*words)

    def run_id(self) -> str:
        """Return the name of the server's run; StoreError: it cannot be reached."""
        self.command("PING")
        try:
            text = self.command("INFO", "server")
        except StoreError:
            return ""  # not allowed to ask
        if isinstance(text, dict):
            return str(text.get("run_id", ""))
        lines = dict(line.split(":", 1) for line in text.decode().splitlines() if ":" in line)
        return str(lines.get("run_id", ""))

    def close(self) -> None:
        """End the connection."""
        self._client.close()
