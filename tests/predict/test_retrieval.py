"""Search against brute force, the choice between the two ways, and learning online."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from eccos_rs.errors import BundleError, InputError
from eccos_rs.predict import index as module
from eccos_rs.predict.index import ExactIndex, HnswIndex, open_index, read_vectors
from eccos_rs.predict.neighbours import NeighbourSettings, estimate_from_neighbours
from eccos_rs.predict.retrieval import Retrieval

if TYPE_CHECKING:
    from pathlib import Path

M = 3


def unit(count: int, dimension: int = 24, seed: int = 0) -> Any:
    """Return clustered unit vectors, as sentence embeddings are."""
    rng = np.random.default_rng(seed)
    centre = rng.normal(size=(20, dimension))
    vectors = centre[rng.integers(0, 20, count)] + 0.8 * rng.normal(size=(count, dimension))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def saved(folder: Path, vectors: Any) -> Path:
    hnswlib = pytest.importorskip("hnswlib")
    index = hnswlib.Index(space="ip", dim=vectors.shape[1])
    index.init_index(len(vectors), M=16, ef_construction=200)
    index.add_items(vectors, np.arange(len(vectors)), num_threads=1)
    index.save_index(str(folder / "index.bin"))
    return folder / "index.bin"


def labels(rows: int, seed: int = 0) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    success = (rng.random((rows, M)) < 0.6).astype(np.float32)
    length = rng.normal(5, 1, size=(rows, M)).astype(np.float32)
    success[rng.random((rows, M)) < 0.2] = np.nan
    return success, length


def priors() -> dict[str, Any]:
    return {
        "prior_success": np.full(M, 0.6, "f"),
        "prior_length_mean": np.full(M, 5.0, "f"),
        "prior_length_std": np.ones(M, "f"),
    }


def opened(vectors: Any, spare: int = 0, index: Any = None, neighbours: int = 16) -> Retrieval:
    return Retrieval(
        index or ExactIndex(vectors),
        *labels(len(vectors)),
        NeighbourSettings(neighbours=neighbours),
        priors(),
        spare=spare,
    )


@pytest.mark.parametrize("queries", [0, 1, 3, 8, 40])
@pytest.mark.parametrize("rows", [16, 100, 700])
def test_exact_search_is_brute_force(rows: int, queries: int) -> None:
    known, asked = unit(rows), unit(queries, seed=1)
    similarity, index = ExactIndex(known).search(asked, 16)
    wanted = -np.sort(-(asked @ known.T), axis=1)[:, :16]
    np.testing.assert_allclose(similarity, wanted, atol=5e-4)  # half precision
    np.testing.assert_allclose(np.take_along_axis(asked @ known.T, index, 1), similarity, atol=5e-4)
    assert all(len(set(row)) == 16 for row in index.tolist())


def test_exact_search_takes_any_layout_and_gives_its_vectors_back() -> None:
    known, asked = unit(64), unit(5, seed=1)
    index = ExactIndex(known[:, ::-1][:, ::-1].astype(np.float64))
    np.testing.assert_array_equal(index.search(asked[::-1], 3)[1], index.search(asked, 3)[1][::-1])
    np.testing.assert_array_equal(index.vectors(), known.astype(np.float16).astype(np.float32))


def test_a_bundles_vectors_are_read_without_hnswlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Out of a graph, and out of an array."""
    known = unit(300)
    path = saved(tmp_path, known)
    np.save(tmp_path / "vectors.npy", known.astype(np.float16))
    monkeypatch.setitem(sys.modules, "hnswlib", None)
    np.testing.assert_array_equal(read_vectors(path, 24, 300), known)
    np.testing.assert_allclose(read_vectors(tmp_path / "vectors.npy", 24, 300), known, atol=1e-3)
    for each in (path, tmp_path / "vectors.npy"):
        with pytest.raises(BundleError, match="the index has 300 vectors, the labels have 299 rows"):
            read_vectors(each, 24, 299)
        with pytest.raises(BundleError, match=r"over vectors of 23 numbers|wanted floating-point"):
            read_vectors(each, 23, 300)


@pytest.mark.parametrize("content", [b"", b"\0" * 50, b"\0" * 200, b"\xff" * 4000, b"PK\x03\x04" * 100])
@pytest.mark.parametrize("name", ["index.bin", "vectors.npy"])
def test_a_broken_file_of_vectors_is_a_bundle_error(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BundleError, match=name):
        read_vectors(tmp_path / name, 24, 10)


