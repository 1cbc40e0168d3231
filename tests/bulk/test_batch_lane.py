"""Rows that may wait go to a batch endpoint: once each, under the ceiling, in time, after kills."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest

from eccos_rs import Pool
from eccos_rs.bulk.execute import ExecuteOptions, Execution, capacity_until
from eccos_rs.bulk.job import FileJob
from eccos_rs.bulk.limits import check_policy
from eccos_rs.bulk.source import Source
from eccos_rs.predict.protocol import Prediction
from eccos_rs.records.collect.endpoint import Retry
from eccos_rs.routing.policy import Policy
from eccos_rs.routing.router import Router
from tests.bulk.test_execute import answers, write
from tests.helpers.batches import batch_provider
from tests.helpers.endpoints import pool_toml
from tests.helpers.paths import ROOT

if TYPE_CHECKING:
    from pathlib import Path

NAMES = ("small", "large", "large@batch")


class Lanes:
    """A model is as good in its batch lane; the small one knows every third question."""

    models = NAMES

    def predict(self, queries):
        n = len(queries)
        quality = np.tile(np.array([0.3, 0.9, 0.9], np.float32), (n, 1))
        quality[[query.prompt.endswith(("0", "3", "6", "9")) for query in queries], 0] = 0.95
        tokens = np.full((n, 3), 50, np.float32)
        return Prediction(NAMES, quality, tokens, 0.1 * quality, 0.1 * tokens, np.full(n, 20))


def execution(folder: Path, url: str, *, live: bool = True, hours: float = 24.0, **options):
    dear = {"name": "large", "url": url, "input_price": 3.0, "output_price": 12.0, "slots": 4}
    lane = {**dear, "input_price": 1.5, "output_price": 6.0, "lane": "batch", "lane_hours": hours}
    small = {"name": "small", "url": url, "input_price": 0.1, "output_price": 0.4, "slots": 4}
    pool = Pool.load(pool_toml(folder / "pool.toml", small, dear, lane))
    assert pool.names == NAMES
    source = Source([folder / "in.jsonl"], rows=20)
    deadline = options.get("deadline")
    held = {m.name: capacity_until(m, float("inf") if deadline is None else deadline) for m in pool}
    capacity = {name: most for name, most in held.items() if most < 1e18} or None
    policy = check_policy(Policy(min_quality=0.9, capacity=capacity), pool)
    job = FileJob(source, Router(pool, Lanes()), policy, folder / "out")
    job.open(resume=True)
    _, answer, parts = job.plan()
    quick = {"retry": Retry(2, 0.01, 0.05), "timeout": 10.0, "batch_poll": 0.05, "max_output_tokens": 64}
    return Execution(job, parts, answer, ExecuteOptions(**{**quick, **options}))


def test_rows_that_may_wait_go_to_the_batch_lane(tmp_path):
    write(tmp_path, 50)
    with batch_provider() as provider:
        report = execution(tmp_path, provider.url).run()
        batched, asked = provider.batched, provider.asked
        again = execution(tmp_path, provider.url).run()
        assert (len(provider.batched), len(provider.asked)) == (len(batched), len(asked))
    assert (report.stopped, report.answered, report.rows) == ("done", 50, 50)
    assert sorted([*batched, *asked]) == sorted(f"Question {at}" for at in range(50))
    assert report.batched == len(batched) > 20
    assert report.models == {"small": len(asked), "large@batch": len(batched)}
    rows = answers(tmp_path)
    assert [row["id"] for row in rows] == [f"r{at}" for at in range(50)]
    for row in rows:
        way = "batched" if row["model"] == "large@batch" else "live"
        assert row["answer"] == f"{way}: {row['query']}"
    # 30 tokens in and 4 out, at half the price in the lane.
    assert report.spent_usd == pytest.approx(
        len(batched) * (30 * 1.5 + 4 * 6) / 1e6 + len(asked) * (30 * 0.1 + 4 * 0.4) / 1e6
    )
    assert (again.stopped, again.found, again.batched) == ("done", 50, len(batched))


def test_what_a_batch_does_not_bring_is_asked_live(tmp_path):
    write(tmp_path, 30)
    fails = frozenset({"Question 1", "Question 2"})
    with batch_provider(fails=fails) as provider:
        report = execution(tmp_path, provider.url).run()
        assert fails <= set(provider.asked)
    assert (report.stopped, report.answered) == ("done", 30)
    assert report.moved == 2
    rows = {row["query"]: row for row in answers(tmp_path)}
    assert rows["Question 1"]["model"] == "large"
    assert rows["Question 4"]["model"] == "large@batch"


@pytest.mark.parametrize("ways", [{"refuses": True}, {"ends_as": "failed"}])
def test_a_lane_that_is_closed_falls_back(tmp_path, ways):
    write(tmp_path, 30)
    everything = frozenset(f"Question {at}" for at in range(30))
    with batch_provider(**{**ways, "unfinished": everything}) as provider:
        report = execution(tmp_path, provider.url).run()
        assert sorted(provider.asked) == sorted(everything)
    assert (report.answered, report.batched) == (30, 0)
    assert any("batch" in error for error in report.failures)


def test_before_the_deadline_a_batch_is_cancelled_and_the_rest_asked_live(tmp_path):
    """The batch would take for ever; what it has by then is kept, and paid for once."""
    write(tmp_path, 30)
    unfinished = frozenset({"Question 1", "Question 4", "Question 7"})
    with batch_provider(seconds=1e9, unfinished=unfinished) as provider:
        run = execution(tmp_path, provider.url, hours=0.001, deadline=16.0)
        started = time.monotonic()
        report = run.run()
        assert time.monotonic() - started < 16.0
        assert unfinished <= set(provider.asked)
        assert len(set(provider.asked)) == len(provider.asked)
        assert {batch["status"] for batch in provider.batches.values()} == {"cancelled"}
    assert (report.stopped, report.answered) == ("done", 30)
    assert report.batched > 10


def test_a_deadline_before_the_lanes_hours_plans_live(tmp_path):
    write(tmp_path, 30)
    with batch_provider() as provider:
        report = execution(tmp_path, provider.url, hours=24.0, deadline=600.0).run()
        assert provider.batches == {}
    assert (report.answered, report.batched) == (30, 0)
    assert set(report.models) == {"small", "large"}


def test_the_ceiling_holds_for_batches(tmp_path):
    write(tmp_path, 30)
    with batch_provider() as provider:
        report = execution(tmp_path, provider.url, max_cost=0.0005).run()
        assert provider.batches == {}
    assert report.stopped == "max_cost"
    assert report.spent_usd + report.unsure_usd <= 0.0005


KILLED = """
import sys
from pathlib import Path
from tests.bulk.test_batch_lane import execution
execution(Path(sys.argv[1]), sys.argv[2]).run()
"""


def test_a_killed_run_takes_up_its_batches_and_asks_nothing_twice(tmp_path):
    """Killed at every event of the journal that has to do with batches, before and after they are begun."""
    write(tmp_path, 40)
    journal = tmp_path / "out" / "_eccos" / "run.journal.jsonl"
    with batch_provider(seconds=3.0) as provider:
        kills = 0
        for mark, count in ((b'"batching"', 1), (b'"batched"', 1), (b'"batched"', 2), (b'"batch":', 9)):
            process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path), provider.url], cwd=ROOT)
            while process.poll() is None:
                if journal.exists() and journal.read_bytes().count(mark) >= count:
                    process.send_signal(signal.SIGKILL)
                    kills += 1
                    break
                time.sleep(0.002)
            process.wait()
        report = execution(tmp_path, provider.url).run()
        batched = provider.batched
    assert kills >= 3
    assert (report.stopped, report.answered) == ("done", 40)
    # No question is in two batches: a batch that was begun is found again, one that was not was never sent.
    assert len(set(batched)) == len(batched)
    assert [row["id"] for row in answers(tmp_path)] == [f"r{at}" for at in range(40)]
    events = [json.loads(line) for line in journal.read_text().splitlines()[1:]]
    done = [event["row"] for event in events if event["event"] == "answered"]
    assert len(done) == len(set(done)) == 40
    assert report.spent_usd == pytest.approx(sum(row["cost_usd"] for row in answers(tmp_path)))
