"""From text to forecast with a whole bundle: any text, any batch, any thread count, the same numbers."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from eccos_rs.domain.query import Query
from eccos_rs.errors import BundleError, InputError
from eccos_rs.predict import device as devices
from eccos_rs.predict import trained
from eccos_rs.predict.bundle import Bundle
from eccos_rs.predict.encoder import open_encoder
from eccos_rs.predict.graph import graph_file
from eccos_rs.predict.open import open_predictor
from eccos_rs.predict.protocol import Prediction, Predictor
from tests.helpers import tiny

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("onnx")

KINDS = ("trained", "retrieval", "hybrid")
ODD = [
    "",
    " ",
    "\x00 null \x00",
    "lone \ud800 surrogate \udfff",
    "\u202eright to left\u202c \u05e9\u05dc\u05d5\u05dd",
    "😀 👩‍👩‍👧 prime number",
    "漢字 kanji",
    "x" * 1_000_000,
    "what is the sum of " * 60_000,
]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return tiny.make_bundle(tmp_path_factory.mktemp("bundles") / "tiny")


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Has more labelled queries than are compared one by one, so it is searched by graph."""
    return tiny.make_bundle(tmp_path_factory.mktemp("bundles") / "large", rows=1200)


def queries(count: int, seed: int = 3) -> list[Query]:
    return [Query(text) for text in tiny.texts(count, seed)]


def arrays(prediction: Prediction) -> dict[str, Any]:
    names = (
        "quality",
        "output_tokens",
        "quality_std",
        "log_tokens_std",
        "input_tokens",
        "embedding",
        "similarity",
    )
    return {name: getattr(prediction, name) for name in names}


def same(one: Prediction, other: Prediction) -> None:
    for name, array in arrays(one).items():
        np.testing.assert_array_equal(array, arrays(other)[name], err_msg=name)


@pytest.mark.parametrize("kind", KINDS)
def test_shapes_ranges_and_names(bundle: Bundle, kind: str) -> None:
    predictor = open_predictor(bundle, kind, device="cpu")
    assert isinstance(predictor, Predictor)
    assert predictor.device == "cpu"
    assert predictor.variant in ("int8", "float32")
    made = predictor.predict(queries(20))
    assert made.models == tiny.MODELS
    assert made.quality.shape == (20, 3)
    assert ((made.quality >= 0) & (made.quality <= 1)).all()
    assert (made.output_tokens >= 1).all()
    assert (made.input_tokens >= 1).all()
    np.testing.assert_allclose(np.linalg.norm(made.embedding, axis=1), 1, atol=1e-3)
    assert set(made.seconds) == {"tokenize", "encode", "retrieve", "predict"}
    assert (made.similarity is None) == (kind == "trained")
    for array in arrays(made).values():
        assert array is None or np.isfinite(array).all()


def test_the_kinds_differ_and_the_blend_lies_between(bundle: Bundle) -> None:
    asked = queries(30)
    made = {kind: open_predictor(bundle, kind, device="cpu").predict(asked).quality for kind in KINDS}
    low = np.minimum(made["trained"], made["retrieval"]) - 1e-3
    high = np.maximum(made["trained"], made["retrieval"]) + 1e-3
    assert ((made["hybrid"] >= low) & (made["hybrid"] <= high)).all()
    assert np.abs(made["trained"] - made["retrieval"]).max() > 0.05


def test_a_known_query_finds_itself(bundle: Bundle, large: Bundle) -> None:
    for each in (bundle, large):
        made = open_predictor(each, "retrieval", device="cpu", variant="float32").predict(
            [Query(tiny.texts(5)[3])]
        )
        assert made.similarity[0] == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("variant", ["int8", "float32", "float16"])
def test_a_forecast_does_not_depend_on_its_batch(bundle: Bundle, variant: str) -> None:
    asked = queries(40)
    predictor = open_predictor(bundle, "trained", device="cpu", variant=variant, cache_size=0)
    whole = predictor.predict(asked)
    for row in (0, 17, 39):
        alone = predictor.predict([asked[row]])
        np.testing.assert_array_equal(alone.quality[0], whole.quality[row])
        np.testing.assert_array_equal(alone.embedding[0], whole.embedding[row])


