"""The certificate confirms what is true, and finds every kind of lie."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import numpy as np
import pytest

from eccos_rs import Assignment, Status, assign, certify
from eccos_rs.errors import ProblemError
from tests.helpers import problems

INSTANCE = problems.make(120, 6, seed=4, load=1.2, tight=0.7)
PROBLEM: dict[str, Any] = {"cost": INSTANCE.cost, "quality": INSTANCE.quality, **INSTANCE.keywords}
ANSWER = assign(**PROBLEM)


def judge(**changes: Any) -> list[str]:
    """Names of the claims that fail when some fields are changed."""
    found = certify(assignment=dataclasses.replace(ANSWER, **changes), **PROBLEM)
    assert bool(found) == (not found.failed)
    return [claim.name for claim in found.failed]


def with_model(place: int, model: int) -> np.ndarray:
    changed = ANSWER.model.copy()
    changed[place] = model
    return changed


def test_the_truth_is_confirmed() -> None:
    found = certify(assignment=ANSWER, **PROBLEM)
    assert found
    assert not found.failed
    assert found.cost == pytest.approx(ANSWER.cost, rel=1e-12)
    assert found.quality == pytest.approx(ANSWER.quality, rel=1e-12)
    assert found.bound == pytest.approx(ANSWER.dual_bound, rel=1e-8)
    assert found.gap == pytest.approx(ANSWER.gap, abs=1e-12)
    np.testing.assert_array_equal(found.load[0], np.bincount(ANSWER.model, minlength=6))
    assert re.fullmatch(r"Certificate\(all \d+ claims hold, gap .*\)", repr(found))
    assert "✓" in found._repr_html_()


@pytest.mark.parametrize(
    ("changes", "claims"),
    [
        ({"cost": ANSWER.cost * 1.001}, {"cost"}),
        ({"objective": ANSWER.objective * 0.999}, {"objective"}),
        ({"quality": ANSWER.quality + 1e-6}, {"quality"}),
        ({"violation": 0.1}, {"violation"}),
        ({"dual_bound": ANSWER.dual_bound * 1.0001, "bound": ANSWER.bound * 1.0001}, {"dual bound"}),
        ({"bound": ANSWER.cost * 1.01, "nodes": 9}, {"objective within the bound"}),
        ({"bound": (ANSWER.bound + ANSWER.cost) / 2, "nodes": 0}, {"bound"}),
        ({"gap": ANSWER.gap / 2}, {"gap"}),
        ({"status": Status.OVERLOADED}, {"status"}),
        ({"status": Status.BUDGET_UNREACHABLE}, {"status"}),
        ({"model": with_model(3, 6)}, {"one model a query", "status"}),
        ({"model": with_model(3, -2)}, {"one model a query", "status"}),
        ({"model": with_model(3, -1)}, {"status"}),
        ({"duals": dataclasses.replace(ANSWER.duals, requirement=-1.0)}, {"multipliers"}),
        (
            {"duals": dataclasses.replace(ANSWER.duals, capacity=-ANSWER.duals.capacity - 1e-9)},
            {"multipliers"},
        ),
        ({"duals": dataclasses.replace(ANSWER.duals, requirement=0.0)}, {"dual bound"}),
    ],
    ids=str,
)
def test_a_lie_is_found(changes: dict[str, Any], claims: set[str]) -> None:
    assert claims <= set(judge(**changes))


def test_a_broken_limit_is_found() -> None:
    cheapest = np.argmin(INSTANCE.cost, axis=1).astype(np.int32)
    assert {"capacities", "violation", "cost", "status"} <= set(judge(model=cheapest))


def test_a_forbidden_pair_or_a_missed_floor_is_found() -> None:
    allowed = np.ones(INSTANCE.cost.shape, bool)
    allowed[7, ANSWER.model[7]] = False
    names = [c.name for c in certify(assignment=ANSWER, **PROBLEM, allowed=allowed).failed]
    assert "allowed pairs" in names
    floor = np.full(120, np.nan)
    floor[9] = INSTANCE.quality[9].max()
    found = certify(assignment=ANSWER, **PROBLEM, query_floor=floor)
    assert ("floors of the queries" in [c.name for c in found.failed]) == (
        INSTANCE.quality[9, ANSWER.model[9]] < floor[9]
    )


def test_a_group_that_is_short_or_dear_is_found() -> None:
    group = np.arange(120) % 2
    names = [
        c.name
        for c in certify(
            assignment=ANSWER,
            **PROBLEM,
            group=group,
            group_min_quality=[0.99, np.nan],
            group_budget=[np.nan, 1e-9],
        ).failed
    ]
    assert {"quality of the groups", "budgets of the groups", "status"} <= set(names)


def test_optimal_within_a_tolerance_that_was_not_reached_is_found() -> None:
    assert ANSWER.gap > 1e-9
    assert "status" in judge(status=Status.OPTIMAL) or ANSWER.gap <= 1e-4
    found = certify(assignment=dataclasses.replace(ANSWER, status=Status.OPTIMAL), **PROBLEM, tolerance=1e-9)
    assert [c.name for c in found.failed] == ["status"]


def test_a_query_deferred_without_need_or_out_of_turn_is_found() -> None:
    problem = {
        "cost": [[1.0, 2.0]] * 3,
        "quality": [[0.5, 0.6]] * 3,
        "quality_value": 0.0,
        "capacity": [1.0, 1.0],
    }
    found = assign(**problem, priority=[0, 1, 2])
    assert found.deferred.tolist() == [0]
    assert certify(assignment=found, **problem, priority=[0, 1, 2])
    late = certify(assignment=found, **problem, priority=[2, 1, 0])
    assert [c.name for c in late.failed] == ["deferral"]
    assert "query 0 is deferred although query 1, which ranks lower, is served" in repr(late)
    roomy = certify(assignment=found, **{**problem, "capacity": [2.0, 1.0]}, priority=[0, 1, 2])
    assert "query 0 is deferred although there is room for it" in repr(roomy)
    # Room that only a chain of moves opens: 2 could go to model 0 if 1 moved on to model 1.
    allowed = np.array([[True, False], [True, True], [True, False]])
    chain = dataclasses.replace(found, model=np.array([-1, 0, -1], np.int32))
    judged = certify(assignment=chain, **problem, allowed=allowed)
    assert "deferral" in [c.name for c in judged.failed]


@pytest.mark.parametrize("mode", ["budget", "price"])
def test_the_other_modes(mode: str) -> None:
    if mode == "budget":
        made = problems.make(90, 6, seed=2, mode="budget")
        problem = {"cost": made.cost, "quality": made.quality, **made.keywords}
    else:
        problem = {**{k: v for k, v in PROBLEM.items() if k != "min_quality"}, "quality_value": 3e-4}
    found = assign(**problem)
    assert certify(assignment=found, **problem)
    sign = -1.0 if mode == "budget" else 1.0
    size = abs(found.dual_bound) * 1e-4
    lie = dataclasses.replace(
        found, dual_bound=found.dual_bound + sign * size, bound=found.bound + sign * size
    )
    assert "dual bound" in [c.name for c in certify(assignment=lie, **problem).failed]


def test_another_problem_is_refused() -> None:
    with pytest.raises(ProblemError, match="assignment has 120 queries, wanted 119 as cost"):
        certify(INSTANCE.cost[1:], INSTANCE.quality[1:], ANSWER, min_quality=0.5)
    with pytest.raises(ProblemError, match="wanted exactly one of"):
        certify(INSTANCE.cost, INSTANCE.quality, ANSWER)
    with pytest.raises(TypeError, match="colour"):
        certify(INSTANCE.cost, INSTANCE.quality, ANSWER, min_quality=0.5, colour=1)


def test_an_answer_written_by_hand() -> None:
    """Nothing of the solver is needed: any assignment with any multipliers can be judged."""
    solver = assign([[1.0, 9.0], [1.0, 9.0]], [[0.9, 0.95], [0.4, 0.9]], min_quality=0.85)
    by_hand = dataclasses.replace(
        solver,
        duals=dataclasses.replace(solver.duals, requirement=10.0, capacity=np.zeros(2)),
        dual_bound=10 * 1.7 + (1 - 9.0) + (1 - 4.0),
        bound=6.0,
        gap=4 / 6,
        status=Status.FEASIBLE,
    )
    assert isinstance(by_hand, Assignment)
    assert certify(
        assignment=by_hand, cost=[[1.0, 9.0], [1.0, 9.0]], quality=[[0.9, 0.95], [0.4, 0.9]], min_quality=0.85
    )
