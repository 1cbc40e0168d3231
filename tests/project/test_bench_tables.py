"""The tables of the performance page, made of what the benches measured."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from benches import tables

from tests.helpers.paths import ROOT


def run(name: str, seconds: float, queries: int = 1, **info: Any) -> dict[str, Any]:
    return {
        "fullname": name,
        "extra_info": {"queries": queries, **info},
        "stats": {"min": seconds, "median": 9.0},
    }


def report(*runs: dict[str, Any], load: float = 0.5) -> dict[str, Any]:
    said = {
        "processor": "A processor", "cores": 2, "int8": True, "onnxruntime": "1.31", "bundle": "b 0123",
        "tokens": 237.0, "tokens_per_second": 50.0, "load": load,
    }  # fmt: skip
    machine = {"python_version": "3.11", "eccos": said}
    return {"benchmarks": list(runs), "machine_info": machine, "datetime": "2026-11-20T10:00:00"}


def page(*names: str) -> str:
    return "before\n" + "".join(
        f"<!-- table: {name} -->\nold {name}\n<!-- end of table -->\n\nbetween\n" for name in names
    )


def test_a_table_is_made_anew_and_what_was_not_measured_stays() -> None:
    slow = run("slow", 0.474, 100, table="whole", kind="mixed", beside=0.01)
    fast = run("fast", 0.0021, 1, table="whole", kind="mixed", beside=0.0003)
    text, filled = tables.fill(page("conditions", "whole", "rivals"), report(slow, fast))
    assert filled == ["conditions", "whole"]
    assert "| mixed | 1 | 2.10 | 0.044% | 0.30 |\n| mixed | 100 | 4.74 | 0.100% | 0.10 |" in text
    assert "old rivals" in text
    assert "old whole" not in text
    assert text.startswith("before\n")
    assert text.count("between") == 3
    assert "A processor, 2 cores usable, load 0.5" in text


def test_rivals_stand_beside_ours() -> None:
    ours = run("a", 0.064, 64, table="rivals", rival="eccos-rs")
    theirs = run("b", 0.64, 64, table="rivals", rival="a loop")
    text, _ = tables.fill(page("rivals"), report(ours, theirs))
    assert "| eccos-rs | 1.00 |\n| a loop | 10.0 (10.0 times) |" in text


def test_searches_of_one_size_share_a_row() -> None:
    runs = [
        run("g", 0.0001, 1, table="search", way="graph", size=1000, recall=0.99, ef=128),
        run("p", 0.0002, 1, table="search", way="exact", size=1000),
        run("q", 0.1, 1, table="search", way="exact", size=10**6),
    ]
    text, _ = tables.fill(page("search"), report(*runs))
    assert "| 1,000 | 100 | 0.990 (ef 128) | 200 |\n| 1,000,000 | not run |  | 100,000 |" in text


def test_a_later_file_takes_the_place_of_an_earlier_one() -> None:
    def one(seconds: float) -> dict[str, Any]:
        return run("one", seconds, table="precision", variant="int8", threads=1)

    both = tables.merged([report(one(0.001)), report(one(0.002), load=7.0)])
    text, _ = tables.fill(page("precision", "conditions"), both)
    assert "| int8 | 1 | 2.00 |" in text
    assert "load 0.5" in text


def test_every_marker_of_the_page_has_a_table() -> None:
    import re

    text = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    names = re.findall(r"<!-- table: (\w+) -->", text)
    assert sorted(names) == sorted([*tables.TABLES, "conditions"])
    assert text.count("<!-- end of table -->") == len(names)


@pytest.mark.parametrize("given", [[], ["only.json"]])
def test_the_script_says_how_it_is_called(given: list[str]) -> None:
    import subprocess

    line = [sys.executable, "-m", "benches.tables", *given]
    done = subprocess.run(line, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 1
    assert "python -m benches.tables" in done.stderr
