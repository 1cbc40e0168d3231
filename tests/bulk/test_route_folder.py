"""`eccos route --out-dir`: every form streams into parts; a kill loses and doubles nothing."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from eccos_rs.bulk.certificate import JointCertificate
from eccos_rs.bulk.job import FileJob
from eccos_rs.bulk.limits import check_policy, joint_capacity
from eccos_rs.bulk.source import Source, find_files
from eccos_rs.cli.main import main
from eccos_rs.errors import InputError, PolicyError
from eccos_rs.pools.pool import LLM, Limit, Pool
from eccos_rs.predict.protocol import Prediction
from eccos_rs.routing.policy import Policy
from eccos_rs.routing.router import Router

NAMES = ("small", "mid", "large")


class ByText:
    """Predicts from a hash of the text: quick, and the same in every process."""

    models = NAMES

    def predict(self, queries):
        seeds = [
            int.from_bytes(hashlib.blake2b(q.prompt.encode(), digest_size=4).digest(), "big") for q in queries
        ]
        rng = [np.random.default_rng(seed) for seed in seeds]
        quality = np.array([np.clip(each.normal([0.5, 0.65, 0.8], 0.15), 0, 1) for each in rng], np.float32)
        tokens = np.array([each.lognormal(5, 0.5, 3) for each in rng], np.float32).reshape(len(rng), 3)
        quality = quality.reshape(len(rng), 3)
        return Prediction(NAMES, quality, tokens, 0.1 * quality, 0.1 * tokens, np.full(len(rng), 20))


def router():
    prices = ((0.1, 0.4), (1.0, 4.0), (3.0, 12.0))
    return Router(Pool([LLM(name, *price) for name, price in zip(NAMES, prices, strict=True)]), ByText())


def test_a_capacity_that_nobody_has_is_refused_by_name():
    pool = router().pool.with_limits(Limit("gpu", ("small", "mid"), slots=2))
    with pytest.raises(PolicyError, match=r"'gpi', which is not in the pool"):
        joint_capacity(Policy(min_quality=0.5, capacity={"gpi": 3}), pool)


def test_models_that_share_a_limit_keep_to_a_capacity_together(tmp_path):
    source = folder_of_files(tmp_path / "in", 600)
    free = run(job(source, tmp_path / "free"))
    made = job(source, tmp_path / "out", policy=Policy(min_quality=0.65, capacity={"gpu": 60}))
    limit = Limit("gpu", ("mid", "large"), slots=2)  # whose slots are none of a file's
    made.router = Router(made.router.pool.with_limits(limit), ByText())
    summary = run(made)
    table = read(tmp_path / "out")
    assert table["model"].isin(["mid", "large"]).sum() == 60
    assert summary.status == "quality_unreachable"
    wider = job(source, tmp_path / "wide", policy=Policy(min_quality=0.65, capacity={"gpu": 250}))
    wider.router = made.router
    summary = run(wider)
    assert summary.status in ("optimal", "feasible")
    assert free.models["mid"] + free.models["large"] > 250 >= summary.models["mid"] + summary.models["large"]
    manifest = json.loads((tmp_path / "wide" / "manifest.json").read_text())
    assert manifest["certificate"]["shared"] == [{"name": "gpu", "models": [1, 2], "capacity": 250.0}]
    assert all(JointCertificate.from_dict(manifest["certificate"]).claims(1e-2))


def rows(n):
    return [{"id": f"r{at}", "query": f"Question {at}", "team": at % 7} for at in range(n)]


def folder_of_files(path, n=900):
    third = n // 3
    (path / "day=1").mkdir(parents=True)
    (path / "day=2").mkdir()
    made = rows(n)
    pd.DataFrame(made[:third]).to_parquet(path / "day=1" / "a.parquet", index=False, row_group_size=100)
    pd.DataFrame(made[third : 2 * third]).to_csv(path / "day=2" / "b.csv.gz", index=False)
    lines = "".join(json.dumps(row) + "\n" for row in made[2 * third :])
    (path / "day=2" / "c.jsonl").write_text(lines)
    return path


def job(source, out, **options):
    made = Source(find_files([source]), rows=options.pop("rows", 128))
    policy = check_policy(options.pop("policy", Policy(min_quality=0.65)), router().pool)
    return FileJob(made, router(), policy, out, **options)


def run(made, *, resume=False):
    made.open(resume=resume)
    return made.run()


def read(out):
    return pd.concat([pq.read_table(part).to_pandas() for part in sorted(out.glob("part-*.parquet"))])


def test_parts_hold_every_row_once_with_its_own_columns(tmp_path):
    source = folder_of_files(tmp_path / "in")
    summary = run(job(source, tmp_path / "out"))
    table = read(tmp_path / "out")
    assert list(table["id"]) == [row["id"] for row in rows(900)]
    assert set(table.columns) >= {"file", "row", "query", "team", "day", "model", "quality", "cost"}
    assert [str(team) for team in table["team"]] == [str(row["team"]) for row in rows(900)]
    assert set(table["day"]) == {"1", "2"}
    assert (summary.rows, summary.deferred, summary.parts) == (900, 0, 9)
    assert summary.cost == pytest.approx(table["cost"].sum())
    assert summary.quality == pytest.approx(table["quality"].mean())
    assert summary.quality >= 0.65 - 1e-9
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert [part["rows"] for part in manifest["outputs"]] == [128, 128, 44] * 3
    assert manifest["gap"] == summary.gap < 1e-3
    told = JointCertificate.from_dict(manifest["certificate"])
    assert all(told.claims(tolerance=1e-3))
    assert (told.cost, told.gap) == pytest.approx((summary.cost, summary.gap), rel=1e-6, abs=1e-9)
    # One call over all texts costs the same, within the gap.
    plan = router().route([row["query"] for row in rows(900)], min_quality=0.65)
    assert summary.cost == pytest.approx(plan.total_cost, rel=1e-3)


@pytest.mark.parametrize(
    "policy",
    [
        Policy(budget=0.2),
        Policy(quality_value=1e-3),
        Policy(relative_quality=0.9),
        Policy(min_quality=0.6, capacity={"large": 100}),
        Policy(min_quality=0.6, confidence=0.95),
    ],
)
def test_every_goal_holds_over_the_whole_folder(tmp_path, policy):
    source = folder_of_files(tmp_path / "in", 600)
    summary = run(job(source, tmp_path / "out", policy=policy))
    table = read(tmp_path / "out")
    assert len(table) == 600
    if policy.budget is not None:
        assert table["cost"].sum() <= 0.2 + 1e-12
    if policy.capacity:
        assert (table["model"] == "large").sum() <= 100
    if policy.min_quality is not None:
        assert table["quality"].mean() >= policy.min_quality - 1e-9
    assert summary.status in ("optimal", "feasible")


def test_shards_together_make_what_one_run_makes(tmp_path):
    source = folder_of_files(tmp_path / "in")
    run(job(source, tmp_path / "one"))
    first = job(source, tmp_path / "three", shard=(0, 3))
    waiting = run(first)
    assert (waiting.status, waiting.missing) == ("predicted", 6)
    for number in (1, 2):
        run(job(source, tmp_path / "three", shard=(number, 3)))
    assert not (tmp_path / "three" / "manifest.json").exists()
    for number in (0, 1):
        run(job(source, tmp_path / "three", shard=(number, 3)))
    assert (tmp_path / "three" / "manifest.json").exists()
    pd.testing.assert_frame_equal(read(tmp_path / "one"), read(tmp_path / "three"))


def test_another_run_is_not_mixed_in(tmp_path):
    source = folder_of_files(tmp_path / "in", 90)
    run(job(source, tmp_path / "out"))
    with pytest.raises(InputError, match="--resume goes on with it"):
        job(source, tmp_path / "out").open(resume=False)
    job(source, tmp_path / "out").open(resume=True)
    with pytest.raises(InputError, match="holds a run with other policy"):
        job(source, tmp_path / "out", policy=Policy(min_quality=0.7)).open(resume=True)
    (source / "day=2" / "c.jsonl").write_text('{"query": "changed"}\n')
    with pytest.raises(InputError, match="other files"):
        job(source, tmp_path / "out").open(resume=True)
    with pytest.raises(InputError, match="not empty"):
        job(source, source).open(resume=False)


def test_a_text_file_keeps_its_lines_and_json_lines_can_be_written(tmp_path):
    (tmp_path / "q.txt").write_text("One?\n\nTwo?\n")
    run(job(tmp_path / "q.txt", tmp_path / "out", form="jsonl", rows=1))
    told = [json.loads((tmp_path / "out" / f"part-0000{at}.jsonl").read_text()) for at in (0, 1)]
    assert [row["query"] for row in told] == ["One?", "Two?"]
    assert [row["row"] for row in told] == [1, 2]


def test_an_empty_file_is_an_empty_part(tmp_path):
    (tmp_path / "q.txt").write_text("")
    summary = run(job(tmp_path / "q.txt", tmp_path / "out"))
    assert (summary.rows, summary.parts) == (0, 1)


KILLED = """
import sys
from pathlib import Path
from tests.bulk.test_route_folder import job
made = job(Path(sys.argv[1]), Path(sys.argv[2]), rows=10)
made.open(resume=True)
made.run()
"""


@pytest.mark.timeout(300)  # each process takes seconds to start on a busy machine
def test_killed_again_and_again_no_row_is_lost_or_doubled(tmp_path):
    source, out = folder_of_files(tmp_path / "in", 900), tmp_path / "out"
    rng, kills = random.Random(0), 0
    line = [sys.executable, "-c", KILLED, str(source), str(out)]
    end = time.monotonic() + 60
    while kills < 12 and time.monotonic() < end and not (out / "manifest.json").exists():
        process = subprocess.Popen(line, env={**os.environ, "PYTHONPATH": os.getcwd()})
        seen = len(list(out.rglob("*.*"))) if out.exists() else 0
        more = rng.randint(1, 6)
        while process.poll() is None and not (out.exists() and len(list(out.rglob("*.*"))) >= seen + more):
            time.sleep(0.002)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.wait()
    subprocess.run(line, check=True, env={**os.environ, "PYTHONPATH": os.getcwd()})
    assert kills >= 2
    assert list(read(out)["id"]) == [row["id"] for row in rows(900)]
    run(job(source, tmp_path / "whole", rows=10))
    pd.testing.assert_frame_equal(read(out), read(tmp_path / "whole"))
    assert not list(out.rglob(".*"))


def command(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(each) for each in arguments])
    return ended.value.code or 0


def test_the_command(tmp_path, capsys):
    (tmp_path / "q.txt").write_text("What is 2 + 2?\nName a river.\n")
    made = ("route", tmp_path / "q.txt", "--out-dir", tmp_path / "out")
    assert command(*made) == 0
    assert "certified gap" in capsys.readouterr().out
    assert command(*made) == 2
    assert "--resume goes on with it" in capsys.readouterr().err
    assert command(*made, "--resume", "--json") == 0
    assert json.loads(capsys.readouterr().out)["rows"] == 2
    assert command("route", tmp_path / "q.txt", "--ray", "auto") == 2
    for wrong in (
        ("--ray", "auto", "--resume"),
        ("--shard", "3/2"),
        ("--shard", "x"),
        ("--live-limits",),
        ("-o", "x.jsonl"),
    ):
        assert command(*made, *wrong) == 2
    assert command("route", tmp_path / "q.txt", tmp_path / "q.txt") == 2
    assert command("route", tmp_path / "none", "--out-dir", tmp_path / "two") == 1
