"""Client keys with limits of their own: budget, rates, priorities, models, tenant; from a file."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import re
import time
import tomllib
import uuid
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eccos_rs.domain.validation import check_choice, check_number, check_whole, did_you_mean
from eccos_rs.errors import InputError, PoolError, StoreError
from eccos_rs.serve.columns import expand
from eccos_rs.serve.conversations import of_tenant
from eccos_rs.serve.wire import RequestError
from eccos_rs.session.control.pacing import budget_period
from eccos_rs.session.limits.window import Window

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from os import PathLike

    from eccos_rs.pools.pool import Pool
    from eccos_rs.serve.request import RoutingRequest
    from eccos_rs.session import Session

__all__ = ["ClientKey", "Keys", "read_keys", "token_digest"]

_log = logging.getLogger("eccos_rs.serve")

_LEAST_TOKEN = 16
_HASH = re.compile(r"[0-9a-f]{64}")
_PERIODS = ("hour", "day", "month")
_TOKENS = ("token", "token_env", "token_sha256")
_MOST_PRIORITY = 2**31


def token_digest(token: str) -> bytes:
    """Return what a token is known by."""
    return hashlib.sha256(token.encode()).digest()


@dataclass(frozen=True)
class ClientKey:
    """One client's key.

    Attributes
    ----------
    name : str
        In metrics and messages; the token itself is in none.
    digest : bytes
        SHA-256 of the token.
    budget : float or None
        US dollars for each `per`.
    per : {"hour", "day", "month"}
    requests_per_minute, tokens_per_minute : int or None
    priority : tuple of (int, int)
        The range that its requests may ask for; one that asks for none gets the nearest to 0.
    models : tuple of str or None
        The pool's models that it may use.
    tenant : str or None
        The group that its requests count for.
    """

    name: str
    digest: bytes
    budget: float | None = None
    per: str = "day"
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    priority: tuple[int, int] = (-_MOST_PRIORITY, _MOST_PRIORITY)
    models: tuple[str, ...] | None = None
    tenant: str | None = None


_FIELDS = tuple(each.name for each in fields(ClientKey) if each.name != "digest")


def read_keys(
    path: str | PathLike[str], pool: Pool, environment: Mapping[str, str] | None = None
) -> tuple[ClientKey, ...]:
    """Read a keys file: TOML with ``schema_version = 1`` and a ``[[key]]`` table for each key.

    Parameters
    ----------
    path : path
    pool : Pool
        A key's models are its columns, or models that are there in several.
    environment : mapping, optional
        Where `token_env` is looked up.

    Raises
    ------
    InputError
        The file is malformed, or a name or a token is there twice; no token is repeated.
    """
    try:
        content = tomllib.loads(Path(path).read_bytes().decode("utf-8-sig"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"keys file {path}: {error}") from error
    where = f"keys file {path}"
    unknown = [name for name in content if name not in ("schema_version", "key")]
    if content.get("schema_version") != 1 or unknown:
        raise InputError(f"{where} must hold schema_version = 1 and [[key]] tables, got {sorted(content)}")
    tables = content.get("key", [])
    if not isinstance(tables, list) or not tables or not all(isinstance(table, dict) for table in tables):
        raise InputError(f"{where} must hold at least one [[key]] table")
    keys = tuple(
        _read_key(where, at, table, pool, environment or os.environ) for at, table in enumerate(tables)
    )
    for what, of in (("name", [key.name for key in keys]), ("token", [key.digest for key in keys])):
        for at, value in enumerate(of):
            if value in of[:at]:
                raise InputError(f"{where}: key {keys[at].name!r} has a {what} that another has")
    return keys


def _read_key(
    where: str, at: int, table: dict[str, Any], pool: Pool, environment: Mapping[str, str]
) -> ClientKey:
    name = table.get("name")
    if not isinstance(name, str) or not name.strip():
        raise InputError(f"{where}: key {at} needs a name")
    of = f"{where}: key {name!r}"
    for word in table:
        if word not in (*_FIELDS, *_TOKENS):
            raise InputError(f"{of} has an unknown member {word!r}{did_you_mean(word, (*_FIELDS, *_TOKENS))}")
    values = {word: table[word] for word in _FIELDS if word in table}
    values["digest"] = _digest(of, table, environment)
    if "budget" in values:
        check_number(f"{of}: budget", values["budget"], error=InputError)
    check_choice(f"{of}: per", values.get("per", "day"), _PERIODS, error=InputError)
    for word in ("requests_per_minute", "tokens_per_minute"):
        if word in values:
            check_whole(f"{of}: {word}", values[word], error=InputError, least=0)
    if "priority" in values:
        values["priority"] = _priorities(of, values["priority"])
    if "models" in values:
        values["models"] = _models(of, values["models"], pool)
    if not isinstance(values.get("tenant", ""), str):
        raise InputError(f"{of}: tenant must be a text")
    return ClientKey(**values)


def _digest(of: str, table: dict[str, Any], environment: Mapping[str, str]) -> bytes:
    given = [word for word in _TOKENS if word in table]
    if len(given) != 1 or not isinstance(table[given[0]], str):
        raise InputError(f"{of} must have exactly one of {', '.join(_TOKENS)}, a text")
    value = table[given[0]].strip()
    if given[0] == "token_sha256":
        if not _HASH.fullmatch(value.lower()):
            raise InputError(f"{of}: token_sha256 must be 64 hexadecimal digits")
        return bytes.fromhex(value)
    if given[0] == "token_env":
        value = environment.get(value, "").strip()
    if len(value) < _LEAST_TOKEN or not value.isascii():
        raise InputError(
            f"{of}: its token must be at least {_LEAST_TOKEN} ASCII characters, got {len(value)}"
        )
    return token_digest(value)


def _priorities(of: str, value: Any) -> tuple[int, int]:
    if not isinstance(value, list) or len(value) != 2:
        raise InputError(f"{of}: priority must be a list of the lowest and the highest")
    low, high = (
        check_whole(f"{of}: priority", each, error=InputError, least=-_MOST_PRIORITY, most=_MOST_PRIORITY)
        for each in value
    )
    if low > high:
        raise InputError(f"{of}: priority must rise, got {value}")
    return low, high


def _models(of: str, value: Any, pool: Pool) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(each, str) for each in value):
        raise InputError(f"{of}: models must be a list of names")
    try:
        return expand(pool, value)
    except PoolError as error:
        raise InputError(f"{of}: {error}") from None


class _Use:
    """What one key has used: the windows of a minute, and the spend of its period."""

    def __init__(self, key: ClientKey) -> None:
        self.requests: Window | None = None
        self.tokens: Window | None = None
        self.per = key.per
        self.period = (-math.inf, -math.inf)
        self.spent = self.before = self.reserved = self.total = 0.0
        self.follow(key)

    def follow(self, key: ClientKey) -> None:
        """Take the limits of a key that was read anew; what was used stays."""
        self.requests = _window(self.requests, key.requests_per_minute)
        self.tokens = _window(self.tokens, key.tokens_per_minute)
        if key.per != self.per:
            # A longer period holds what this one has spent; of a shorter one it is not known.
            if _PERIODS.index(key.per) > _PERIODS.index(self.per) and self.period[1] > 0:
                self.period = budget_period(key.per, self.period[0])
            else:
                self.period, self.spent, self.before = (-math.inf, -math.inf), 0.0, 0.0
            self.per = key.per


def _window(window: Window | None, limit: int | None) -> Window | None:
    if limit is None or window is None:
        return None if limit is None else Window(limit)
    window.limit = limit
    return window


class Keys:
    """The keys of a gateway and what they have used.

    Parameters
    ----------
    keys : tuple of ClientKey
    wall, clock : callable
        Seconds since 1970, and seconds that never run backwards.
    """

    def __init__(
        self,
        keys: tuple[ClientKey, ...],
        *,
        wall: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._wall = wall
        self._clock = clock
        self._id = uuid.uuid4().hex
        self._uses: dict[str, _Use] = {}
        self._keys: dict[str, ClientKey] = {}
        self._saved: dict[str, tuple[float, float]] = {}
        self.replace(keys)

    def replace(self, keys: tuple[ClientKey, ...]) -> None:
        """Take other keys; what was used under a name stays, though the name should go and come again."""
        for key in keys:
            if key.name in self._uses:
                self._uses[key.name].follow(key)
            else:
                self._uses[key.name] = _Use(key)
        self._keys = {key.name: key for key in keys}

    def names(self) -> dict[bytes, str]:
        """Return the names by the digests of their tokens."""
        return {key.digest: key.name for key in self._keys.values()}

    def restore(self, session: Session) -> None:
        """Read what earlier processes on the session's store have spent."""
        try:
            notes = session.notes()
        except StoreError as error:
            _log.error("nothing is known of what keys have spent: %s", error)
            return
        for name, value in notes.items():
            if name.startswith("keys/"):
                for key, (period, spent) in json.loads(value).items():
                    known = self._saved.get(key, (period, 0.0))
                    self._saved[key] = (
                        (period, known[1] + spent) if known[0] == period else max(known, (period, spent))
                    )

    def limit(self, name: str | None, wanted: RoutingRequest, columns: tuple[str, ...]) -> RoutingRequest:
        """Keep a request within what its key allows, and count it.

        Parameters
        ----------
        name : str or None
            Of the key.
        wanted : RoutingRequest
        columns : tuple of str
            The pool's: a key may name some that are there no more.

        Raises
        ------
        RequestError
            401: the key is no more; 403: none of the key's models; 400: a priority out of its range; 429: its
            budget or a rate is used up.
        """
        key = self._keys.get(name or "")
        if key is None:
            if name is not None:  # it was taken away while the request was read
                raise RequestError(401, "invalid_api_key", "a valid bearer token is needed")
            return wanted
        query = wanted.query
        low, high = key.priority
        if query.priority and not low <= query.priority <= high:
            raise RequestError(
                400, "invalid_header", f"x-eccos-priority must lie in [{low}, {high}] for this key"
            )
        models = query.models
        if key.models is not None:
            models = tuple(each for each in query.models or columns if each in key.models)
            if not models:
                raise RequestError(
                    403, "model_not_allowed", f"this key may use {', '.join(key.models)}", param="model"
                )
        self._admit(key)
        priority = query.priority or min(max(0, low), high)
        group = key.tenant if key.tenant is not None else query.group
        placed = replace(query, models=models, priority=priority, group=group)
        conversation = wanted.conversation if group is None else of_tenant(wanted.conversation, group)
        return replace(wanted, query=placed, conversation=conversation)

    def allowed_models(self, name: str | None) -> tuple[str, ...] | None:
        """Return the models that a key may use; None for all."""
        key = self._keys.get(name or "")
        return None if key is None else key.models

    def _admit(self, key: ClientKey) -> None:
        use, now = self._use(key.name), self._clock()
        spent = use.before + use.spent + use.reserved
        if key.budget is not None and spent >= key.budget:
            left = max(1, math.ceil(use.period[1] - self._wall()))
            raise RequestError(
                429, "insufficient_quota",
                f"this key has used up its budget of ${key.budget:g} for the {key.per}",
                headers={"Retry-After": str(left)},
            )  # fmt: skip
        for what, window in (("requests", use.requests), ("tokens", use.tokens)):
            if window is not None and window.free(now) < 1:
                wait = max(1, math.ceil(min(window.seconds_until(1, now), 60.0)))
                raise RequestError(
                    429, "rate_limit_exceeded", f"this key may use {window.limit} {what} per minute",
                    headers={"Retry-After": str(wait)},
                )  # fmt: skip
        if use.requests is not None:
            use.requests.add(1, now)

    def _use(self, name: str) -> _Use:
        use, now = self._uses[name], self._wall()
        if not use.period[0] <= now < use.period[1]:
            use.period, use.spent = budget_period(use.per, now), 0.0
            saved = self._saved.get(name, (math.nan, 0.0))
            use.before = saved[1] if saved[0] == use.period[0] else 0.0
        return use

    def reserve(self, name: str | None, cost: float) -> None:
        """Count what a call is expected to cost, until it is settled."""
        if name in self._uses:
            self._use(name).reserved += cost

    def settle(self, name: str | None, reserved: float, cost: float, tokens: int) -> None:
        """Count what a call has cost, US dollars and tokens."""
        if name not in self._uses:
            return
        use = self._use(name)
        use.reserved = max(use.reserved - reserved, 0.0)
        use.spent += cost
        use.total += cost
        if use.tokens is not None:
            use.tokens.add(tokens, self._clock())

    def save(self, session: Session) -> None:
        """Write what this process has spent of each key's period to the session's store, soon."""
        spent = {
            name: (use.period[0], use.spent + use.reserved) for name, use in self._uses.items() if use.total
        }
        if spent:
            session.note(f"keys/{self._id}", json.dumps(spent))

    def spend(self) -> dict[str, float]:
        """Return what each key has spent since the gateway began, in US dollars."""
        return {name: self._uses[name].total for name in self._keys}

    def left(self) -> dict[str, float]:
        """Return what is left of each key's budget; keys without one are left out."""
        found = {}
        for key in self._keys.values():
            if key.budget is not None:
                use = self._use(key.name)
                found[key.name] = max(key.budget - use.before - use.spent - use.reserved, 0.0)
        return found
