"""Ray on a real local cluster of two nodes: the answer of one process, also when a node dies half way."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile

import pytest

from tests.bulk.test_route_folder import rows
from tests.helpers.paths import ROOT

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="pip install 'eccos-rs[ray]'"),
    pytest.mark.timeout(600),  # a busy machine starts its nodes slowly
]

ROWS = 6_000

# In a process of its own: Ray installs signal handlers and threads that other tests must not meet.
SCRIPT = """
import json, sys, threading, time
from pathlib import Path
import numpy as np, pyarrow.parquet as pq
import ray, ray.data
from ray.cluster_utils import Cluster

sys.path.insert(0, {root!r})
from eccos_rs.bulk.certificate import JointCertificate
from eccos_rs.bulk.joint import solve_shards
from eccos_rs.bulk.passes import Goal, LocalPasses
from eccos_rs.errors import EccosError
from eccos_rs.integrations.ray import RayPasses, route, route_files
from eccos_rs.integrations.ray_actors import read_rows
from eccos_rs.bulk.source import Source, find_files
from eccos_rs.routing.policy import Policy
from tests.bulk.test_route_folder import ByText, folder_of_files, router, rows

SMALL = {{"num_cpus": 2, "object_store_memory": 80_000_000}}
folder = Path(sys.argv[1])


class Slow(ByText):
    def predict(self, queries):
        time.sleep(0.5)
        return super().predict(queries)


def slow_router():
    from eccos_rs.routing.router import Router
    return Router(router().pool, Slow())


class OnDisk:
    def __init__(self, file):
        self.file = file

    def load(self):
        return read_rows(self.file)


class Killing(RayPasses):
    # Loses a node after the first pass.
    def sums(self, *arguments):
        found = super().sums(*arguments)
        if self.lose is not None:
            cluster.remove_node(self.lose, allow_graceful=False)
            self.lose = None
        return found


def refused(**options):
    try:
        route(**options)
    except EccosError as error:
        return f"{{type(error).__name__}}: {{error}}"
    return None


cluster = Cluster(initialize_head=True, head_node_args={{**SMALL, "include_dashboard": False}})
second = cluster.add_node(**SMALL)
ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
told = {{}}

# A node is lost while rows are predicted.
data = ray.data.from_items(rows({rows}), override_num_blocks=10)
def lose():
    while not list((folder / "work" / "predicted").glob("*.parquet")):
        time.sleep(0.05)
    told["predicted when killed"] = len(list((folder / "work" / "predicted").glob("*.parquet")))
    cluster.remove_node(second, allow_graceful=False)
thread = threading.Thread(target=lose)
thread.start()
found = route(data, work=folder / "work", router=slow_router, min_quality=0.65, num_cpus=0.5)
thread.join()
table = pq.read_table(sorted(found.path.glob("*.parquet"))).to_pylist()
told |= {{"summary": found.summary.to_dict(), "rows": table}}
told["claims"] = [claim.holds for claim in found.certificate.claims()]
files = sorted(found.predicted.glob("*.parquet"))

# A node is lost between two passes: the same answer as in one process, to the last bit.
third = cluster.add_node(**SMALL)
goal = Goal("min_quality", 0.65)
with Killing(files, 3, workers=4) as passes:
    passes.lose = third
    ours = solve_shards(passes, goal, sample=300, listed=800)
here = solve_shards(LocalPasses([OnDisk(file) for file in files]), goal, sample=300, listed=800)
told["one process"] = [here.cost, here.bound, here.quality, here.passes]
told["cluster"] = [ours.cost, ours.bound, ours.quality, ours.passes]

# The certificate is checked again from the files, part by part.
said = JointCertificate.from_dict(json.loads((found.path / "manifest.json").read_text())["certificate"])
names = ["small", "mid", "large"]
checks = []
for number, file in enumerate(files):
    models = pq.read_table(found.path / file.name, columns=["model"])["model"].to_pylist()
    checks.append(said.check(number, read_rows(file), np.array([names.index(name) for name in models])))
told["checks"] = [check.holds for check in checks]
moved = np.array([names.index(name) for name in models])
moved[0] = (moved[0] + 1) % 3
told["moved"] = said.check(len(files) - 1, read_rows(files[-1]), moved).detail

