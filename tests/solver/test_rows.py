"""Side rows: limits on sums and means of other figures, against brute force and HiGHS."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from eccos_rs import SideRow, Status, assign, certify
from tests.helpers import outside, problems, reference, small
from tests.helpers.judging import MET, agrees_with_brute_force, judged


@pytest.mark.parametrize("block", range(10))
def test_brute_force_agrees(block: int) -> None:
    for seed in range(block * 60, (block + 1) * 60):
        agrees_with_brute_force(small.draw_sided(seed), seed)


@pytest.mark.parametrize("mode", ["quality", "budget"])
@pytest.mark.parametrize("weights", ["unit", "tokens"])
def test_highs_agrees(weights: str, mode: str) -> None:
    for seed in (1, 2):
        problem = small.sided_family(60, 6, seed, weights, mode)
        rows = reference.rows(**problem)
        relaxed, best = outside.highs_lp(rows), outside.highs_milp(rows, gap=1e-4, time_limit=20.0)
        found = assign(**problem)
        judged(problem, found)
        assert relaxed is not None
        assert best is not None
        unit = -1.0 / 60 if mode == "budget" else 1.0
        assert found.status in MET
        assert found.dual_bound / unit == pytest.approx(relaxed, rel=1e-6)
        assert (found.row_price > 0).any()
        assert (reference.excess(rows, found.model) <= 0).all()
        assert reference.value(rows, found.model) <= best[0] + 0.04 * abs(best[0])


def test_many_queries_are_screened() -> None:
    problem = small.sided_family(20_000, 6, 3, "unit", "quality")
    found = assign(**problem)
    judged(problem, found)
    assert found.status in MET
    assert found.gap < 1e-3
    assert found.passes > 0
    assert (found.row_price > 0).any()
    assert assign(**problem, threads=2).model.tobytes() == found.model.tobytes()


def test_a_row_over_a_group_is_the_group_s_own_limit() -> None:
    made = problems.make(120, 6, seed=4)
    group = np.arange(120) % 2
    limits = {"capacity": made.capacity, "min_quality": made.min_quality}
    floors = np.array([0.0, 0.8])
    grouped = assign(made.cost, made.quality, group=group, group_min_quality=floors, **limits)
    row = SideRow(made.quality, at_least=0.8, mean=True, members=group == 1)
    sided = assign(made.cost, made.quality, rows=[row], **limits)
    assert sided.status in MET
    assert sided.dual_bound == pytest.approx(grouped.dual_bound, rel=1e-7)
    assert sided.duals.row[0] == pytest.approx(grouped.duals.group_quality[1], rel=1e-5)


def test_the_price_is_of_the_limit_as_stated() -> None:
    problem = small.sided_family(4000, 6, 5, "unit", "quality")
    found = assign(**problem)
    row = problem["rows"][0]
    less = replace(row, at_most=row.at_most * 0.999)
    tighter = assign(**problem | {"rows": [less, problem["rows"][1]]})
    slope = (tighter.dual_bound - found.dual_bound) / (row.at_most - less.at_most)
    assert slope == pytest.approx(float(found.row_price[0]), rel=0.05)


def test_what_cannot_be_kept_is_named_and_the_repair_is_enough() -> None:
    cost, quality = np.array([[1.0, 4.0]] * 4), np.array([[0.3, 0.9]] * 4)
    slow = np.array([[0.1, 0.5]] * 4)
    problem = {"cost": cost, "quality": quality, "min_quality": 0.5}
    out = SideRow(slow, at_most=0.05, mean=True, name="slow answers")
    found = assign(**problem, rows=[out])
    judged(problem | {"rows": [out]}, found)
    assert found.status is Status.ROW_UNREACHABLE
    assert found.reasons == ("row_above",)
    assert "slow answers may come to 0.05 at most; it comes to" in str(found.explanation)
    assert found.repair is not None
    assert found.repair.rows is not None
    wider = replace(out, at_most=float(found.repair.rows[0]))
    assert assign(**problem, rows=[wider]).status in MET
    # The promise is in the way: the most quality that the row allows.
    both = SideRow(slow, at_most=0.2, mean=True)
    found = assign(**problem, rows=[both])
    judged(problem | {"rows": [both]}, found)
    assert found.status is Status.QUALITY_UNREACHABLE
    assert found.quality == pytest.approx(0.45)
    assert found.repair is not None
    assert found.repair.min_quality == pytest.approx(0.45)
    least = SideRow(slow, at_least=3.0)
    found = assign(cost, quality, budget=99.0, rows=[least])
    assert found.status is Status.ROW_UNREACHABLE
    assert "rows[0] was to come to 3 at least; it comes to" in str(found.explanation)


def test_a_mean_is_over_those_who_are_served() -> None:
    cost, quality = np.ones((6, 2)), np.full((6, 2), 0.5)
    values = np.array([[1.0, 0.0]] * 6)
    row = SideRow(values, at_most=0.5, mean=True)
    problem = {"cost": cost, "quality": quality, "quality_value": 0.0, "capacity": [4, 2], "rows": [row]}
    found = assign(**problem | {"capacity": [2, 2]})
    judged(problem | {"capacity": [2, 2]}, found)
    assert found.status is Status.OVERLOADED
    assert np.bincount(found.model[found.model >= 0]).tolist() == [2, 2]
    short = assign(**problem)
    judged(problem, short)
    assert short.status is Status.ROW_UNREACHABLE


def test_figures_that_do_not_count_may_be_anything() -> None:
    values = np.array([[1.0, np.nan], [np.inf, np.nan]])
    row = SideRow(values, at_most=5.0, members=[True, False])
    problem = {"cost": np.ones((2, 2)), "quality": np.full((2, 2), 0.5), "quality_value": 0.0}
    problem |= {"allowed": [[True, False], [True, True]], "rows": [row]}
    found = assign(**problem, alternatives=True)
    assert found.status is Status.OPTIMAL
    judged(problem, found)


def test_the_certificate_finds_a_broken_row_and_a_false_price() -> None:
    problem = small.sided_family(40, 6, 2, "unit", "quality")
    found = assign(**problem)
    duals = found.duals
    lies = {
        "side rows": replace(found, model=np.full(40, 5, np.int32)),
        "dual bound": replace(found, duals=replace(duals, row=duals.row * 3.0)),
        "multipliers": replace(found, duals=replace(duals, row=-np.ones(2))),
    }
    for claim, lie in lies.items():
        assert claim in [failed.name for failed in certify(assignment=lie, **problem).failed], claim
