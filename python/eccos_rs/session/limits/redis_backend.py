"""Shared limits in Redis 7 or Valkey: one function call per micro-batch."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any

from eccos_rs.session.limits.exchange import LimiterReply, ModelUse
from eccos_rs.session.limits.window import MINUTE
from eccos_rs.session.redis_client import RedisClient

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eccos_rs.session.limits.exchange import Message, ModelLimit
    from eccos_rs.session.redis_client import RedisAddress

__all__ = ["RedisBackend"]

_LEASE_TIME = 3_000
"""Milliseconds without a sign of life after which a session's slots are released."""

_GRACE = 2_000
"""Milliseconds without grants after the state was lost: every session that is alive registers within them."""

_KEYS = ("meta", "replicas", "published", "leases", "load", "windows", "reserved", "lost")


class RedisBackend:
    """Counts limits in a server that sessions on any number of hosts share.

    Parameters
    ----------
    address : RedisAddress
    limits : sequence of ModelLimit
    span : float
        Seconds of the sliding windows.
    """

    def __init__(self, address: RedisAddress, limits: Sequence[ModelLimit], *, span: float = MINUTE) -> None:
        self.url = address.shown
        self._client = RedisClient(address)
        self._keys = [address.key(name) for name in _KEYS]
        self._spend = address.key("spend:")
        self._fixed = {
            "limits": [
                [limit.name, *(-1 if each is None else each for each in limit[1:])] for limit in limits
            ],
            "span": span * 1000.0,
            "ttl": _LEASE_TIME,
            "grace": _GRACE,
        }

    def run_name(self) -> str:
        """Return the name of the server's run."""
        return self._client.run_id()

    def exchange(self, message: Message) -> LimiterReply:
        """Do what a message says in one call; StoreError: the server cannot be reached."""
        said: dict[str, Any] = {
            **self._fixed,
            "replica": message.replica,
            "claims": message.claims,
            "settled": message.settled,
            "cancelled": message.cancelled,
            "fresh": uuid.uuid4().hex,
        }
        if message.epoch is not None:
            said["epoch"] = message.epoch
        if message.leaving:
            said["leaving"] = True
        if message.held is not None:
            said |= {
                "held": message.held,
                "used": message.used,
                "unseen": message.unseen,
                "restarted": message.restarted,
            }
        period = ""
        if message.publication is not None:
            said["publication"] = message.publication._asdict()
            period = message.publication.period
        answer = self._client.function(
            "eccos_exchange_1", [*self._keys, self._spend + period], [json.dumps(said, separators=(",", ":"))]
        )
        return _reply(json.loads(answer))

    def close(self) -> None:
        """End the connection."""
        self._client.close()


def _reply(found: dict[str, Any]) -> LimiterReply:
    if not found["known"]:
        return LimiterReply(found["epoch"], False)
    others = found.get("others")
    return LimiterReply(
        epoch=found["epoch"],
        known=True,
        granted=list(found.get("granted") or ()),
        uses=[ModelUse(*map(int, use)) for use in found.get("uses") or ()],
        replicas=int(found.get("replicas", 1)),
        others=None if others is None else list(others),
        spent=float(found.get("spent", 0.0)),
        differing=found.get("differing", ""),
    )
