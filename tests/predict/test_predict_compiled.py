"""The compiled steps from text to forecast, each against its twin in numpy or in the `tokenizers` package."""

from __future__ import annotations

import string
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eccos_rs import _core
from eccos_rs.domain.query import Query
from eccos_rs.predict.bundle import Bundle
from eccos_rs.predict.calibration import BackOff, Calibration, Scores, blend, logit
from eccos_rs.predict.labels import LabelTable, shrink
from eccos_rs.predict.neighbours import NeighbourSettings, estimate_from_neighbours
from eccos_rs.predict.open import open_predictor
from eccos_rs.predict.tokenize import TextTokenizer
from eccos_rs.predict.trained import BundlePredictor
from eccos_rs.records import RecordTable

if TYPE_CHECKING:
    from pathlib import Path

    from tokenizers import Tokenizer

M = 4
SETTINGS = NeighbourSettings(neighbours=8, temperature=0.07, prior_rows=1.5, length_prior_rows=0.7)


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return Bundle.load()


@pytest.fixture(scope="module")
def ours(bundle: Bundle) -> TextTokenizer:
    made = TextTokenizer(bundle.file("tokenizer.json"), 100_000)
    assert made._plain is not None
    return made


@pytest.fixture(scope="module")
def theirs(bundle: Bundle) -> Tokenizer:
    from tokenizers import Tokenizer

    made = Tokenizer.from_file(str(bundle.file("tokenizer.json")))
    made.no_padding()
    made.no_truncation()
    return made


def plain_part(ours: TextTokenizer, text: str) -> list[int] | None:
    (made,) = ours._plain.encode([text], 100_000, 1)  # type: ignore[union-attr]
    return None if made is None else made[0].tolist()


@given(text=st.text(alphabet=string.printable + "\x00\x1f\x7fé", max_size=80))
def test_any_plain_text_has_the_packages_pieces(ours: TextTokenizer, theirs: Tokenizer, text: str) -> None:
    made = plain_part(ours, text)
    assert (made is None) == (not text.isascii() or any(ch in "\x00\x0b\x0c\x1f\x7f" for ch in text))
    assert made is None or made == theirs.encode(text).ids


@pytest.mark.parametrize(
    "text", ["[MASK]", "a[SEP]b", "[CLS", "[ sep ]", "x" * 100, "x" * 101, "##ing", "Don't"]
)
def test_texts_at_the_edges_of_the_rule(ours: TextTokenizer, theirs: Tokenizer, text: str) -> None:
    assert ours([text]).ids[0].tolist() == theirs.encode(text).ids
    assert (plain_part(ours, text) is None) == (text in ("[MASK]", "a[SEP]b"))


def test_real_queries_have_the_packages_pieces(
    ours: TextTokenizer, theirs: Tokenizer, data_dir: Path
) -> None:
    texts = RecordTable.read(data_dir / "qaserve_public.parquet").query[::4]
    wanted = [each.ids for each in theirs.encode_batch(texts)]
    made = ours(texts)
    assert [ids.tolist() for ids in made.ids] == wanted
    assert made.pieces.tolist() == [len(ids) - 2 for ids in wanted]
    assert sum(plain_part(ours, text) is not None for text in texts) > 0.75 * len(texts)


def test_any_number_of_threads_gives_the_same_pieces(ours: TextTokenizer) -> None:
    texts = [f"{'What is this? ' * (number % 50)}{number}" for number in range(501)] + ["é", ""]
    alone = _plain(ours, texts, 1)
    assert alone[-2] is None
    for threads in (2, 5, 64):
        assert _plain(ours, texts, threads) == alone


def _plain(ours: TextTokenizer, texts: list[str], threads: int) -> list[tuple[list[int], int] | None]:
    made = ours._plain.encode(texts, 100, threads)  # type: ignore[union-attr]
    return [None if each is None else (each[0].tolist(), each[1]) for each in made]


def change(content: dict[str, Any], way: str) -> None:
    match way:
        case "cased":
            content["normalizer"]["lowercase"] = False
        case "by white space":
            content["pre_tokenizer"] = {"type": "WhitespaceSplit"}
        case "two pieces in front":
            content["post_processor"]["single"].insert(0, {"SpecialToken": {"id": "[CLS]", "type_id": 0}})
        case "without special pieces":
            content["post_processor"] = None
        case "an added word":
            word = {"id": 1012, "content": "Mayor", "single_word": False, "lstrip": False, "rstrip": False}
            content["added_tokens"].append({**word, "normalized": True, "special": False})