def test_any_number_of_threads_gives_the_same_bytes(large: Bundle) -> None:
    asked = queries(50)
    made = [open_predictor(large, device="cpu", threads=threads).predict(asked) for threads in (1, 2, None)]
    same(made[0], made[1])
    same(made[0], made[2])


def test_slices_are_put_together_in_order(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = queries(23)
    wanted = open_predictor(bundle, device="cpu").predict(asked)
    monkeypatch.setattr(trained, "SLICE", 5)
    seen: list[tuple[int, int]] = []
    sliced = open_predictor(bundle, device="cpu").predict(
        asked, progress=lambda done, of: seen.append((done, of))
    )
    # The neighbours of a slice are found by another matrix product than those of the whole.
    np.testing.assert_allclose(sliced.quality, wanted.quality, atol=1e-5)
    np.testing.assert_array_equal(sliced.input_tokens, wanted.input_tokens)
    assert seen == [(5, 23), (10, 23), (15, 23), (20, 23), (23, 23)]


def test_an_empty_batch(bundle: Bundle) -> None:
    made = open_predictor(bundle, device="cpu").predict([])
    assert len(made) == 0
    assert made.quality.shape == (0, 3)


@pytest.mark.parametrize("text", ODD, ids=range(len(ODD)))
def test_any_text_has_a_forecast(bundle: Bundle, text: str) -> None:
    made = open_predictor(bundle, device="cpu").predict([Query(text)])
    assert np.isfinite(made.quality).all()
    assert made.input_tokens[0] >= max(1, len(text) // 16)


def test_a_long_text_is_counted_beyond_what_is_read(bundle: Bundle) -> None:
    one, ten = (
        open_predictor(bundle, device="cpu")
        .predict([Query("the sum of " * n) for n in (10_000, 100_000)])
        .input_tokens
    )
    assert ten == pytest.approx(10 * one, rel=0.01)
    assert one == pytest.approx(1 + 1.1 * 30_000, rel=0.01)


def test_the_cache_answers_the_same_and_is_bounded(bundle: Bundle) -> None:
    predictor = open_predictor(bundle, device="cpu", cache_size=8)
    asked = queries(6)
    first = predictor.predict(asked)
    assert (predictor.cache.hits, predictor.cache.misses) == (0, 6)
    same(first, predictor.predict(asked))
    assert predictor.cache.hits == 6
    predictor.predict(queries(30, seed=8))
    assert len(predictor.cache) == 8
    same(first, predictor.predict(asked))


def test_repeated_texts_are_encoded_once(bundle: Bundle) -> None:
    predictor = open_predictor(bundle, device="cpu")
    one, other = queries(2)
    made = predictor.predict([one, other, one, one])
    assert predictor.cache.misses == 2
    for row in (2, 3):
        np.testing.assert_array_equal(made.quality[0], made.quality[row])
    assert (made.quality[0] != made.quality[1]).any()


def test_the_cache_does_not_hide_what_was_learned(bundle: Bundle) -> None:
    predictor = open_predictor(bundle, "retrieval", device="cpu")
    before = predictor.predict(queries(1))
    predictor.retrieval.add(before.embedding[0], 1, 0.0)
    after = predictor.predict(queries(1))
    assert after.similarity[0] == pytest.approx(1, abs=1e-4)
    assert after.quality[0, 1] != before.quality[0, 1]


def test_threads_may_share_a_predictor(bundle: Bundle) -> None:
    predictor = open_predictor(bundle, device="cpu", cache_size=4)
    asked = queries(12)
    wanted, failures = predictor.predict(asked), []

    def work() -> None:
        try:
            for _ in range(10):
                same(wanted, predictor.predict(asked))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_wrong_arguments_are_named(bundle: Bundle) -> None:
    with pytest.raises(InputError, match="threads: got 0"):
        open_predictor(bundle, threads=0)
    with pytest.raises(InputError, match="device: got 'tpu', wanted one of auto, cpu, cuda, tensorrt"):
        open_predictor(bundle, device="tpu")
    with pytest.raises(InputError, match="variant: got 'int4', this bundle has float32, int8, float16"):
        open_predictor(bundle, device="cpu", variant="int4")
    with pytest.raises(InputError, match="cache_size: got -1"):
        open_predictor(bundle, device="cpu", cache_size=-1)


def test_a_calibration_without_the_kind_is_a_bundle_error(bundle: Bundle, tmp_path: Any) -> None:
    from eccos_rs.predict.bundle import write_bundle

    files: dict[str, Any] = {name: bundle.path / name for name in bundle.manifest["files"]}
    files["calibration.toml"] = b"[trained]\n"
    broken = write_bundle(tmp_path / "broken", tiny.manifest("broken", 80), files)
    with pytest.raises(BundleError, match=r"calibration\.toml: the table \[hybrid\]"):
        open_predictor(broken, device="cpu")
    with pytest.raises(BundleError, match="intercept: wanted 3 finite numbers"):
        open_predictor(broken, "trained", device="cpu")


def test_columns_can_be_chosen_and_rows_joined(bundle: Bundle) -> None:
    made = open_predictor(bundle, device="cpu").predict(queries(4))
    picked = made.select(["large", "small"])
    np.testing.assert_array_equal(picked.quality, made.quality[:, [2, 0]])
    assert made.select(tiny.MODELS) is made
    with pytest.raises(InputError, match="no prediction for \\['huge'\\]"):
        made.select(["huge"])
    joined = Prediction.concatenate([made.rows(slice(0, 1)), made.rows(np.array([1, 2, 3]))])
    same(made, joined)
    with pytest.raises(InputError, match="parts: got predictions for different models"):
        Prediction.concatenate([made, picked])
    with pytest.raises(InputError, match="parts: got none"):
        Prediction.concatenate([])
    with pytest.raises(InputError, match=r"quality: got shape \(4, 3\), wanted \(4, 2\)"):
        Prediction(**{**made.__dict__, "models": ("a", "b")})


MEASURE = """
import json, sys

def peak():
    # Not getrusage: that begins with the peak of the process that this one was started from.
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))

from eccos_rs.predict.bundle import Bundle
from eccos_rs.predict.open import open_predictor
from eccos_rs.domain.query import Query
predictor = open_predictor(Bundle.load(sys.argv[1]), device="cpu")
predictor.predict([Query("what is the sum of 2 and 2 ?")])
base = peak()
many = predictor.predict([Query(f"what is the sum of {n} and {n % 7} ?") for n in range(8_000)])
print(json.dumps({"grown": (peak() - base) / 1024, "rows": len(many),
                  "heavy": sorted(set(sys.modules) & {"torch", "onnx", "scipy", "sklearn", "transformers"})}))
"""


def test_a_process_of_its_own_prints_nothing_and_stays_small(bundle: Bundle) -> None:
    """Eight thousand queries: what grows is the result and the queries, not what is worked on."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(bundle.path)],
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) == 1
    got = json.loads(done.stdout)
    assert got["rows"] == 8_000
    assert got["heavy"] == []
    assert got["grown"] < 60


def test_the_form_of_the_8_bit_graph_follows_the_processor(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for saturates, name in ((True, "predictor.uint8.onnx"), (False, "predictor.int8.onnx")):
        monkeypatch.setattr(devices, "int8_saturates", lambda saturates=saturates: saturates)
        assert graph_file(bundle, "int8").name == name
        assert open_encoder(bundle, "cpu").variant == "int8"
    # A bundle from before the unsigned form: what cannot be computed as it was checked is not the default.
    older = Bundle.load(shutil.copytree(bundle.path, tmp_path / "older"))
    del older.manifest["encoder"]["variants"]["int8"]["unsigned"]
    monkeypatch.setattr(devices, "int8_saturates", lambda: True)
    assert open_encoder(older, "cpu").variant == "float32"
