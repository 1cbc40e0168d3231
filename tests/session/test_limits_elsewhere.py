"""Two stores that would multiply limits are noticed and said."""

from __future__ import annotations

import asyncio
import os
import tempfile

import pytest

from eccos_rs.routing.policy import Policy
from eccos_rs.session import Session
from tests.helpers.replicas import replica
from tests.helpers.sessions import make_pool, make_router

SLOTS = {"mid": {"slots": 2}, "large": {"requests_per_minute": 3}}

pytestmark = pytest.mark.skipif(os.name != "posix", reason="locks of files")


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    """Sessions of other programs on this machine are not seen."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))


def make(store, pool=SLOTS):
    return Session(make_router(make_pool(**pool), Policy(min_quality=0.6)), store=store)


@pytest.mark.parametrize("stores", [(None, None), ("a.sqlite", "b.sqlite"), (None, "a.sqlite")])
async def test_two_places_are_said(stores, tmp_path, caplog):
    one, two = (None if store is None else str(tmp_path / store) for store in stores)
    async with make(one):
        assert "counted twice" not in caplog.text
        async with make(two):
            assert "the limits of large, mid are counted twice on this host" in caplog.text
            assert f"process {os.getpid()} counts them in" in caplog.text


async def test_one_place_is_not(tmp_path, caplog):
    store = str(tmp_path / "a.sqlite")
    async with make(store), make(f"sqlite:///{store}"):
        pass
    async with make(None):
        pass
    async with make(None), make(None, {}), make(None, {"small": {"slots": 1}}):
        pass
    assert "counted twice" not in caplog.text


async def test_another_process_is_noticed_and_a_dead_one_is_not(tmp_path, caplog):
    process = replica(
        str(tmp_path / "there.sqlite"),
        """
        pool = make_pool(mid={"slots": 2}, large={"requests_per_minute": 3})
        session = Session(make_router(pool, Policy(min_quality=0.6)), store=STORE)
        print("ready", flush=True)
        await asyncio.sleep(100)
        """,
    )
    assert await asyncio.to_thread(process.stdout.readline) == "ready\n"
    async with make(None):
        assert f"process {process.pid} counts them in {tmp_path / 'there.sqlite'}-limits" in caplog.text
    process.kill()
    process.communicate()
    caplog.clear()
    async with make(None):
        assert "counted twice" not in caplog.text
    folder = tmp_path / f"eccos-limits-{os.getuid()}"
    assert list(folder.iterdir()) == []  # what the dead one left is gone too


async def test_a_folder_of_somebody_else_is_left_alone(tmp_path, caplog):
    (tmp_path / f"eccos-limits-{os.getuid()}").symlink_to(tmp_path / "nowhere")
    async with make(None), make(None):
        pass
    assert "counted twice" not in caplog.text
