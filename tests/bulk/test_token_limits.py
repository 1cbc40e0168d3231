"""Tokens per minute of models, and of limits that models share, hold at an endpoint that counts them."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from eccos_rs.domain import window
from eccos_rs.pools.pool import Limit, Pool
from eccos_rs.records.collect import CollectOptions, collect, read_tasks
from eccos_rs.records.collect.turns import CallTurn, Turns
from eccos_rs.routing.router import Router
from tests.bulk.test_execute import answers, execution, write
from tests.bulk.test_route_folder import NAMES, ByText
from tests.helpers.endpoints import misbehaving, pool_toml, sum_tasks
from tests.helpers.minutes import Minutes

if TYPE_CHECKING:
    from pathlib import Path

SPAN = 1.5
"""The minute of these tests."""


@pytest.fixture(autouse=True)
def short_minute(monkeypatch):
    monkeypatch.setattr(window, "MINUTE", SPAN)


def run_limited(folder: Path, url: str, shared: int, own: int | None = None, **options):
    run = execution(folder, url, **{"max_output_tokens": 200, "longer": 0, **options})
    pool = run.job.router.pool.with_limits(Limit("org", NAMES, tokens_per_minute=shared))
    if own is not None:
        pool = pool.replace("small", tokens_per_minute=own)
    run.job.router = Router(pool, ByText())
    return run


def test_a_shared_limit_and_a_models_own_hold_in_a_run_and_are_used(tmp_path):
    write(tmp_path, 120)
    server_side = Minutes()
    with misbehaving(server_side) as server:
        report = run_limited(tmp_path, server.url, shared=4000, own=1200).run()
    assert (report.stopped, report.answered) == ("done", 120)
    assert len(server_side.calls) == 120
    for at in (0, 1):
        assert server_side.most_within(SPAN, at=at) <= 4000
        assert server_side.most_within(SPAN, "small", at=at) <= 1200
    # Limits that nothing came near would hold by themselves.
    assert server_side.most_within(SPAN, at=1) > 0.3 * 4000
    assert sum(tokens for *_, tokens, _ in server_side.calls) > 1.5 * 4000


def test_a_limit_holds_in_a_collection_with_its_judge(tmp_path):
    (tmp_path / "tasks.jsonl").write_text(
        "".join(f'{{"query": "Say {at}", "kind": "free"}}\n' for at in range(24))
    )
    models = [{"name": name, "slots": 4} for name in ("a", "b", "judge")]
    server_side = Minutes(text="Score: 7")
    with misbehaving(server_side) as server:
        pool = Pool.load(pool_toml(tmp_path / "pool.toml", *({**each, "url": server.url} for each in models)))
        pool = pool.with_limits(Limit("org", ("a", "b", "judge"), tokens_per_minute=3000))
        options = CollectOptions(max_output_tokens=200, judge="judge")
        collect(read_tasks(tmp_path / "tasks.jsonl"), pool, tmp_path / "out.jsonl", options=options)
    assert len(server_side.calls) == 96
    assert max(server_side.most_within(SPAN, at=at) for at in (0, 1)) <= 3000


KILLED = """
import sys
from pathlib import Path
from eccos_rs.domain import window
window.MINUTE = float(sys.argv[3])
from tests.bulk.test_token_limits import run_limited
print("ready", flush=True)
run_limited(Path(sys.argv[1]), sys.argv[2], shared=4000).run()
"""


@pytest.mark.timeout(300)  # each process takes seconds to start on a busy machine
def test_a_limit_holds_over_kills(tmp_path, monkeypatch):
    """A run that is killed and started again at once has used what its journal says."""
    span = 8.0
    monkeypatch.setattr(window, "MINUTE", span)
    write(tmp_path, 120)
    server_side, kills = Minutes(), 0
    journal = tmp_path / "out" / "_eccos" / "run.journal.jsonl"
    with misbehaving(server_side) as server:
        line = [sys.executable, "-c", KILLED, str(tmp_path), server.url, str(span)]
        for wanted in (25, 45):
            process = subprocess.Popen(line, env={**os.environ, "PYTHONPATH": os.getcwd()})
            while process.poll() is None:
                if journal.exists() and journal.read_bytes().count(b'"event": "answered"') >= wanted:
                    process.kill()
                    kills += 1
                    break
                time.sleep(0.005)
            process.wait()
        report = run_limited(tmp_path, server.url, shared=4000).run()
    assert kills == 2
    assert (report.stopped, report.answered) == ("done", 120)
    assert all(row["status"] == "answered" for row in answers(tmp_path))
    assert max(server_side.most_within(span, at=at) for at in (0, 1)) <= 4000
    assert sum(tokens for *_, tokens, _ in server_side.calls) > 1.2 * 4000


def test_a_deadline_ends_the_wait_for_tokens(tmp_path, monkeypatch):
    monkeypatch.setattr(window, "MINUTE", 60.0)
    write(tmp_path, 60)
    server_side = Minutes()
    with misbehaving(server_side) as server:
        started = time.monotonic()
        report = run_limited(tmp_path, server.url, shared=1500, deadline=1.5).run()
    assert report.stopped == "deadline"
    assert time.monotonic() - started < 8.0
    assert 0 < report.answered < 60


def test_a_prompt_above_the_limit_is_refused_by_name(tmp_path):
    sum_tasks(tmp_path / "tasks.jsonl", 2)
    with misbehaving(Minutes()) as server:
        pool = Pool.load(
            pool_toml(tmp_path / "pool.toml", {"name": "a", "url": server.url, "tokens_per_minute": 5})
        )
        summary = collect(read_tasks(tmp_path / "tasks.jsonl"), pool, tmp_path / "out.jsonl")
        assert not server.requests
    (reason,) = summary.failures
    assert "above its 5 tokens per minute" in reason


@pytest.mark.parametrize("field", ["slots", "requests_per_minute", "tokens_per_minute"])
def test_a_limit_of_nothing_lets_nothing_through(tmp_path, field):
    sum_tasks(tmp_path / "tasks.jsonl", 2)
    with misbehaving(Minutes()) as server:
        pool = Pool.load(pool_toml(tmp_path / "pool.toml", {"name": "a", "url": server.url}))
        for closed in (pool.with_limits(Limit("gpu", ("a",), **{field: 0})), pool.replace("a", **{field: 0})):
            summary = collect(read_tasks(tmp_path / "tasks.jsonl"), closed, tmp_path / "out.jsonl")
            assert summary.failures == {"a: its limits let no call through": 2}
        assert not server.requests


def test_calls_wait_in_the_order_of_arrival_and_a_large_one_is_not_passed_by():
    async def run() -> list[str]:
        turns, order = Turns(tokens_per_minute=100), []

        async def call(name: str, tokens: int, seconds: float) -> None:
            turn = CallTurn(tokens)
            async with turns.one(turn):
                order.append(name)
                await asyncio.sleep(seconds)

        async with asyncio.TaskGroup() as group:
            for name, tokens in (("first", 60), ("large", 1000), ("small", 10)):
                group.create_task(call(name, tokens, 0.05))
                await asyncio.sleep(0.01)
        return order

    assert asyncio.run(run()) == ["first", "large", "small"]
