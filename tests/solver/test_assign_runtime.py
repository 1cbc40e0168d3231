"""What surrounds a solve: threads, Python's lock, Ctrl-C, limits, warm starts, the answer as an object."""

from __future__ import annotations

import copy
import dataclasses
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
import time
from typing import Any

import numpy as np
import pytest

import eccos_rs
from eccos_rs import Assignment, Status, assign, certify
from eccos_rs.solver import assignment
from eccos_rs.solver.certificate import CheckedClaim
from tests.helpers import problems
from tests.helpers.paths import ROOT


def made(n: int, m: int, **how: Any) -> dict[str, Any]:
    instance = problems.make(n, m, **how)
    return {"cost": instance.cost, "quality": instance.quality, **instance.keywords}


HARD: dict[str, Any] = {"n": 400, "m": 10, "kind": "knn16", "seed": 1}
"""Qualities in sixteenths: branching cannot finish, so a solve with tolerance 0 lasts as long as it may."""


def same_bytes(a: Assignment, b: Assignment) -> None:
    for field in dataclasses.fields(Assignment):
        if field.name == "seconds":
            continue
        x, y = getattr(a, field.name), getattr(b, field.name)
        assert pickle.dumps(x) == pickle.dumps(y), field.name


@pytest.mark.parametrize(("n", "m", "kind"), [(64, 6, "base"), (1024, 10, "knn16"), (70_000, 10, "base")])
def test_same_bytes_at_any_number_of_threads(n: int, m: int, kind: str) -> None:
    problem = made(n, m, kind=kind, seed=1)
    one = assign(**problem, threads=1)
    for threads in (1, 2, 5, None):
        same_bytes(one, assign(**problem, threads=threads))


def test_the_interpreter_is_let_go() -> None:
    """A counting thread goes on while the solver works."""
    problem = made(**HARD)
    count, stop = 0, threading.Event()

    def tick() -> None:
        nonlocal count
        while not stop.is_set():
            count += 1
            time.sleep(0.001)

    thread = threading.Thread(target=tick)
    thread.start()
    before = count
    found = assign(**problem, tolerance=0.0, node_limit=10**9, time_limit=0.4)
    during = count - before
    stop.set()
    thread.join()
    assert found.seconds >= 0.3, "the solve was too short to show anything"
    # With the lock held it could count once at most; a busy machine leaves it fewer than one a millisecond.
    assert during >= 5


def test_a_time_limit_returns_the_best_so_far_with_its_gap() -> None:
    problem = made(**HARD)
    found = assign(**problem, tolerance=0.0, node_limit=10**9, time_limit=0.2)
    assert found.interrupted
    assert found.seconds < 2.0
    assert found.status == Status.FEASIBLE
    assert 0 < found.gap < 1e-2
    assert certify(assignment=found, **problem, tolerance=0.0)


def test_no_time_at_all_still_answers() -> None:
    problem = made(20_000, 10, seed=1)
    found = assign(**problem, time_limit=0.0)
    assert found.interrupted
    assert certify(assignment=found, **problem), certify(assignment=found, **problem)


@pytest.mark.parametrize("how", [{}, {"load": 1.05}, {"weights": "tokens"}, {"forbid": 0.3}], ids=str)
@pytest.mark.parametrize("goal", ["min_quality", "budget"])
def test_a_rounding_at_sampled_prices_keeps_every_limit(goal: str, how: dict[str, Any]) -> None:
    """No time for a pass: prices of a sample, one pass, and what then misses a limit is moved."""
    made = problems.make(30_000, 10, seed=3, **how)
    problem = {"cost": made.cost, "quality": made.quality, **made.keywords}
    if goal == "budget":
        problem["budget"] = assign(**problem).cost
        del problem["min_quality"]
    found = assign(**problem, time_limit=0.0)
    assert found.interrupted
    assert found.status is Status.FEASIBLE
    assert found.gap < 0.05
    proof = certify(assignment=found, **problem)
    assert proof, proof


def test_a_node_limit_ends_the_branching() -> None:
    problem = made(**HARD)
    few = assign(**problem, tolerance=0.0, node_limit=50)
    assert few.nodes <= 50
    assert not few.proven
    assert certify(assignment=few, **problem, tolerance=0.0)


SCRIPT = """
    import sys, time
    sys.path.insert(0, {root!r})
    from tests.helpers import problems
    from eccos_rs import assign
    made = problems.make({n}, {m}, {kind!r}, seed={seed})
    print("ready", flush=True)
    start = time.monotonic()
    try:
        assign(made.cost, made.quality, **made.keywords, tolerance=0.0, node_limit=10**9, time_limit=60)
    except KeyboardInterrupt:
        print("interrupted", time.monotonic() - start, flush=True)
    else:
        print("ran through", flush=True)
"""


@pytest.mark.skipif(os.name == "nt", reason="sends SIGINT")
def test_ctrl_c_ends_a_long_solve() -> None:
    script = textwrap.dedent(SCRIPT).format(root=str(ROOT), **HARD)
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        said = process.stdout.readline().split()
    assert said[0] == "interrupted"
    assert float(said[1]) < 5.0