def test_a_truncated_graph_is_a_bundle_error(tmp_path: Path) -> None:
    path = saved(tmp_path, unit(50))
    path.write_bytes(path.read_bytes()[: 96 + 50 * 200])
    with pytest.raises(BundleError, match="not an index of hnswlib"):
        read_vectors(path, 24, 50)


def test_the_way_follows_size_and_what_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    known, asked = unit(300), unit(9, seed=1)
    path = saved(tmp_path, known)
    assert isinstance(open_index(path, 24, 300), ExactIndex)
    monkeypatch.setattr(module, "EXACT_ROWS", 200)
    graph = open_index(path, 24, 300)
    assert isinstance(graph, HnswIndex)
    assert not caplog.records

    monkeypatch.setattr(module, "WANTS_HNSW", 250)
    monkeypatch.setattr(module, "has_hnswlib", lambda: False)
    without = open_index(path, 24, 300)
    assert isinstance(without, ExactIndex)
    (record,) = caplog.records
    assert "hnswlib is not installed, so all 300 vectors are compared" in record.getMessage()
    assert "pip install 'eccos-rs[hnsw]'" in record.getMessage()
    np.testing.assert_allclose(without.search(asked, 4)[0], graph.search(asked, 4)[0], atol=5e-4)


def test_hnsw_recall_at_16(tmp_path: Path) -> None:
    known, asked = unit(4000), unit(200, seed=1)
    similarity, found = HnswIndex(saved(tmp_path, known), 24, 4000).search(asked, 16)
    _, wanted = ExactIndex(known).search(asked, 16)
    recall = np.mean([len(set(a) & set(b)) / 16 for a, b in zip(found, wanted, strict=True)])
    assert recall >= 0.98
    np.testing.assert_allclose(similarity, np.take_along_axis(asked @ known.T, found, 1), atol=1e-5)
    assert (np.diff(similarity, axis=1) <= 1e-6).all()


def test_hnsw_gives_its_vectors_back(tmp_path: Path) -> None:
    known = unit(50)
    np.testing.assert_array_equal(HnswIndex(saved(tmp_path, known), 24, 50).vectors(), known)


def test_hnsw_with_more_neighbours_than_ef(tmp_path: Path) -> None:
    known = unit(300)
    index = HnswIndex(saved(tmp_path, known), 24, 300, ef=10)
    assert index.search(unit(5, seed=1), 200)[1].shape == (5, 200)


def test_a_graph_in_pieces_is_searched_all_the_same(tmp_path: Path) -> None:
    """From one piece of it hnswlib finds too few and says so; every vector is compared then."""
    hnswlib = pytest.importorskip("hnswlib")
    rng = np.random.default_rng(0)
    known = rng.normal(size=(400, 8)).astype(np.float32)
    rng.normal(size=(400, 8))
    known[:200] = known[0]
    known /= np.linalg.norm(known, axis=1, keepdims=True)
    raw = hnswlib.Index(space="ip", dim=8)
    raw.init_index(400, M=2, ef_construction=2)
    raw.add_items(known, np.arange(400), num_threads=1)
    raw.set_ef(150)
    for k in range(20, 400, 20):
        try:
            raw.knn_query(known, k)
        except RuntimeError:
            break
    else:
        pytest.fail("this graph is whole; the test needs another")
    raw.save_index(str(tmp_path / "index.bin"))
    similarity, found = HnswIndex(tmp_path / "index.bin", 8, 400).search(known, k)
    wanted = ExactIndex(known).search(known, k)[0]
    assert found.shape == (400, k)
    np.testing.assert_allclose(similarity, wanted, atol=1e-5)


def test_a_broken_index_is_a_bundle_error(tmp_path: Path) -> None:
    pytest.importorskip("hnswlib")
    path = tmp_path / "index.bin"
    path.write_bytes(b"\0" * 200)
    with pytest.raises(BundleError, match="hnswlib cannot read"):
        HnswIndex(path, 24, 10)
    with pytest.raises(BundleError, match="the index has 50 vectors, the labels have 49 rows"):
        HnswIndex(saved(tmp_path, unit(50)), 24, 49)


@pytest.mark.parametrize("queries", [1, 60])
def test_estimate_is_the_function_on_all_labels(queries: int) -> None:
    """The packed labels give what the readable function gives."""
    known, asked = unit(200), unit(queries, seed=1)
    store = opened(known)
    similarity, index = ExactIndex(known).search(asked, 16)
    wanted = estimate_from_neighbours(
        similarity, *labels(200), index, NeighbourSettings(neighbours=16), **priors()
    )
    got = store.estimate(asked)
    for name in ("success", "length_mean", "length_std", "similarity"):
        np.testing.assert_allclose(getattr(got, name), getattr(wanted, name), atol=2e-5)


