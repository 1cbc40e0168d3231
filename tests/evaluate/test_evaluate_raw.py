"""The plain neighbour rule counts observed labels or is left out: denoised ones would flatter it."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from eccos_rs.evaluate import evidence_from_bundle, study
from eccos_rs.evaluate.report.html import as_html, as_json, as_markdown
from eccos_rs.evaluate.report.sections import sections
from eccos_rs.evaluate.settings import Setting
from eccos_rs.predict.bundle import Bundle, write_bundle
from eccos_rs.records import RecordTable
from eccos_rs.records.fingerprint import encode_fingerprints
from tests.helpers import tiny
from tests.helpers.evaluation import evidence

if TYPE_CHECKING:
    from pathlib import Path

ROWS = 80
PLAIN = "raw kNN16"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return tiny.make_bundle(tmp_path_factory.mktemp("bundles") / "tiny", rows=ROWS)


def observed() -> np.ndarray:
    return (np.random.default_rng(9).random((ROWS, len(tiny.MODELS))) < tiny.CHANCES).astype(np.float32)


def bundle(base: Bundle, folder: Path, *, keep: bool, **provenance: object) -> Bundle:
    """Write the bundle again with denoised labels, the observed ones beside them or not."""
    raw = observed()
    arrays = {"success": 0.2 * raw + 0.8 * raw.mean(axis=0), "log_tokens": np.full(raw.shape, 4.0)}
    if keep:
        arrays["observed"] = raw
    stream = io.BytesIO()
    np.savez(stream, **{name: each.astype(np.float16) for name, each in arrays.items()})
    files = {name: base.file(name) for name in base.manifest["files"]}
    manifest = {key: value for key, value in base.manifest.items() if key not in ("files", "schema_version")}
    texts = encode_fingerprints(tiny.texts(ROWS))
    manifest["provenance"] = {"train_texts_sha256": "train_texts.sha256", **provenance}
    return write_bundle(
        folder, manifest, {**files, "labels.npz": stream.getvalue(), "train_texts.sha256": texts}
    )


def data(texts: list[str]) -> RecordTable:
    rng = np.random.default_rng(3)
    shape = len(texts), len(tiny.MODELS)
    quality = observed() if len(texts) == ROWS else (rng.random(shape) < tiny.CHANCES).astype(np.float32)
    return RecordTable(
        texts, ["d"] * len(texts), [None] * len(texts), tiny.MODELS, quality,
        np.full(shape, 50, np.float32), np.full(len(texts), 20), np.full(shape, 1e-5) * [1, 4, 16],
    )  # fmt: skip


def other_texts() -> list[str]:
    return [f"write story number {row} of prime {row * 31} word" for row in range(120)]


def sixteenths(values: np.ndarray) -> bool:
    return bool(np.allclose(16 * values, np.rint(16 * values), atol=1e-2))


def test_observed_labels_in_the_bundle_are_what_the_plain_rule_counts(base: Bundle, tmp_path: Path) -> None:
    made = bundle(base, tmp_path / "kept", keep=True)
    found = evidence_from_bundle(data(other_texts()), made, data="other", device="cpu", threads=1)
    assert found.plain == PLAIN
    assert sixteenths(found.predictions[PLAIN].quality)


def test_without_them_the_plain_rule_is_left_out(base: Bundle, tmp_path: Path) -> None:
    made = bundle(base, tmp_path / "gone", keep=False)
    found = evidence_from_bundle(data(other_texts()), made, data="other", device="cpu", threads=1)
    assert found.plain is None
    assert PLAIN not in found.predictions


def test_data_that_hold_all_it_learned_tell_them_too(base: Bundle, tmp_path: Path) -> None:
    made = bundle(base, tmp_path / "told", keep=False)
    both = RecordTable.joined([data(tiny.texts(ROWS)), data(other_texts())])
    found = evidence_from_bundle(both, made, data="both", device="cpu", threads=1)
    assert sixteenths(found.predictions[PLAIN].quality)
    # One text that is not there leaves its label unknown, and the denoised one is no stand-in.
    some = both.select(np.arange(1, len(both)))
    assert evidence_from_bundle(some, made, data="some", device="cpu", threads=1).plain is None


def test_a_bundle_that_moved_no_label_says_so(base: Bundle, tmp_path: Path) -> None:
    made = bundle(base, tmp_path / "raw", keep=False, teacher_shares={"d": 0.0})
    found = evidence_from_bundle(data(other_texts()), made, data="other", device="cpu", threads=1)
    assert found.plain == PLAIN
    moved = bundle(base, tmp_path / "moved", keep=False, teacher_shares={"d": 0.0, "e": 0.4})
    found = evidence_from_bundle(data(other_texts()), moved, data="other", device="cpu", threads=1)
    assert found.plain is None


def test_a_study_without_the_plain_rule_says_why() -> None:
    given = evidence(120)
    views = {name: view for name, view in given.predictions.items() if name != PLAIN}
    settings = [Setting(size=60), Setting("strong/10", size=60)]
    made = study(replace(given, predictions=views, plain=None), settings=settings, resamples=20, batches=2)
    assert made.rule is None
    told = " ".join(text for section in sections(made) for text in section.text)
    assert "AIOS's rule is left out" in told
    for written in (as_markdown(made, {}), as_html(made), as_json(made)):
        assert "kNN16" not in written
