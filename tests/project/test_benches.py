"""The benches are a package: each script that a page names runs as a module, from a checkout as it is."""

from __future__ import annotations

import re
from importlib.util import find_spec

import pytest

from tests.helpers.paths import ROOT

PAGES = [
    *ROOT.glob("*.md"),
    *(ROOT / "docs").rglob("*.md"),
    *(ROOT / "benches").rglob("*.py"),
    *(ROOT / "models").rglob("*.md"),
    ROOT / "Makefile",
]
NAMED = re.compile(r"python3? -m (benches[\w.]*)")


def test_what_the_pages_run_is_there() -> None:
    named = {name for page in PAGES for name in NAMED.findall(page.read_text(encoding="utf-8"))}
    assert len(named) > 15
    assert {name for name in named if find_spec(name) is None} == set()


@pytest.mark.parametrize("wanted", [r"python3? benches/", r"^sys\.path"])
def test_no_page_runs_a_bench_by_its_path(wanted: str) -> None:
    by_path = [page.name for page in PAGES if re.search(wanted, page.read_text(encoding="utf-8"), re.M)]
    assert by_path == []