@pytest.mark.parametrize("graph", [False, True])
def test_an_outcome_that_is_added_moves_the_estimate(tmp_path: Path, graph: bool) -> None:
    known, asked = unit(400), unit(1, seed=9)
    made = {}
    for quality, tokens in ((0.0, 10), (1.0, 1000)):
        index = HnswIndex(saved(tmp_path, known), 24, 400, spare=8) if graph else None
        store = opened(known, spare=8, index=index)
        assert store.estimate(asked).similarity[0] < 0.99
        for _ in range(3):  # the same query again is one row, not three
            store.add(asked[0], 1, quality, float(np.log1p(tokens)))
        assert len(store) == 401
        made[quality] = store.estimate(asked)
        assert made[quality].similarity[0] == pytest.approx(1, abs=5e-4)
    assert made[1.0].success[0, 1] > made[0.0].success[0, 1] + 0.05
    assert made[1.0].length_mean[0, 1] > made[0.0].length_mean[0, 1] + 0.2
    # The other models learn nothing from it but how near it was.
    np.testing.assert_allclose(made[1.0].success[0, [0, 2]], made[0.0].success[0, [0, 2]], atol=1e-6)


@pytest.mark.parametrize("graph", [False, True])
def test_added_rows_are_bounded_and_the_oldest_goes(tmp_path: Path, graph: bool) -> None:
    known, extra = unit(300), unit(12, seed=5)
    index = HnswIndex(saved(tmp_path, known), 24, 300, spare=4) if graph else None
    store = opened(known, spare=4, index=index)
    for vector in extra:
        store.add(vector, 0, 1.0)
    assert len(store) == 304
    found = store.estimate(extra).similarity
    np.testing.assert_allclose(found[-4:], 1, atol=5e-4)
    assert (found[:8] < 0.9999).all()


def test_threads_may_add_and_search_together() -> None:
    store = opened(unit(300), spare=64)
    extra, failures = unit(400, seed=7), []

    def work(part: Any) -> None:
        try:
            for vector in part:
                store.add(vector, 2, 0.5)
                assert np.isfinite(store.estimate(vector[None]).success).all()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(extra[start::4],)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert len(store) == 364


def test_the_search_on_a_device_gives_the_same(tmp_path: Path) -> None:
    """The graph that a GPU runs, here on the CPU provider, after a change too."""
    pytest.importorskip("onnx")
    from eccos_rs.predict.gpu_search import DeviceSearch
    from eccos_rs.train.emit_search import build_search_graph

    path = tmp_path / "neighbours.onnx"
    path.write_bytes(build_search_graph().SerializeToString())
    known, asked, settings = unit(300), unit(9, seed=1), NeighbourSettings(neighbours=16)
    device = DeviceSearch(path, ["CPUExecutionProvider"], settings, "cpu")
    there = Retrieval(ExactIndex(known), *labels(300), settings, priors(), spare=4, on_device=device)
    here = opened(known, spare=4)
    for _ in range(2):
        got, wanted = there.estimate(asked), here.estimate(asked)
        for name in ("success", "length_mean", "length_std", "similarity"):
            np.testing.assert_allclose(getattr(got, name), getattr(wanted, name), atol=2e-5)
        for store in (there, here):
            store.add(asked[0], 1, 1.0, 3.0)
    assert there.estimate(asked).similarity[0] == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.full(24, np.nan), 0, 1.0), "embedding: got shape"),
        ((np.zeros((2, 24)), 0, 1.0), "embedding: got shape"),
        ((np.zeros(24), 3, 1.0), "model: got column 3, wanted 0 to 2"),
        ((np.zeros(24), 0, 1.5), "quality: got 1.5"),
        ((np.zeros(24), 0, 1.0, -1.0), "log_tokens: got -1.0"),
    ],
)
def test_a_malformed_outcome_is_refused(arguments: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        opened(unit(20), spare=2).add(*arguments)


def test_a_retrieval_without_room_says_so() -> None:
    with pytest.raises(InputError, match="without spare rows"):
        opened(unit(20)).add(np.zeros(24), 0, 1.0)


def test_fewer_rows_than_neighbours() -> None:
    made = opened(unit(5), neighbours=16).estimate(unit(2, seed=1))
    assert made.success.shape == (2, M)
    assert np.isfinite(made.success).all()
