"""A router crosses to another process, with what it has learned."""

from __future__ import annotations

import pickle
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

from eccos_rs import Policy, Pool, Query, Router
from eccos_rs.errors import BundleError
from eccos_rs.predict.open import open_predictor
from tests.helpers import tiny
from tests.helpers.paths import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from eccos_rs.predict.bundle import Bundle

pytest.importorskip("onnx")

QUERIES = [Query(text) for text in tiny.texts(9, seed=4)]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return tiny.make_bundle(tmp_path_factory.mktemp("bundles") / "tiny")


@pytest.mark.parametrize("kind", ["trained", "retrieval", "hybrid"])
def test_a_router_of_any_kind_routes_the_same_after(bundle: Bundle, kind: str) -> None:
    predictor = open_predictor(bundle, kind, device="cpu", threads=1, cache_size=7)
    router = Router(Pool.load(bundle.pool_path), predictor, Policy(min_quality=0.4))
    again = pickle.loads(pickle.dumps(router))
    assert again.policy == router.policy
    assert again.pool == router.pool
    wanted, got = router.route(QUERIES), again.route(QUERIES)
    np.testing.assert_array_equal(got.quality, wanted.quality)
    assert got.models == wanted.models


def test_what_was_learned_goes_along(bundle: Bundle) -> None:
    predictor = open_predictor(bundle, "retrieval", device="cpu")
    before = predictor.predict(QUERIES)
    for row in range(3):
        predictor.retrieval.add(before.embedding[row], 1, 1.0, 4.0)
    again = pickle.loads(pickle.dumps(predictor))
    assert len(again.retrieval) == len(predictor.retrieval) == 83
    wanted, got = predictor.predict(QUERIES), again.predict(QUERIES)
    assert not np.array_equal(wanted.quality, before.quality)
    np.testing.assert_array_equal(got.quality, wanted.quality)
    # And both go on learning.
    for each in (predictor, again):
        each.retrieval.add(before.embedding[5], 0, 0.0)
    np.testing.assert_array_equal(again.predict(QUERIES).quality, predictor.predict(QUERIES).quality)


def test_another_process_opens_it(bundle: Bundle, tmp_path: Path) -> None:
    router = Router(
        Pool.load(bundle.pool_path), open_predictor(bundle, device="cpu"), Policy(min_quality=0.4)
    )
    path = tmp_path / "router.pickle"
    path.write_bytes(pickle.dumps(router))
    code = f"import pickle; print(pickle.load(open({str(path)!r}, 'rb')).route(['what is 2']).status)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == router.route(["what is 2"]).status


def test_a_bundle_that_was_changed_meanwhile_is_refused(tmp_path: Path) -> None:
    made = tiny.make_bundle(tmp_path / "one")
    kept = pickle.dumps(open_predictor(made, "trained", device="cpu"))
    tiny.make_bundle(tmp_path / "two", seed=1)
    (tmp_path / "one").rename(tmp_path / "gone")
    (tmp_path / "two").rename(tmp_path / "one")
    with pytest.raises(BundleError, match="another bundle than the one that was pickled"):
        pickle.loads(kept)


def test_the_shipped_bundle_is_found_by_its_name() -> None:
    router = Router.load()
    assert b"qaserve-minilm" in pickle.dumps(router)
    assert str(ROOT).encode() not in pickle.dumps(router)
