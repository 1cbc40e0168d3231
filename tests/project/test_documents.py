"""The pages for contributors name files that are there."""

from __future__ import annotations

import re

import pytest

from tests.helpers.paths import ROOT

PAGES = ["ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md"]
# A path in backticks: a slash, or an ending that source files have; NAME stands for what a reader fills in.
NAMED = re.compile(r"`([\w./-]+(?:/|\.py|\.rs|\.md|\.toml|\.txt))`")


@pytest.mark.parametrize("page", PAGES)
def test_the_files_that_a_page_names_are_there(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    roots = (ROOT, ROOT / "python" / "eccos_rs")
    # Within a sentence that named a folder, its files are named alone.
    folders = [root / name for root in roots for name in NAMED.findall(text) if name.endswith("/")]
    missing = [
        name
        for name in NAMED.findall(text)
        if "NAME" not in name and not any((place / name).exists() for place in (*roots, *folders))
    ]
    assert missing == []


@pytest.mark.parametrize("page", PAGES)
def test_the_links_of_a_page_lead_to_files(page: str) -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", (ROOT / page).read_text(encoding="utf-8"))
    assert links or page == "SECURITY.md"
    assert [link for link in links if not (ROOT / link).exists()] == []
