"""Collecting from a real OpenAI-compatible server: `transformers serve` over a tiny random model."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from eccos_rs.pools.pool import Pool
from eccos_rs.records import RecordTable
from eccos_rs.records.collect import CollectOptions, collect
from tests.helpers.endpoints import journal_events, pool_toml

if TYPE_CHECKING:
    from pathlib import Path

# The server starts within 10 s on an idle machine; the limit covers a busy one.
pytestmark = pytest.mark.timeout(300)

ROWS = [
    *(
        {"query": f"What is {n} + {n}?", "kind": "numeric", "answer": 2 * n, "dataset": "sums"}
        for n in range(12)
    ),
    *({"query": f"Pick one, {n}.", "choices": ["red", "blue", "green"], "answer": "B"} for n in range(6)),
    {"query": "Say the word ant.", "kind": "exact", "answer": "ant"},
]
NAMES = ("tiny-a", "tiny-b")


@pytest.fixture
def folder(served, tmp_path):
    """Task and pool files for two names of the one model, at two prices."""
    (tmp_path / "tasks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    prices = (
        {"input_price": 0.1, "output_price": 0.4, "slots": 2},
        {"input_price": 1.0, "output_price": 4.0},
    )
    models = [
        {"name": name, "url": served.url, "upstream": served.model, **price}
        for name, price in zip(NAMES, prices, strict=True)
    ]
    pool_toml(tmp_path / "pool.toml", *models)
    return tmp_path


def run(folder: Path, *more: str) -> subprocess.Popen[str]:
    line = [
        "-m",
        "eccos_rs.cli.main",
        "collect",
        "tasks.jsonl",
        "--pool",
        "pool.toml",
        "--out",
        "out.parquet",
    ]
    return subprocess.Popen(
        [
            sys.executable,
            *line,
            "--max-output-tokens",
            "6",
            "--concurrency",
            "2",
            "--grade-cut",
            "--json",
            *more,
        ],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_collection_from_a_real_server(served, folder):
    before = served.answered
    options = CollectOptions(max_output_tokens=6, concurrency=2, grade_cut=True)
    summary = collect(
        folder / "tasks.jsonl", Pool.load(folder / "pool.toml"), folder / "out.jsonl", options=options
    )
    assert (summary.stopped, summary.answered, summary.flagged, summary.failures) == ("done", 38, 0, {})
    assert served.answered - before == 38
    table = RecordTable.read(folder / "out.jsonl")
    assert table.models == NAMES
    assert len(table) == len(ROWS)
    assert set(table.dataset) == {"sums", "tasks"}
    assert (table.output_tokens <= 6).all()
    assert (table.output_tokens >= 1).all()
    # One token a byte: the template's and the prompt's bytes are what the server counts.
    assert (table.input_tokens > [len(text) for text in table.query]).all()
    price = table.input_tokens * 0.1 + table.output_tokens[:, 0] * 0.4
    assert table.cost[:, 0] == pytest.approx(price / 1e6)
    assert table.cost[:, 1] == pytest.approx(10 * table.cost[:, 0])
    # At temperature 0 both names of the model give one answer.
    assert (table.quality[:, 0] == table.quality[:, 1]).all()


def test_killed_and_gone_on_against_a_real_server(served, folder):
    journal = folder / "out.parquet.journal.jsonl"
    before, kills = served.answered, 0
    for wanted in (6, 20):
        process = run(folder)
        end = time.monotonic() + 90
        while process.poll() is None and time.monotonic() < end:
            if journal.exists() and journal.read_bytes().count(b'"event": "answered"') >= wanted:
                break
            time.sleep(0.002)
        kills += process.poll() is None
        process.kill()
        process.communicate()
    process = run(folder)
    told, errors = process.communicate(timeout=90)
    assert process.returncode == 0, errors
    summary = json.loads(told)
    assert (summary["stopped"], summary["answered"], summary["records"]) == ("done", 38, 19)
    assert kills >= 1
    calls = [event["call"] for event in journal_events(journal, "answered")]
    assert len(calls) == len(set(calls)) == 38
    cut = len(journal_events(journal, "unsure"))
    # The server answered each pair once, and at most those again that a kill cut off.
    assert 38 <= served.answered - before <= 38 + cut
    assert cut <= kills * 4
    assert len(RecordTable.read(folder / "out.parquet")) == 19