wrong = [{{"query": "Why?", "min_quality": 0.1 + at}} for at in range(2)]
told["refused"] = {{
    "row": refused(dataset=ray.data.from_items(wrong), router=router, budget=1.0, num_cpus=0.5),
    "cpus": refused(dataset=data, router=router, num_cpus=64),
    "folder": refused(dataset=data, router=router, work=folder / "work", num_cpus=0.5),
    "model": refused(dataset=data, router=router, capacity={{"none": 1}}),
}}
address = cluster.address
ray.shutdown()
source = Source(find_files([folder_of_files(folder / "in", 300)]), rows=60)
found = route_files(source, router(), Policy(budget=0.1), folder / "files", address)
table = pq.read_table(sorted(found.path.glob("*.parquet"))).to_pylist()
told["files"] = {{"summary": found.summary.to_dict(), "rows": table}}
print("told " + json.dumps(told, default=str))
cluster.shutdown()
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ray")
    short = tempfile.mkdtemp(prefix="ray-")  # the names of Ray's sockets are long, and may not be too long
    line = [sys.executable, "-W", "ignore", "-c", SCRIPT.format(root=str(ROOT), rows=ROWS), str(folder)]
    environment = {
        **os.environ, "RAY_raylet_start_wait_time_s": "150", "RAY_DISABLE_IMPORT_WARNING": "1",
        "RAY_USAGE_STATS_ENABLED": "0", "RAY_TMPDIR": short,
    }  # fmt: skip
    done = subprocess.run(
        line, env=environment, capture_output=True, text=True, timeout=560, check=False, cwd=ROOT
    )
    shutil.rmtree(short, ignore_errors=True)
    assert done.returncode == 0, done.stderr[-4000:]
    (found,) = [each for each in done.stdout.splitlines() if each.startswith("told ")]
    return json.loads(found[5:])


def test_a_node_lost_while_predicting_loses_and_doubles_no_row(told):
    from tests.bulk.test_route_folder import router

    assert told["predicted when killed"] < 5
    table, summary = told["rows"], told["summary"]
    assert sorted(row["id"] for row in table) == sorted(row["id"] for row in rows(ROWS))
    assert {row["id"]: row["team"] for row in table} == {row["id"]: row["team"] for row in rows(ROWS)}
    assert sum(row["cost"] for row in table) == pytest.approx(summary["cost"], rel=1e-9)
    assert sum(row["quality"] for row in table) / ROWS == pytest.approx(summary["quality"], rel=1e-6)
    assert summary["quality"] >= 0.65 - 1e-9
    plan = router().route([row["query"] for row in rows(ROWS)], min_quality=0.65, tolerance=1e-6)
    assert summary["cost"] == pytest.approx(plan.total_cost, rel=1e-4)
    assert summary["gap"] <= 1e-4


def test_a_node_lost_between_passes_changes_nothing(told):
    assert told["cluster"] == told["one process"]
    assert told["cluster"][-1] >= 2


def test_the_certificate_is_checked_part_by_part(told):
    assert told["claims"] == [True, True, True]
    assert len(told["checks"]) == 5
    assert all(told["checks"])
    assert "said" in told["moved"]


def test_what_is_wrong_is_said_without_ray_s_page(told):
    refused = told["refused"]
    assert refused["row"].startswith("QueryError: row ")
    assert "min_quality" in refused["row"]
    assert "\n" not in refused["row"]
    assert "an actor that predicts takes num_cpus=64" in refused["cpus"]
    assert "wanted a new or empty folder" in refused["folder"]
    assert refused["model"].startswith("PolicyError: capacity names 'none'")


def test_files_of_several_forms_are_routed_on_the_cluster(told):
    table, summary = told["files"]["rows"], told["files"]["summary"]
    assert sorted(row["id"] for row in table) == sorted(row["id"] for row in rows(300))
    assert {row["day"] for row in table} == {"1", "2"}
    assert {row["id"]: row["team"] for row in table} == {row["id"]: str(row["team"]) for row in rows(300)}
    assert sorted({row["file"] for row in table}) == ["a.parquet", "b.csv.gz", "c.jsonl"]
    assert summary["cost"] <= 0.1
    assert summary["status"] in ("optimal", "feasible")