@pytest.mark.parametrize(
    "way", ["cased", "by white space", "two pieces in front", "without special pieces", "an added word"]
)
def test_another_tokeniser_is_left_to_the_package(bundle: Bundle, tmp_path: Path, way: str) -> None:
    import json

    from tokenizers import Tokenizer

    content = json.loads(bundle.file("tokenizer.json").read_text())
    content["truncation"] = content["padding"] = None
    change(content, way)
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(content))
    made = TextTokenizer(path, 1000)
    assert made._plain is None
    text = "The Mayor, (2+2)"
    assert made([text]).ids[0].tolist() == Tokenizer.from_file(str(path)).encode(text).ids


def labels(rows: int, rng: np.random.Generator) -> tuple[Any, Any]:
    success = (rng.random((rows, M)) < 0.6).astype(np.float32)
    length = rng.normal(5, 1, size=(rows, M)).astype(np.float32)
    success[rng.random((rows, M)) < 0.2] = np.nan
    length[rng.random((rows, M)) < 0.3] = np.nan
    return success, length


def priors() -> dict[str, Any]:
    return {
        "prior_success": np.array([0.2, 0.5, 0.7, 0.9], "f"),
        "prior_length_mean": np.array([3, 4, 5, 6], "f"),
        "prior_length_std": np.array([0.5, 1, 1.5, 0.7], "f"),
    }


def calibration(rng: np.random.Generator) -> Calibration:
    def vector(low: float, high: float) -> Any:
        return rng.uniform(low, high, M).astype(np.float32)

    return Calibration(
        success_weight=0.6, length_weight=0.3, intercept=vector(-1, 1), common_slope=vector(0.5, 1.5),
        deviation_slope=vector(0.5, 1.5), prior_logit=vector(-1, 1), prior_length=vector(3, 6),
        back_off=BackOff(0.3, 0.7, common_floor=0.2, deviation_floor=0.5, length_floor=0.4),
        length_factor=vector(0.8, 1.2), length_std_scale=vector(0.8, 1.2), residual_share=vector(0.1, 0.9),
    )  # fmt: skip


def heads(rows: int, rng: np.random.Generator) -> Scores:
    made = (rng.normal(scale, 1.0, size=(rows, M)).astype(np.float32) for scale in (0, 5, 0))
    success, mean, std = made
    return Scores(success, mean, np.abs(std) + 0.1)


@pytest.mark.parametrize("rows", [0, 1, 33])
@pytest.mark.parametrize("kind", ["trained", "retrieval", "hybrid"])
def test_forecasts_are_those_of_numpy(kind: str, rows: int) -> None:
    rng = np.random.default_rng(rows)
    table, made, said = LabelTable(*labels(50, rng)), calibration(rng), heads(rows, rng)
    similarity = -np.sort(-rng.uniform(0.1, 1, size=(rows, 8)).astype(np.float32), axis=1)
    index = rng.integers(0, 50, size=(rows, 8))
    sums, best = table.sums(similarity, index, SETTINGS.temperature)
    near = shrink(sums, best, SETTINGS, priors())
    around = Scores(logit(near.success), near.length_mean, near.length_std)
    mixed = blend(said, around, success_weight=made.success_weight, length_weight=made.length_weight)
    scores = {"trained": said, "retrieval": around, "hybrid": mixed}[kind]
    wanted = made.apply(scores, None if kind == "trained" else near.similarity)

    shrinkage = {"prior_rows": SETTINGS.prior_rows, "length_prior_rows": SETTINGS.length_prior_rows}
    shrinkage |= {name: prior.tolist() for name, prior in priors().items()}
    compiled = _core.Forecaster(made.constants(), shrinkage)
    got = compiled.forecast(
        None if kind == "retrieval" else (said.success_logit, said.length_mean, said.length_std),
        None if kind == "trained" else (sums, best),
    )
    for array, name in zip(got, ("quality", "output_tokens", "quality_std", "log_tokens_std"), strict=True):
        assert array.shape == (rows, M)
        np.testing.assert_allclose(array, getattr(wanted, name), rtol=2e-4, atol=1e-6, err_msg=name)


