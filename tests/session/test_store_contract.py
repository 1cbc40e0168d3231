"""What every store keeps to: one suite over all of them."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest

from eccos_rs.errors import InputError, StoreError
from eccos_rs.session.store import LeaseRow, Served, open_store

VECTOR = np.array([0.6, -0.8], dtype=np.float32)
DURABLE = ["path", "sqlite", "redis"]
KINDS = ["memory", *DURABLE]
TODAY = time.time() // 86400 * 86400


def a_lease(name, **fields):
    values = {
        "id": name, "model": "mid", "at": time.time(), "predicted": 0.5, "expected": 0.6,
        "output_tokens": 100.0, "cost": 0.001, "embedding": None,
    }  # fmt: skip
    return LeaseRow(**(values | fields))


@pytest.fixture
def urls(tmp_path, request):
    kind = request.node.callspec.params.get("kind") if hasattr(request.node, "callspec") else None
    return {
        "redis": request.getfixturevalue("redis_url") if kind == "redis" else "",
        "memory": "memory://",
        "path": str(tmp_path / "plain.sqlite"),
        "sqlite": f"sqlite:///{tmp_path / 'named.sqlite'}",
    }


@pytest.fixture
def opened(urls):
    """Return a function that opens a store of a kind; what it opened is closed at the end."""
    made = []

    def open_one(kind):
        made.append(open_store(urls[kind]))
        return made[-1]

    yield open_one
    for store in made:
        store.close()


@pytest.mark.parametrize("kind", KINDS)
def test_feedback_comes_back_with_its_lease(opened, kind):
    store = opened(kind)
    store.lease(a_lease("a", embedding=VECTOR))
    store.settle("a", 42.0, 0.5, False)
    first = store.feedback("a", 1.0).result(5)
    assert (first.first, first.previous, first.real_tokens, first.quality) == (True, None, 42.0, 1.0)
    assert first.lease[:7] == a_lease("a", at=first.lease.at)[:7]
    np.testing.assert_allclose(first.lease.embedding, VECTOR, atol=1e-3)
    again = store.feedback("a", 0.25).result(5)
    assert (again.first, again.previous, again.quality) == (False, 1.0, 0.25)


@pytest.mark.parametrize("kind", KINDS)
def test_judged_is_in_the_order_of_the_judgements(opened, kind):
    store = opened(kind)
    for name in "abcd":
        store.lease(a_lease(name))
    for name, quality in (("c", 1.0), ("a", 0.5), ("d", 0.0), ("c", 0.75)):
        store.feedback(name, quality).result(5)
        time.sleep(0.002)
    assert [(each.lease.id, each.quality) for each in store.judged()] == [("a", 0.5), ("d", 0.0), ("c", 0.75)]


@pytest.mark.parametrize("kind", KINDS)
def test_all_decisions_come_back_with_what_became_of_them(opened, kind):
    store = opened(kind)
    for name, at in (("b", TODAY + 2), ("a", TODAY + 1), ("c", TODAY + 3)):
        store.lease(a_lease(name, at=at, model=f"model {name}"))
    store.settle("a", 42.0, 0.5, False)
    store.settle("c", 0.0, 0.0, True)
    store.feedback("b", 0.75).result(5)
    assert store.served() == [
        Served("model a", TODAY + 1, 0.6, 0.001, 0.5, None),
        Served("model b", TODAY + 2, 0.6, 0.001, None, 0.75),
        Served("model c", TODAY + 3, 0.6, 0.001, 0.0, None),
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_a_lease_that_nobody_knows_is_named(opened, kind):
    store = opened(kind)
    store.lease(a_lease("a"))
    with pytest.raises(InputError, match="no lease 'b'"):
        store.feedback("b", 1.0).result(5)
    assert store.feedback("a", 1.0).result(5).first
    assert store.errors == 0
    assert store.fault is None


@pytest.mark.parametrize("kind", KINDS)
def test_a_closed_store_refuses_feedback(opened, kind):
    store = opened(kind)
    store.lease(a_lease("a"))
    store.close()
    with pytest.raises(StoreError, match="closed"):
        store.feedback("a", 1.0).result(5)


@pytest.mark.parametrize("kind", KINDS)
def test_state_is_read_as_written(opened, kind):
    store = opened(kind)
    store.spend(TODAY, 1.5, {"price": "x", "other": "1"})
    store.spend(TODAY, 2.5, {"price": "y"})
    store.flush()
    found = store.state()
    assert (found["price"], found["other"]) == ("y", "1")
    assert store.spent_elsewhere(TODAY).result(5) == 0.0


@pytest.mark.parametrize("kind", DURABLE)
def test_what_was_written_outlives_the_store(opened, kind):
    store = opened(kind)
    store.lease(a_lease("a", embedding=VECTOR))
    store.feedback("a", 0.5).result(5)
    store.spend(TODAY, 1.5, {"price": "x"})
    store.close()
    again = opened(kind)
    assert [each.lease.id for each in again.judged()] == ["a"]
    assert again.state()["price"] == "x"
    # What an earlier session has spent was spent elsewhere, for the one that begins now.
    assert again.spent_elsewhere(TODAY).result(5) == 1.5
    assert again.spent_elsewhere(0.0).result(5) == 0.0


@pytest.mark.parametrize("kind", DURABLE)
def test_two_stores_of_one_url_see_each_others_leases_and_spend(opened, kind):
    one, two = opened(kind), opened(kind)
    one.lease(a_lease("a"))
    one.flush()
    assert two.feedback("a", 1.0).result(5).first
    assert [each.lease.id for each in one.judged()] == ["a"]
    for at, store in enumerate((one, two), start=1):
        store.spend(TODAY, float(at), {})
        store.flush()
    assert one.spent_elsewhere(TODAY).result(5) == 2.0
    assert two.spent_elsewhere(TODAY).result(5) == 1.0


@pytest.mark.parametrize("kind", KINDS)
def test_a_stranger_to_the_model_list_is_kept_too(opened, kind):
    store = opened(kind)
    store.lease(a_lease("ünï ☃", model="gone"))
    assert store.feedback("ünï ☃", 1.0).result(5).lease.model == "gone"


@pytest.mark.parametrize("url", ["postgres://x/y", "sqlite://host/x", "sqlite://", "http://a"])
def test_a_url_of_another_kind_is_refused(url):
    with pytest.raises(InputError, match="store: got"):
        open_store(url)


def test_memory_remembers_the_last_leases(opened):
    from eccos_rs.session.store import MemoryStore

    store = MemoryStore(remembered=3)
    for name in itertools.islice("abcdef", 5):
        store.lease(a_lease(name))
    with pytest.raises(InputError, match="last 3"):
        store.feedback("b", 1.0).result(5)
    assert store.feedback("c", 1.0).result(5).first
