"""The answer as rows, text, data frame."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from eccos_rs import InputError, Query
from eccos_rs.routing.reasons import Reason, ReasonCode, reason_text
from eccos_rs.routing.render import money, one_line
from eccos_rs.solver.diagnosis import Diagnosis, Repair, Shortfall
from tests.helpers.given import TRIO, texts, trio

KEYS = [
    "index",
    "id",
    "query",
    "model",
    "quality",
    "input_tokens",
    "output_tokens",
    "cost",
    "runner_up",
    "runner_up_quality",
    "runner_up_cost",
    "price_change",
    "reason",
    "reason_code",
    "similarity",
]


@pytest.fixture(scope="module")
def plan():
    batch = [Query(text, id=f"q{at}") for at, text in enumerate(texts(60))]
    return trio().route(batch, min_quality=0.7)


@pytest.fixture(scope="module")
def overloaded():
    return trio().route(texts(10), min_quality=0.5, capacity={"small": 3, "middle": 3, "large": 1})


def test_rows_agree_with_the_arrays(plan):
    rows = list(plan)
    assert len(rows) == len(plan) == 60
    assert [row.model for row in rows] == plan.models
    assert [row.cost for row in rows] == pytest.approx(plan.cost)
    assert sum(row.cost for row in rows) == pytest.approx(plan.total_cost)
    assert np.mean([row.quality for row in rows]) == pytest.approx(plan.mean_quality)
    assert rows[3].id == "q3"
    assert plan[-1] == rows[-1]
    assert plan[2:4] == rows[2:4]
    with pytest.raises(IndexError):
        plan[60]


def test_the_runner_up_is_another_allowed_model_and_its_price_change_flips_the_query(plan):
    price = plan.assignment.quality_price / len(plan)
    for row in plan:
        assert row.runner_up in set(TRIO.names) - {row.model}
        reduced = {
            name: plan.problem.cost[row.index, column] - price * plan.problem.quality[row.index, column]
            for column, name in enumerate(TRIO.names)
        }
        assert row.price_change == pytest.approx(reduced[row.runner_up] - reduced[row.model], abs=1e-9)


def test_a_rise_of_the_price_beyond_the_change_flips_the_query():
    router, batch = trio(), texts(40)
    plan = router.route(batch, quality_value=0.005)
    at = next(row.index for row in plan if row.model == "large" and row.price_change > 0)
    row = plan[at]
    tokens = row.output_tokens
    for factor, wanted in ((0.99, "large"), (1.01, row.runner_up)):
        dearer = TRIO.replace("large", output_price=10.0 + factor * row.price_change * 1e6 / tokens)
        assert trio(pool=dearer).route(batch, quality_value=0.005).models[at] == wanted


def test_dictionaries_hold_what_json_can(plan, overloaded):
    for some in (plan, overloaded):
        rows = json.loads(json.dumps(some.to_dicts(), allow_nan=False))
        assert [list(row) for row in rows] == [KEYS] * len(some)
    deferred = [row for row in overloaded.to_dicts() if row["model"] is None]
    assert len(deferred) == 3
    assert all(row["cost"] is None and row["quality"] is None for row in deferred)


def test_a_data_frame_has_a_row_a_query(plan, overloaded):
    frame = plan.to_pandas()
    assert list(frame.columns) == KEYS
    assert frame["cost"].sum() == pytest.approx(plan.total_cost)
    assert overloaded.to_pandas()["model"].isna().sum() == 3
    assert list(trio().route([]).to_pandas().columns) == KEYS
    assert isinstance(frame, pd.DataFrame)


def test_the_baselines_are_all_to_the_strongest_and_all_to_the_cheapest(plan):
    strongest, cheapest = plan.baselines
    assert (strongest.name, strongest.model) == ("strongest", "large")
    assert strongest.cost == pytest.approx(plan.problem.cost[:, 2].sum())
    assert strongest.quality == pytest.approx(plan.problem.quality[:, 2].mean(dtype=float))
    assert (cheapest.name, cheapest.model) == ("cheapest", "small")
    assert cheapest.cost < plan.total_cost < strongest.cost


def test_a_baseline_keeps_the_hard_needs():
    plan = trio().route([Query("a", models=("small",)), "b", "c"])
    strongest, _ = plan.baselines
    assert strongest.cost == pytest.approx(plan.problem.cost[[0, 1, 2], [0, 2, 2]].sum())


def test_every_choice_has_its_reason(plan):
    for row in plan:
        open_to = plan.problem.cost[row.index]
        if row.price_change < 0:
            assert "near a tie with" in row.reason
        elif TRIO.index(row.model) != int(open_to.argmin()):
            assert "points over" in row.reason
        else:
            assert "the cheapest" in row.reason


def test_a_promise_that_costs_nothing_is_a_reason():
    plan = trio().route(texts(30), min_quality=0.1)
    reasons = {row.reason for row in plan}
    assert "the cheapest; the promise is kept without paying for more" in reasons
    assert not any("points" in reason for reason in reasons)


def test_a_full_capacity_is_a_reason():
    plan = trio().route(texts(40), min_quality=0.6, capacity={"small": 5, "middle": 20})
    assert plan.assignment.capacity_price[0] > 0
    moved = [row for row in plan if "its capacity is taken" in row.reason]
    assert moved
    assert all(row.model != "small" for row in moved if row.reason.startswith("small"))


def test_one_line_says_status_cost_quality_gap_and_time(plan):
    line = repr(plan)
    assert "\n" not in line
    for word in (str(plan.status), "60 queries", "cost $", "quality 0.7", "gap", "ms"):
        assert word in line


def test_the_text_shows_rows_and_totals(plan, overloaded):
    text = str(plan)
    for word in (
        "Question number 0",
        "all to the strongest",
        "all to the cheapest",
        "promised 70.00 %",
        "gap",
    ):
        assert word in text
    # The middle of a long batch is left out.
    assert "… 30 more …" in text
    assert "Question number 30" not in text
    assert "- deferred -" in str(overloaded)
    assert "7 queries, 3 deferred" in str(overloaded)


def test_a_text_table_is_aligned_whatever_the_script():
    plan = trio().route(
        ["円の面積を求めなさい " * 20, "שלום", "👩‍👩‍👧 emoji", "plain", "a\x00\x1b[31mb\nc", "", "\ud800"]
    )
    lines = str(plan).split("\n")[:9]
    from rich.cells import cell_len

    ends = {cell_len(line[: line.index("%")]) for line in lines[2:]}
    assert len(ends) == 1
    assert "\x1b" not in str(plan)
    assert "(empty)" in str(plan)


def test_a_notebook_gets_a_table_without_markup_from_outside():
    plan = trio().route(["<script>alert(1)</script>", "fine & well"])
    html = plan._repr_html_()
    assert "<script>" not in html
    assert "&lt;script&gt;" in html
    assert html.count("<tr") >= 3


def test_stage_times_add_up_and_are_compared_with_the_models(plan):
    assert {"predict", "assign", "other"} <= set(plan.seconds)
    assert plan.overhead == pytest.approx(sum(plan.seconds.values()))
    assert plan.response_seconds(50) == pytest.approx(plan.output_tokens.sum() / 50)
    with pytest.raises(InputError, match="tokens_per_second must be greater than 0, got 0"):
        plan.response_seconds(0)


def test_a_plan_can_be_pickled(plan):
    again = pickle.loads(pickle.dumps(plan))
    assert again.models == plan.models
    assert again.total_cost == plan.total_cost


def test_the_solver_s_numbers_become_names():
    plan = trio().route(texts(10), min_quality=0.5)
    cause = Shortfall("capacity_short", {"demand": 10, "served": 4})
    repair = Repair(None, None, np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 5.0]]))
    plan = replace(plan, assignment=replace(plan.assignment, diagnosis=Diagnosis((cause,), repair)))
    assert plan.explanation.endswith("of small by 1 requests, of large by 5 tokens.")
    assert plan.assignment.explanation.endswith("of model 0 by 1 (resource 0), of model 2 by 5 (resource 1).")
    gold = [Query(text, group="gold") for text in texts(10)]
    plan = trio().route(gold, min_quality=0.1, group_min_quality={"gold": 0.99})
    assert "Group 'gold' was promised a mean quality of 0.99" in plan.explanation


@pytest.mark.parametrize(
    ("dollars", "text"),
    [
        (0, "$0.00"),
        (1234.5, "$1,234.50"),
        (1.5, "$1.5000"),
        (0.0123456, "$0.01235"),
        (0.000012346, "$0.00001235"),
    ],
)
def test_money_shows_four_figures(dollars, text):
    assert money(dollars) == text


def test_a_query_of_a_million_characters_is_one_short_line():
    assert len(one_line("word " * 200_000)) <= 400


def test_every_kind_of_reason_has_a_sentence():
    for code in ReasonCode:
        text = reason_text(Reason(code, other=1, points=2.0, cost=0.5, detail="too long"), ("a", "b"))
        assert text
        assert "{" not in text
    assert reason_text(Reason(ReasonCode.WORTH_MORE, 0, 2.0, 0.5), ("a", "b")) == (
        "+2.0 points over a for $0.500000 more"
    )