def test_a_query_without_a_known_similarity_does_not_back_off() -> None:
    rng = np.random.default_rng(0)
    made, said = calibration(rng), heads(2, rng)
    near = np.zeros((2, 5 * M), "f"), np.array([np.nan, 0.0], "f")
    shrinkage = {**{name: prior.tolist() for name, prior in priors().items()}, "prior_rows": 1.0}
    compiled = _core.Forecaster(made.constants(), {**shrinkage, "length_prior_rows": 1.0})
    scores = shrink(*near, NeighbourSettings(prior_rows=1.0, length_prior_rows=1.0), priors())
    around = Scores(logit(scores.success), scores.length_mean, scores.length_std)
    mixed = blend(said, around, success_weight=made.success_weight, length_weight=made.length_weight)
    got = compiled.forecast((said.success_logit, said.length_mean, said.length_std), near)[0]
    np.testing.assert_allclose(got, made.apply(mixed, near[1]).quality, rtol=1e-5)
    assert not np.allclose(got[1], made.apply(mixed).quality[1], rtol=1e-3)


def test_sums_of_labels_are_those_of_the_definition() -> None:
    rng = np.random.default_rng(3)
    success, length = labels(60, rng)
    similarity = -np.sort(-rng.uniform(0.1, 1, size=(7, 8)).astype(np.float32), axis=1)
    index = rng.integers(0, 60, size=(7, 8))
    sums, best = LabelTable(success, length).sums(similarity, index, SETTINGS.temperature)
    got = shrink(sums, best, SETTINGS, priors())
    wanted = estimate_from_neighbours(similarity, success, length, index, SETTINGS, **priors())
    for name in ("success", "length_mean", "length_std", "similarity"):
        np.testing.assert_allclose(getattr(got, name), getattr(wanted, name), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["trained", "retrieval", "hybrid"])
def test_a_subclass_with_scores_of_its_own_is_asked_for_them(bundle: Bundle, kind: str) -> None:
    """And so the shipped bundle's forecasts are compared with numpy's from text to number."""
    base = type(open_predictor(bundle, kind, device="cpu"))
    seen: list[int] = []

    class Watched(base):  # type: ignore[misc,valid-type]
        def _scores(self, encoded: Any, estimate: Any) -> Scores:
            seen.append(len(encoded))
            scores: Scores = super()._scores(encoded, estimate)
            return scores

    assert issubclass(base, BundlePredictor)
    asked = [Query(f"What is {number} + {number**2}, and why?") for number in range(20)]
    wanted = Watched(bundle, device="cpu").predict(asked)
    assert seen == [20]
    got = open_predictor(bundle, kind, device="cpu").predict(asked)
    for name in ("quality", "output_tokens", "quality_std", "log_tokens_std"):
        np.testing.assert_allclose(getattr(got, name), getattr(wanted, name), rtol=2e-4, err_msg=name)
    np.testing.assert_array_equal(got.embedding, wanted.embedding)


def test_what_does_not_fit_is_refused_and_nothing_panics() -> None:
    rng = np.random.default_rng(0)
    made = calibration(rng).constants()
    with pytest.raises(ValueError, match="the calibration does not fit"):
        _core.Forecaster({**made, "intercept": [0.0]}, None)
    compiled, said = _core.Forecaster(made, None), heads(3, rng)
    three = (said.success_logit, said.length_mean, said.length_std)
    for given_heads, near in (
        (None, None),
        ((said.success_logit, said.length_mean, said.length_std[:2]), None),
        (three, (np.zeros((3, 5 * M), "f"), np.zeros(3, "f"))),  # no settings for neighbours
    ):
        with pytest.raises(ValueError, match="does not fit"):
            compiled.forecast(given_heads, near)
    table = LabelTable(*labels(5, rng))
    for index in (5, -1):
        with pytest.raises(ValueError, match="no row of the labels"):
            table.sums(np.ones((1, 1), "f"), np.array([[index]]), 0.1)
    with pytest.raises(ValueError, match="does not fit"):
        _core.neighbour_sums(table.packed, np.ones((2, 1), "f"), np.zeros((1, 1), "i8"), (2, 1, 20), 0.1)
