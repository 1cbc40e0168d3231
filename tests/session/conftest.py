"""A Redis server for the tests of sessions that share."""

from __future__ import annotations

import pytest

from tests.helpers.redis import RedisServer, server_program


@pytest.fixture(scope="session")
def one_redis(tmp_path_factory):
    if server_program() is None:
        pytest.skip("redis-server is not installed (Debian: apt-get install redis-server)")
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server
    server.stop()


@pytest.fixture
def redis_url(one_redis, request):
    """The URL of a namespace that this test has for itself."""
    return f"{one_redis.url}?namespace=t{abs(hash(request.node.nodeid))}"


@pytest.fixture
def redis_server(tmp_path):
    """A server that a test may stop and start."""
    if server_program() is None:
        pytest.skip("redis-server is not installed (Debian: apt-get install redis-server)")
    folder = tmp_path / "redis"
    folder.mkdir()
    server = RedisServer(folder)
    yield server
    server.stop()
