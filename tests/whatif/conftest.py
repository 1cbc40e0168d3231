"""The Redis server of the sessions' tests, for stores that are read."""

from __future__ import annotations

from tests.session.conftest import one_redis, redis_url  # noqa: F401 - fixtures