def test_a_warm_start_changes_nothing_but_the_work() -> None:
    problem = made(1024, 10, seed=1)
    cold = assign(**problem)
    changed = {**problem, "min_quality": problem["min_quality"] + 0.002}
    warm = assign(**changed, warm_start=cold)
    plain = assign(**changed)
    assert warm.dual_bound == pytest.approx(plain.dual_bound, rel=1e-9)
    assert warm.gap < 1e-3
    assert warm.steps < plain.steps
    assert certify(assignment=warm, **changed)


def test_a_warm_start_of_another_shape_or_mode_is_left_out() -> None:
    problem = made(64, 6, seed=1)
    cold = assign(**problem)
    other = assign(**made(64, 10, seed=1))
    budget = assign(problem["cost"], problem["quality"], budget=float(problem["cost"].sum() / 6))
    for start in (other, budget):
        same_bytes(cold, assign(**problem, warm_start=start))


def test_an_assignment_is_frozen_read_only_and_picklable() -> None:
    found = assign(**made(64, 6, seed=1), alternatives=True)
    for part in (found, found.duals, found.alternatives):
        assert set(vars(part)) == {field.name for field in dataclasses.fields(part)}  # type: ignore[arg-type]
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.cost = 0.0  # type: ignore[misc]
    for again in (found, pickle.loads(pickle.dumps(found)), copy.deepcopy(found), copy.copy(found)):
        assert isinstance(again, Assignment)
        same_bytes(found, again)
        assert again.status is found.status
        assert again.alternatives is not None
        for array in (again.model, again.capacity_price, again.duals.capacity, again.alternatives.model):
            with pytest.raises(ValueError, match="read-only"):
                array[0] = 1
    assert found.model.dtype == np.int32
    assert found.capacity_price.shape == (6,)


def test_representations() -> None:
    found = assign(**made(64, 6, seed=1))
    assert repr(found).startswith(f"Assignment({found.status}: 64 queries, cost $")
    assert repr(found).endswith(" ms)")
    assert "\n" not in repr(found)
    page = found._repr_html_()
    assert page.startswith("<table>")
    assert f"<td>{found.status}</td>" in page
    cut = assign([[1.0]] * 2, [[1.0]] * 2, min_quality=0.5, capacity=[1.0])
    assert "2 queries, 1 deferred" in repr(cut)
    assert "do not fit" in cut._repr_html_()
    assert "1 query," in repr(assign([[1.0]], [[1.0]], min_quality=0.5))


def test_no_queries() -> None:
    found = assign(np.zeros((0, 3)), np.zeros((0, 3)), min_quality=0.5, capacity=[1, 1, 1], alternatives=True)
    assert found.status == Status.OPTIMAL
    assert found.model.shape == (0,)
    assert (found.cost, found.gap, found.violation) == (0.0, 0.0, 0.0)
    assert np.isnan(found.quality)
    assert certify(np.zeros((0, 3)), np.zeros((0, 3)), found, min_quality=0.5, capacity=[1, 1, 1])


def test_many_threads_of_python_solve_at_once() -> None:
    problem = made(256, 10, seed=1)
    expected = assign(**problem)
    answers: list[Assignment] = []

    def work() -> None:
        answers.extend(assign(**problem) for _ in range(20))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 80
    for answer in answers:
        same_bytes(expected, answer)


MEMORY = """
    import sys
    import numpy as np
    from eccos_rs import assign

    def size(name):
        return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(name))

    g = np.random.default_rng(1)
    n, m = 1_000_000, 10
    skill = np.linspace(0.2, 0.8, m, dtype=np.float32)
    quality = np.clip(skill + 0.2 * g.standard_normal((n, m), dtype=np.float32), 0, 1)
    cost = g.random((n, m), dtype=np.float32) * (skill * 1e-3)
    assign(cost[:1000], quality[:1000], min_quality=0.6)
    open("/proc/self/clear_refs", "w").write("5")  # the peak starts anew
    before = size("VmRSS")
    found = assign(cost, quality, min_quality=0.6, capacity=np.full(m, 0.15 * n), threads=1)
    assert found.status == "optimal", found
    print(size("VmHWM") - before)
"""


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="needs /proc to see the peak")
def test_little_memory_beyond_the_input() -> None:
    """A million queries and ten models take no more than 40 MB beyond the input."""
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(MEMORY)], capture_output=True, text=True, check=True
    )
    assert int(run.stdout) <= 40 * 1024


def test_the_version_has_one_home() -> None:
    from eccos_rs import _core

    assert eccos_rs.__version__ == _core.__version__


def test_goal_and_criterion_have_their_names_and_the_old_ones_still_work() -> None:
    found = assign([[1.0, 2.0]], [[0.5, 0.9]], quality_value=1e6)
    assert (found.goal, found.criterion) == ("quality_value", "value")
    with pytest.warns(DeprecationWarning, match=r"Assignment.mode is deprecated: use Assignment.goal"):
        assert found.mode == "price"
    with pytest.warns(DeprecationWarning, match=r"assignment.Claim is deprecated: use CheckedClaim"):
        assert assignment.Claim is CheckedClaim
    with pytest.warns(DeprecationWarning, match="use Assignment.criterion"):
        assert found.aim == "value"
