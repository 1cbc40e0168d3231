"""What is shipped: licences of what is inside, metadata, `python -m eccos_rs`, completion."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib

import pytest

import eccos_rs
from tests.helpers.paths import ROOT


def test_the_names_of_the_package_are_its_public_ones() -> None:
    assert dir(eccos_rs) == sorted(eccos_rs.__all__)


def test_the_module_is_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "eccos_rs", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"eccos-rs {eccos_rs.__version__}\n"


@pytest.mark.parametrize(
    ("words", "wanted"), [("eccos ro", "route"), ("eccos route --min-q", "--min-quality")]
)
def test_a_shell_completes_commands_and_options(words: str, wanted: str) -> None:
    environment = {
        **os.environ,
        "_ECCOS_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split()) - 1),
    }
    done = subprocess.run(
        [sys.executable, "-m", "eccos_rs"], env=environment, capture_output=True, text=True, check=False
    )
    assert wanted in done.stdout.split()


@pytest.mark.skipif(shutil.which("cargo") is None, reason="the crates are asked of cargo")
def test_every_crate_inside_is_named_with_its_licence() -> None:
    subprocess.run([sys.executable, str(ROOT / "tools" / "licences.py"), "--check"], check=True)


def test_licences_and_urls_are_part_of_the_metadata() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for name in project["license-files"]:
        text = (ROOT / name).read_text(encoding="utf-8")
        assert "Apache" in text
    assert "[yyyy]" not in (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert {"Homepage", "Documentation", "Repository", "Changelog", "Issues"} <= set(project["urls"])
    assert project["authors"]
    supported = {each.rsplit(" ", 1)[1] for each in project["classifiers"] if " :: 3." in each}
    assert supported == {"3.11", "3.12", "3.13", "3.14"}


def test_nothing_that_must_be_compiled_is_installed_by_default() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert not [each for each in project["dependencies"] if each.startswith("hnswlib")]
    assert "hnsw" in project["optional-dependencies"]["all"][0]
