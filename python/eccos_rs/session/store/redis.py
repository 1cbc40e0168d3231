"""Leases, feedback, spend and prices in Redis or Valkey.

Leases are hashes that expire; one thread writes what has come in since its last write in one round trip.
Feedback is durable as far as the server's append-only file is: `appendonly yes` is needed, and
`appendfsync always` where a power cut must lose nothing.
"""

from __future__ import annotations

import base64
import logging
import threading
import uuid
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from eccos_rs.errors import InputError, StoreError
from eccos_rs.session.redis_client import RedisClient
from eccos_rs.session.store.base import (
    Judged,
    LeaseRow,
    Served,
    pack_embedding,
    unknown_lease,
    unpack_embedding,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from eccos_rs.session.redis_client import RedisAddress

__all__ = ["RedisStore"]

T = TypeVar("T")

logger = logging.getLogger("eccos_rs.session")

_KEEP = 90 * 86400
"""Seconds after which leases and their feedback are forgotten."""

_MOST_PENDING = 100_000
"""Commands that wait for a server that does not take them; beyond, the oldest are given up."""

_BATCH = 2_000

_NUMBERS = ("at", "predicted", "expected", "output_tokens", "cost")


class RedisStore:
    """A store in a server.

    Parameters
    ----------
    address : RedisAddress

    Raises
    ------
    StoreError
        The server cannot be reached now. (One that is lost later only refuses feedback.)
    """

    durable = True

    def __init__(self, address: RedisAddress) -> None:
        self.url = address.shown
        self.writer = uuid.uuid4().hex
        self.errors = 0
        self.dropped = 0
        self.fault: str | None = None
        self._address = address
        self._client = RedisClient(address)
        self._client.command("PING")
        self._refusal = self._why_not_durable()
        self._pending: deque[tuple[Any, ...]] = deque()
        self._flushing = False
        self._lock = threading.Lock()  # over `_flushing` and the counters
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="eccos-store")
        self._closed = False

    def _why_not_durable(self) -> str | None:
        """Return why feedback would not survive the server; None when it would, or nobody may ask."""
        if not self._address.durable:
            return None
        try:
            found = self._client.command("CONFIG", "GET", "appendonly")
        except StoreError:
            return None  # a managed server that does not say
        pairs = dict(found) if isinstance(found, dict) else dict(zip(found[::2], found[1::2], strict=True))
        if b"no" not in pairs.values() and "no" not in pairs.values():
            return None
        logger.warning(
            "the store %s has no append-only file: feedback is refused. Set `appendonly yes` in the server, "
            "or accept that its end loses feedback with ?durable=no",
            self.url,
        )
        return f"the server {self.url} has no append-only file (appendonly no)"

    # Writing, soon.

    def lease(self, row: LeaseRow) -> None:
        """Write a decision, soon."""
        key = self._lease_key(row.id)
        fields: list[Any] = ["model", row.model]
        for name in _NUMBERS:
            fields += [name, repr(float(getattr(row, name)))]
        packed = pack_embedding(row.embedding)
        if packed is not None:
            fields += ["embedding", base64.b64encode(packed)]
        self._later(("HSET", key, *fields), ("EXPIRE", key, _KEEP))

    def settle(self, lease: str, tokens: float | None, cost: float, failed: bool) -> None:
        """Write what a lease really took, soon."""
        fields: list[Any] = ["real_cost", repr(float(cost)), "failed", int(failed)]
        if tokens is not None:
            fields += ["real_tokens", repr(float(tokens))]
        self._later(("HSET", self._lease_key(lease), *fields), ("EXPIRE", self._lease_key(lease), _KEEP))

    def spend(self, period: float, usd: float, state: dict[str, str]) -> None:
        """Write this session's total spend of a period and its state, soon."""
        key = self._spend_key(period)
        commands: list[tuple[Any, ...]] = [("HSET", key, self.writer, repr(usd)), ("EXPIRE", key, _KEEP)]
        for name, value in state.items():
            commands.append(("HSET", self._address.key("state"), name, value))
        self._later(*commands)

    def _later(self, *commands: tuple[Any, ...]) -> None:
        self._pending.extend(commands)
        with self._lock:
            if self._flushing or self._closed:
                return
            self._flushing = True
        self._executor.submit(self._write_soon)

    def _write_soon(self) -> None:
        with self._lock:
            self._flushing = False
        with suppress(StoreError):  # which is counted; what is pending is tried again with the next one
            self._write()

    def _write(self) -> None:
        """Write what is pending; on the writer's thread."""
        while self._pending:
            batch = [self._pending.popleft() for _ in range(min(len(self._pending), _BATCH))]
            try:
                self._client.pipeline(batch)
            except StoreError as error:
                self._pending.extendleft(reversed(batch))
                while len(self._pending) > _MOST_PENDING:
                    self._pending.popleft()
                    self.dropped += 1
                self._fail(str(error))
                raise
        self._works()

    # Asking.

    def feedback(self, lease: str, quality: float) -> Future[Judged]:
        """Write a judgement; the future is done when the server has it."""
        if self._closed:
            return _failed(StoreError(f"feedback on {lease!r}: the store {self.url} is closed"))
        if self._refusal is not None:
            return _failed(StoreError(f"feedback on {lease!r} is refused: {self._refusal}"))
        return self._ask(lambda: self._judge(lease, quality))

    def _judge(self, lease: str, quality: float) -> Judged:
        keys = [self._lease_key(lease), self._address.key("judged")]
        found = self._client.function("eccos_judge_1", keys, [repr(float(quality)), _KEEP, lease])
        if not found:
            raise InputError(unknown_lease(lease, "in this store"))
        record = _record(found)
        if "model" not in record:
            raise InputError(unknown_lease(lease, "in this store"))
        previous = record.get("quality")
        return _judged(lease, record, quality, None if previous is None else float(previous))

    def judged(self) -> list[Judged]:
        """Read all feedback, the oldest first; waits for the server."""
        return self._ask(self._all_judged).result()

    def _all_judged(self) -> list[Judged]:
        ids = [each.decode() for each in self._client.command("ZRANGE", self._address.key("judged"), 0, -1)]
        found: list[Judged] = []
        gone: list[str] = []
        for at in range(0, len(ids), _BATCH):
            some = ids[at : at + _BATCH]
            for lease, fields in zip(
                some,
                self._client.pipeline([("HGETALL", self._lease_key(each)) for each in some]),
                strict=True,
            ):
                record = _record(fields)
                if "quality" in record and "model" in record:
                    found.append(_judged(lease, record, float(record["quality"]), None))
                else:
                    gone.append(lease)  # expired
        if gone:
            self._client.command("ZREM", self._address.key("judged"), *gone)
        return found

    def served(self) -> list[Served]:
        """Read all decisions with what became of them, the oldest first; waits for the server."""
        return self._ask(self._all_served).result()

    def _all_served(self) -> list[Served]:
        # A key may be met twice while the server grows its table.
        found: dict[bytes, Served] = {}
        cursor: Any = 0
        while True:
            cursor, keys = self._client.command(
                "SCAN", cursor, "MATCH", self._lease_key("*"), "COUNT", _BATCH
            )
            read = self._client.pipeline([("HGETALL", key) for key in keys]) if keys else []
            for key, fields in zip(keys, read, strict=True):
                record = _record(fields)
                if "model" in record:  # else it expired meanwhile
                    found[bytes(key)] = _served(record)
            if int(cursor) == 0:
                return sorted(found.values(), key=lambda each: each.at)

    def spent_elsewhere(self, period: float) -> Future[float]:
        """Ask what all other sessions have spent in a period, in US dollars."""
        return self._ask(lambda: self._spent(period))

    def _spent(self, period: float) -> float:
        record = _record(self._client.command("HGETALL", self._spend_key(period)))
        return sum(float(usd) for writer, usd in record.items() if writer != self.writer)

    def state(self) -> dict[str, str]:
        """Read the state that a restart goes on with; waits for the server."""
        return self._ask(
            lambda: _record(self._client.command("HGETALL", self._address.key("state")))
        ).result()

    def flush(self) -> None:
        """Wait until everything said so far is in the server; raises `StoreError` when it cannot be."""
        self._ask(lambda: None).result()

    def close(self) -> None:
        """Write what is pending and end; waits for the server."""
        if self._closed:
            return
        self._executor.submit(self._write_soon)
        self._closed = True
        self._executor.shutdown(wait=True)
        self._client.close()

    def _ask(self, work: Callable[[], T]) -> Future[T]:
        """Do something on the writer's thread, after what was written before."""

        def done() -> T:
            try:
                self._write()
                answer = work()
            except StoreError as error:
                self._fail(str(error))
                raise StoreError(f"the store {self.url} did not take it: {error}") from error
            self._works()
            return answer

        return self._executor.submit(done)

    def _fail(self, reason: str) -> None:
        with self._lock:
            self.errors += 1
            first, self.fault = self.fault is None, reason
        if first:
            logger.error(
                "the store %s cannot be written (%s): feedback is refused until it can", self.url, reason
            )

    def _works(self) -> None:
        with self._lock:
            again, self.fault = self.fault is not None, None
        if again:
            logger.warning("the store %s takes feedback again", self.url)

    def _lease_key(self, lease: str) -> str:
        return self._address.key(f"lease:{lease}")

    def _spend_key(self, period: float) -> str:
        return self._address.key(f"spent:{period:.0f}")


def _failed(error: Exception) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_exception(error)
    return future


def _record(found: Any) -> dict[str, str]:
    pairs = found.items() if isinstance(found, dict) else zip(found[::2], found[1::2], strict=True)
    return {name.decode(): value.decode() for name, value in pairs}


def _served(record: Mapping[str, str]) -> Served:
    at, expected, cost = (float(record[name]) for name in ("at", "expected", "cost"))
    real, quality = (None if name not in record else float(record[name]) for name in ("real_cost", "quality"))
    return Served(record["model"], at, expected, cost, real, quality)


def _judged(lease: str, record: Mapping[str, str], quality: float, previous: float | None) -> Judged:
    at, predicted, expected, output_tokens, cost = (float(record[name]) for name in _NUMBERS)
    packed = record.get("embedding")
    row = LeaseRow(
        lease,
        record["model"],
        at,
        predicted,
        expected,
        output_tokens,
        cost,
        None if packed is None else unpack_embedding(base64.b64decode(packed)),
    )
    tokens = record.get("real_tokens")
    return Judged(row, quality, None if tokens is None else float(tokens), previous is None, previous)
