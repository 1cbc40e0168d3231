"""Bundles on disk: what is refused, what survives a crash, where names are looked for."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

import eccos_rs.predict.bundle as bundles
from eccos_rs.errors import BundleError, InputError
from eccos_rs.predict.bundle import DEFAULT_BUNDLE, Bundle, write_bundle
from eccos_rs.predict.open import open_predictor
from tests.helpers import tiny

tomli_w = pytest.importorskip("tomli_w")


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return tiny.make_bundle(tmp_path_factory.mktemp("bundles") / "tiny")


@pytest.fixture
def copied(made: Bundle, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made.path, tmp_path / "copied"))


def rewrite(folder: Path, change: Any) -> None:
    """Change the manifest of a bundle."""
    import tomllib

    manifest = tomllib.loads((folder / "bundle.toml").read_text())
    change(manifest)
    (folder / "bundle.toml").write_text(tomli_w.dumps(manifest))


def test_load_gives_back_what_was_written(made: Bundle) -> None:
    again = Bundle.load(made.path)
    assert again.models == tiny.MODELS
    assert again.name == "tiny"
    assert again.digest == made.digest
    assert again.pool_path.is_file()
    assert again.size == sum(
        path.stat().st_size for path in made.path.iterdir() if path.name != "bundle.toml"
    )
    assert "tiny" in repr(again)


@pytest.mark.parametrize(
    "name", ["weights.bin", "index.bin", "predictor.onnx", "tokenizer.json", "labels.npz"]
)
def test_an_altered_file_is_named(copied: Path, name: str) -> None:
    if not (copied / name).exists():
        pytest.skip("a bundle that was made without hnswlib has its vectors in another file")
    data = bytearray((copied / name).read_bytes())
    data[len(data) // 2] ^= 1
    (copied / name).write_bytes(data)
    with pytest.raises(BundleError, match=rf"{name}: altered or truncated"):
        Bundle.load(copied)


def test_truncated_and_missing_files_are_all_named(copied: Path) -> None:
    (copied / "index.bin").write_bytes((copied / "index.bin").read_bytes()[:-1])
    (copied / "labels.npz").unlink()
    with pytest.raises(BundleError, match=r"index\.bin: altered or truncated.*labels\.npz: missing"):
        Bundle.load(copied)


def test_a_newer_schema_says_what_to_do(copied: Path) -> None:
    rewrite(copied, lambda manifest: manifest.update(schema_version=2))
    with pytest.raises(BundleError, match=r"schema_version 2 is newer .*pip install -U eccos-rs"):
        Bundle.load(copied)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema_version": "1"}, "schema_version: got '1'"),
        ({"schema_version": True}, "schema_version: got True"),
        ({"models": []}, "models: got"),
        ({"models": ["a", "a", "b"]}, "occurs twice"),
        ({"encoder": 3}, "encoder is missing or malformed"),
        ({"files": {"../secret": "0" * 64}}, "not a plain file name"),
        ({"files": {"weights.bin": "short"}}, "wanted 64 hexadecimal digits"),
    ],
)
def test_a_malformed_manifest_is_refused(copied: Path, change: dict[str, Any], message: str) -> None:
    rewrite(copied, lambda manifest: manifest.update(change))
    with pytest.raises(BundleError, match=message):
        Bundle.load(copied)


def test_a_manifest_that_is_no_toml(copied: Path) -> None:
    (copied / "bundle.toml").write_bytes(b"\xff = [")
    with pytest.raises(BundleError, match="not valid TOML"):
        Bundle.load(copied)


def test_a_folder_without_a_manifest(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"not a bundle, bundle\.toml is missing"):
        Bundle.load(tmp_path)


def test_an_unknown_name_lists_what_is_shipped() -> None:
    with pytest.raises(BundleError, match="neither a folder nor a shipped name"):
        Bundle.load("no-such-bundle")


def test_names_are_looked_for_among_the_shipped(
    made: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = tmp_path / "shipped"
    shutil.copytree(made.path, shipped / DEFAULT_BUNDLE)
    monkeypatch.setattr(bundles, "SHIPPED", shipped)
    assert Bundle.load(DEFAULT_BUNDLE).path == shipped / DEFAULT_BUNDLE
    assert Bundle.load().path == shipped / DEFAULT_BUNDLE
    with pytest.raises(BundleError, match=DEFAULT_BUNDLE):
        Bundle.load("unknown")


def test_only_listed_files_are_handed_out(made: Bundle) -> None:
    with pytest.raises(BundleError, match=r"no file 'other\.bin' is listed"):
        made.file("other.bin")
    with pytest.raises(BundleError, match=r"the table \[nothing\] is missing"):
        made.table("nothing")


def test_writing_replaces_the_whole_folder(copied: Path, made: Bundle) -> None:
    (copied / "leftover").write_text("old")
    files: dict[str, Any] = {name: made.path / name for name in made.manifest["files"]}
    written = write_bundle(copied, tiny.manifest("renamed", 80), files)
    assert written.name == "renamed"
    assert not (copied / "leftover").exists()
    assert [path.name for path in copied.parent.iterdir()] == [copied.name]


def test_a_failed_write_leaves_the_old_bundle(
    copied: Path, made: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    files: dict[str, Any] = {name: made.path / name for name in made.manifest["files"]}
    monkeypatch.setattr(bundles, "_write_synced", full)
    with pytest.raises(OSError, match="No space left"):
        write_bundle(copied, tiny.manifest("new", 80), files)
    assert Bundle.load(copied).digest == made.digest
    assert [path.name for path in copied.parent.iterdir()] == [copied.name]


def test_a_failed_swap_puts_the_old_bundle_back(
    copied: Path, made: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    files: dict[str, Any] = {name: made.path / name for name in made.manifest["files"]}
    rename, calls = os.rename, []

    def second_fails(source: Any, target: Any) -> None:
        calls.append(source)
        if len(calls) == 2:
            raise PermissionError(13, "refused")
        rename(source, target)

    monkeypatch.setattr(bundles.os, "rename", second_fails)
    with pytest.raises(PermissionError):
        write_bundle(copied, tiny.manifest("new", 80), files)
    assert Bundle.load(copied).digest == made.digest


def test_a_file_name_with_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="not a plain file name"):
        write_bundle(tmp_path / "new", tiny.manifest("new", 1), {"../x": b""})
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_kind_of_predictor(made: Bundle) -> None:
    with pytest.raises(InputError, match="kind: got 'best', wanted one of trained, retrieval, hybrid"):
        open_predictor(made, "best")


def test_the_old_way_to_a_predictor_works_and_says_what_to_write(made: Bundle) -> None:
    wanted = r"Bundle is deprecated: use eccos_rs.predict.open.open_predictor\(bundle, ...\)"
    with pytest.warns(DeprecationWarning, match=wanted):
        predictor = made.predictor("trained", device="cpu", threads=1)
    assert type(predictor).__name__ == "TrainedPredictor"
