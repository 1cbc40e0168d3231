"""`eccos run` against real endpoints over HTTP that misbehave: once each, never above the ceiling."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from eccos_rs.bulk.execute import ExecuteOptions, Execution
from eccos_rs.bulk.job import FileJob
from eccos_rs.bulk.limits import check_policy
from eccos_rs.bulk.source import Source
from eccos_rs.cli.main import main
from eccos_rs.errors import InputError
from eccos_rs.pools.pool import Limit, Pool
from eccos_rs.records.collect.endpoint import Retry
from eccos_rs.routing.policy import Policy
from eccos_rs.routing.router import Router
from tests.bulk.test_route_folder import NAMES, ByText
from tests.helpers.endpoints import misbehaving, pool_toml

if TYPE_CHECKING:
    from pathlib import Path

QUICK = Retry(attempts=3, first_wait=0.01, longest_wait=0.05)
PRICES = {"small": (0.1, 0.4), "mid": (1.0, 4.0), "large": (3.0, 12.0)}


def execution(folder: Path, url: str, policy=None, dead=(), **options):
    models = [
        {
            "name": name,
            "url": "http://127.0.0.1:9/v1" if name in dead else url,
            "input_price": price[0],
            "output_price": price[1],
            "slots": 4,
        }
        for name, price in PRICES.items()
    ]
    pool = Pool.load(pool_toml(folder / "pool.toml", *models))
    source = Source([folder / "in.jsonl"], rows=20)
    job = FileJob(
        source, Router(pool, ByText()), check_policy(policy or Policy(min_quality=0.65), pool), folder / "out"
    )
    job.open(resume=True)
    _, answer, parts = job.plan()
    return Execution(job, parts, answer, ExecuteOptions(**{"retry": QUICK, "timeout": 10.0, **options}))


def write(folder: Path, n: int) -> Path:
    lines = (json.dumps({"id": f"r{at}", "query": f"Question {at}", "team": at}) + "\n" for at in range(n))
    (folder / "in.jsonl").write_text("".join(lines))
    return folder


def answers(folder: Path):
    return [
        json.loads(line)
        for part in sorted((folder / "out").glob("answers-*.jsonl"))
        for line in part.read_text().splitlines()
    ]


def asked(server):
    return [request.body["messages"][0]["content"] for request in server.requests]


def test_models_that_share_a_limit_keep_to_its_slots_and_pace_together(tmp_path):
    write(tmp_path, 24)

    def slow(handler, _):
        time.sleep(0.05)
        handler.answer()

    with misbehaving(slow) as server:
        run = execution(tmp_path, server.url, concurrency=8)
        narrow = run.job.router.pool.with_limits(Limit("gpu", NAMES, slots=2))
        run.job.router = Router(narrow, ByText())
        assert run.run().stopped == "done"
    assert len(server.requests) == 24
    assert server.most_running == 2
    (tmp_path / "paced").mkdir()
    write(tmp_path / "paced", 6)
    with misbehaving(lambda handler, _: handler.answer()) as server:
        run = execution(tmp_path / "paced", server.url)
        paced = run.job.router.pool.with_limits(Limit("org", NAMES, requests_per_minute=600))
        run.job.router = Router(paced, ByText())
        run.run()
    times = [request.at for request in server.requests]
    # Six calls a tenth of a second apart; the first may be held up by its connection.
    assert times[-1] - times[0] >= 0.3


def test_every_row_is_asked_once_and_written_with_its_columns(tmp_path):
    write(tmp_path, 50)
    with misbehaving(lambda handler, _: handler.answer("yes")) as server:
        report = execution(tmp_path, server.url).run()
        assert sorted(asked(server)) == sorted(f"Question {at}" for at in range(50))
        again = execution(tmp_path, server.url).run()
        assert len(server.requests) == 50
    assert (report.stopped, report.rows, report.answered) == ("done", 50, 50)
    assert (again.stopped, again.found) == ("done", 50)
    rows = answers(tmp_path)
    assert [row["id"] for row in rows] == [f"r{at}" for at in range(50)]
    assert all(row["status"] == "answered" and row["answer"] == "yes" and "team" in row for row in rows)
    assert report.spent_usd == pytest.approx(sum(row["cost_usd"] for row in rows))
    assert json.loads((tmp_path / "out" / "report.json").read_text())["answered"] == 50
    assert sum(report.models.values()) == 50


def test_a_dead_model_is_left_for_the_next_best(tmp_path):
    write(tmp_path, 30)
    with misbehaving(lambda handler, _: handler.answer("yes")) as server:
        report = execution(tmp_path, server.url, dead=("mid", "large"), policy=Policy(min_quality=0.75)).run()
    assert (report.stopped, report.answered) == ("done", 30)
    assert report.models == {"small": 30}
    assert report.moved > 0
    assert report.unsure_usd == 0


def test_the_ceiling_is_never_passed_and_the_run_goes_on_under_a_higher_one(tmp_path):
    write(tmp_path, 40)
    with misbehaving(lambda handler, _: handler.answer("yes", completion_tokens=30)) as server:
        low = execution(tmp_path, server.url, max_cost=0.002, max_output_tokens=64).run()
        assert low.stopped == "max_cost"
        assert 0 < low.answered < 40
        assert low.spent_usd + low.unsure_usd <= 0.002
        assert [row["status"] for row in answers(tmp_path)].count("missing") == 40 - low.answered
        high = execution(tmp_path, server.url, max_cost=1.0, max_output_tokens=64).run()
    assert (high.stopped, high.found, len(server.requests)) == ("done", low.answered, 40)


def test_a_deadline_ends_the_asking(tmp_path):
    write(tmp_path, 40)

    def slow(handler, _):
        time.sleep(0.2)
        handler.answer("yes")

    with misbehaving(slow) as server:
        report = execution(tmp_path, server.url, deadline=0.5).run()
    assert report.stopped == "deadline"
    assert report.answered < 40


def test_cut_answers_are_asked_again_with_a_higher_limit(tmp_path):
    write(tmp_path, 3)

    def long_winded(handler, request):
        whole = request.body["max_tokens"] >= 40
        handler.answer("whole" if whole else "ha", "stop" if whole else "length", completion_tokens=16)

    with misbehaving(long_winded) as server:
        report = execution(tmp_path, server.url, max_output_tokens=20).run()
        assert (report.answered, report.cut, len(server.requests)) == (3, 0, 6)
        assert {row["answer"] for row in answers(tmp_path)} == {"whole"}
    assert report.spent_usd > sum(row["cost_usd"] for row in answers(tmp_path))


def test_a_bad_option_is_named():
    with pytest.raises(InputError, match="in_doubt: got 'maybe'"):
        ExecuteOptions(in_doubt="maybe")
    with pytest.raises(InputError, match="max_cost: got -1"):
        ExecuteOptions(max_cost=-1)


def test_the_command_plans_and_carries_out(tmp_path, capsys):
    write(tmp_path, 6)

    def command(*more):
        with pytest.raises(SystemExit) as ended:
            main(["run", str(tmp_path / "in.jsonl"), "--pool", str(tmp_path / "pool.toml"), *more])
        return ended.value.code or 0

    with misbehaving(lambda handler, _: handler.answer("yes")) as server:
        pool_toml(
            tmp_path / "pool.toml",
            *({"name": name, "url": server.url} for name in ("gpt-4o", "llama-3.1-8b")),
        )
        out = ("--out-dir", str(tmp_path / "done"), "--budget", "0.05")
        assert command(*out, "--dry-run", "--json") == 0
        assert json.loads(capsys.readouterr().out)["rows"] == 6
        assert not server.requests
        assert command(*out, "--json") == 0
        report = json.loads(capsys.readouterr().out)
        assert (report["stopped"], report["answered"], len(server.requests)) == ("done", 6, 6)
        assert command(*out, "--in-doubt", "maybe") == 2
    assert len(list((tmp_path / "done").glob("answers-*.jsonl"))) == 1


def test_the_plan_gives_models_that_share_a_rate_no_more_rows_than_come_in_time(tmp_path, capsys):
    write(tmp_path, 12)
    names = ("gpt-4o", "gpt-4o-mini", "llama-3.1-8b")
    pool = Pool.load(pool_toml(tmp_path / "pool.toml", *({"name": n, "url": "http://x/v1"} for n in names)))
    pool = pool.with_limits(Limit("openai", names[:2], requests_per_minute=30))
    (tmp_path / "pool.toml").write_text(pool.to_toml())

    def planned(folder, *more):
        line = [
            "run",
            str(tmp_path / "in.jsonl"),
            "--pool",
            str(tmp_path / "pool.toml"),
            "--dry-run",
            "--json",
        ]
        with pytest.raises(SystemExit):
            main([*line, "--out-dir", str(tmp_path / folder), "--relative-quality", "1", *more])
        models = json.loads(capsys.readouterr().out)["models"]
        return sum(models.get(name, 0) for name in names[:2])

    assert planned("free") > 8
    # 30 a minute are 4 within 8 seconds.
    assert planned("limited", "--deadline", "8") == 4


KILLED = """
import sys
from pathlib import Path
from tests.bulk.test_execute import execution
print(execution(Path(sys.argv[1]), sys.argv[2], in_doubt=sys.argv[3]).run().to_dict())
"""


@pytest.mark.timeout(300)  # each process takes seconds to start on a busy machine
@pytest.mark.parametrize("in_doubt", ["retry", "skip"])
def test_killed_with_faults_every_row_is_written_once(tmp_path, in_doubt):
    write(tmp_path, 120)
    rng = random.Random(1)

    def faulty(handler, request):
        time.sleep(0.01)
        if rng.random() < 0.05:
            handler.refuse(503)
        else:
            handler.answer("yes")

    kills, journal = 0, tmp_path / "out" / "_eccos" / "run.journal.jsonl"
    with misbehaving(faulty) as server:
        line = [sys.executable, "-c", KILLED, str(tmp_path), server.url, in_doubt]
        for wanted in (20, 60, 90):
            process = subprocess.Popen(
                line, env={**os.environ, "PYTHONPATH": os.getcwd()}, stdout=subprocess.DEVNULL
            )
            while process.poll() is None:
                if journal.exists() and journal.read_bytes().count(b'"event": "answered"') >= wanted:
                    process.send_signal(signal.SIGKILL)
                    kills += 1
                    break
                time.sleep(0.002)
            process.wait()
        report = execution(tmp_path, server.url, in_doubt=in_doubt).run()
        acknowledged = len(server.answered)
    assert kills >= 1
    rows = answers(tmp_path)
    assert [row["id"] for row in rows] == [f"r{at}" for at in range(120)]
    missing = [row for row in rows if row["status"] != "answered"]
    # At most the calls under way at each kill are in doubt: 3 models of 4 slots.
    if in_doubt == "retry":
        assert not missing
        assert acknowledged <= 120 + kills * 12
    else:
        assert len(missing) == report.in_doubt <= kills * 12
        assert all(row["status"] == "in doubt" for row in missing)
        assert acknowledged <= 120
    events = [json.loads(line) for line in journal.read_text().splitlines()[1:]]
    done = [event["row"] for event in events if event["event"] == "answered"]
    assert len(done) == len(set(done)) == 120 - len(missing)
    assert set(NAMES) >= set(report.models)
