"""The release surface: one version, notes that say what came with it, and the check before a tag."""

from __future__ import annotations

import importlib.util
import re
import shutil
import tomllib
from collections import Counter
from typing import TYPE_CHECKING

import pytest

import eccos_rs
from tests.helpers.paths import ROOT

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

NOTES = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


@pytest.fixture
def check(tmp_path: Path) -> ModuleType:
    """`tools/release_check.py` over a copy of what it reads, so that a copy can be spoilt."""
    for name in ("Cargo.toml", "CHANGELOG.md", "CITATION.cff", "README.md"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "tools").mkdir()
    path = shutil.copy(ROOT / "tools" / "release_check.py", tmp_path / "tools")
    spec = importlib.util.spec_from_file_location("release_check", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_all_that_is_wanting_is_a_wheel(check: ModuleType) -> None:
    assert check.problems([]) == ["dist/ holds no wheel of this version: make wheel"]


@pytest.mark.parametrize(
    ("spoilt", "wanted"),
    [
        (("CITATION.cff", "version: ", "version: 9."), "CITATION.cff names another version"),
        (("CHANGELOG.md", "## [", "## ("), "CHANGELOG.md has no dated section"),
        (("Cargo.toml", 'version = "', 'version = "9'), "CHANGELOG.md has no dated section for 9"),
    ],
)
def test_a_version_that_differs_is_told(
    check: ModuleType, tmp_path: Path, spoilt: tuple[str, str, str], wanted: str
) -> None:
    name, old, new = spoilt
    path = tmp_path / name
    path.write_text(path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    assert any(sentence.startswith(wanted) for sentence in check.problems([]))


def test_every_crate_and_the_lock_file_have_the_version() -> None:
    lock = tomllib.loads((ROOT / "Cargo.lock").read_text(encoding="utf-8"))
    own = {each["name"]: each["version"] for each in lock["package"] if each["name"].startswith("eccos-")}
    assert own == dict.fromkeys(("eccos-core", "eccos-infer", "eccos-py"), eccos_rs.__version__)


def test_the_notes_are_in_order_and_say_nothing_twice() -> None:
    heads = re.findall(r"^## \[(.+?)\](?: - (\d{4}-\d\d-\d\d))?$", NOTES, re.MULTILINE)
    assert heads[0] == ("Unreleased", "")
    versions = [tuple(map(int, name.split("."))) for name, _ in heads[1:]]
    assert versions == sorted(versions, reverse=True)
    assert all(date for _, date in heads[1:])
    entries = re.findall(r"^- (?:.*\n)(?:  .*\n)*", NOTES, re.MULTILINE)
    assert [entry for entry, count in Counter(entries).items() if count > 1] == []
    for section in re.split(r"^## ", NOTES, flags=re.MULTILINE)[1:]:
        kinds = re.findall(r"^### (.+)$", section, re.MULTILINE)
        assert len(kinds) == len(set(kinds)), section.splitlines()[0]
