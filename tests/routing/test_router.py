"""From texts to a plan, with the real solver and predictions given in advance."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from eccos_rs import (
    LLM,
    EccosError,
    InputError,
    NoModelError,
    Overloaded,
    Policy,
    PolicyError,
    Pool,
    PoolError,
    Query,
    QueryError,
    Router,
    Status,
    assign,
    route,
)
from tests.helpers.given import TRIO, DrawnPredictor, GivenPredictor, texts, trio

PAIR = Pool([LLM("cheap", 1.0, 2.0), LLM("dear", 10.0, 20.0)])
PAIR_ROWS = {
    "easy": ([0.9, 0.95], [100, 100]),
    "hard": ([0.2, 0.9], [400, 500]),
    "": ([0.5, 0.8], [200, 200]),
}


def pair(pool: Pool = PAIR, policy: Policy | None = None, **tokens: int) -> Router:
    return Router(pool, GivenPredictor(PAIR.names, PAIR_ROWS, tokens), policy)


def test_a_query_costs_its_input_and_predicted_output():
    plan = pair().route(["easy", "hard"], min_quality=0.89, tolerance=0.0)
    assert plan.models == ["cheap", "dear"]
    assert plan.cost == pytest.approx([(100 * 1 + 100 * 2) / 1e6, (100 * 10 + 500 * 20) / 1e6])
    assert plan.total_cost == pytest.approx(plan.cost.sum())
    assert plan.mean_quality == pytest.approx(0.9)
    assert plan.output_tokens == pytest.approx([100, 500])
    assert plan.input_tokens.tolist() == [100, 100]
    assert plan.status is Status.OPTIMAL
    assert plan.promised == 0.89


def test_the_output_is_never_priced_above_what_the_query_caps_it_at():
    plan = pair().route([Query("hard", max_output_tokens=50)], min_quality=0.9)
    assert plan.output_tokens == pytest.approx([50])
    assert plan.cost == pytest.approx([(100 * 10 + 50 * 20) / 1e6])
    router = pair()
    prediction = router.predict(["hard"])
    assert router.costs(prediction)[0, 1] == pytest.approx((100 * 10 + 500 * 20) / 1e6)


@pytest.mark.parametrize("goal", [{"min_quality": 0.7}, {"budget": 0.02}, {"quality_value": 0.004}, {}])
def test_the_plan_is_what_the_solver_says_about_the_router_s_own_arrays(goal):
    router, batch = trio(), texts(40)
    plan = router.route(batch, tolerance=0.0, **goal)
    problem = router.problem(router.predict(batch), [Query(text) for text in batch])
    name, value = plan.policy.goal
    if name == "relative_quality":
        name, value = "min_quality", plan.promised
    found = assign(problem.cost, problem.quality, allowed=problem.allowed, tolerance=0.0, **{name: value})
    assert plan.assignment.model.tolist() == found.model.tolist()


def test_small_batches_are_as_good_as_brute_force():
    router = trio()
    for count in range(1, 6):
        batch = texts(count)
        plan = router.route(batch, min_quality=0.75, tolerance=0.0)
        problem = plan.problem
        best = min(
            (
                problem.cost[range(count), choice].sum()
                for choice in itertools.product(range(3), repeat=count)
                if problem.quality[range(count), choice].mean(dtype=np.float64) >= 0.75 - 1e-9
            ),
            default=None,
        )
        if best is None:
            assert plan.status is Status.QUALITY_UNREACHABLE
        else:
            assert plan.total_cost == pytest.approx(best)


def test_without_a_goal_it_promises_97_percent_of_the_strongest():
    plan = trio().route(texts(200))
    strongest = next(baseline for baseline in plan.baselines if baseline.name == "strongest")
    assert strongest.model == "large"
    assert plan.promised == pytest.approx(0.97 * strongest.quality)
    assert plan.mean_quality >= plan.promised - 1e-9
    assert plan.total_cost < 0.9 * strongest.cost


def test_an_empty_batch_is_an_empty_plan():
    for goal in ({}, {"min_quality": 0.9}, {"budget": 0.0}, {"confidence": 0.95}):
        plan = trio().route([], **goal)
        assert len(plan) == 0
        assert plan.models == []
        assert plan.to_dicts() == []
        assert plan.total_cost == 0
        assert plan.status is Status.OPTIMAL
        assert "empty batch" in str(plan)
        assert plan._repr_html_()


def test_a_batch_of_one():
    plan = trio().route(["Only one"])
    assert len(plan.models) == 1
    assert plan.models[0] in TRIO.names


def test_a_pool_of_one_model():
    pool = TRIO.select(["middle"])
    plan = trio(pool=pool).route(texts(5), min_quality=0.0)
    assert plan.models == ["middle"] * 5
    assert plan.runner_up == [None] * 5
    assert all(row.reason == "the only model it may take" for row in plan)


def test_a_quality_beyond_reach_gives_the_highest_there_is_and_says_so():
    plan = trio().route(texts(20), min_quality=0.999)
    assert plan.status is Status.QUALITY_UNREACHABLE
    assert plan.mean_quality == pytest.approx(plan.problem.quality.max(axis=1).mean(dtype=np.float64))
    assert "0.999" in plan.explanation
    assert "quality_unreachable" in str(plan)


def test_a_budget_of_nothing_gives_the_cheapest_and_says_so():
    plan = trio().route(texts(20), budget=0.0)
    assert plan.status is Status.BUDGET_UNREACHABLE
    assert plan.total_cost == pytest.approx(plan.problem.cost.min(axis=1).sum())


def test_a_budget_is_kept():
    plan = trio().route(texts(50), budget=0.01)
    assert plan.total_cost <= 0.01 * (1 + 1e-9)
    assert plan.promised is None


def test_slots_and_capacities_hold():
    pool = TRIO.replace("large", slots=3).replace("middle", requests_per_minute=7)
    plan = trio(pool=pool).route(texts(40), min_quality=0.0)
    assert plan.models.count("large") <= 3
    # The promise is 0, so the small one takes all; a capacity on it pushes queries up.
    plan = trio(pool=pool).route(texts(12), min_quality=0.0, capacity={"small": 4})
    assert [plan.models.count(name) for name in TRIO.names] == [4, 7, 1]
    # What the policy names takes the place of the pool's limit.
    plan = trio(pool=pool).route(texts(40), min_quality=0.0, capacity={"small": 0, "large": 33})
    assert [plan.models.count(name) for name in TRIO.names] == [0, 7, 33]


def test_tokens_a_minute_hold_beside_requests():
    pool = TRIO.replace("small", tokens_per_minute=1000)
    plan = trio(pool=pool).route(texts(40), min_quality=0.0)
    taken = plan.assignment.model == 0
    assert 0 < (plan.input_tokens + plan.output_tokens)[taken].sum() <= 1000
    assert plan.status is Status.OPTIMAL or plan.status is Status.FEASIBLE


def test_beyond_the_capacity_the_lowest_priority_waits():
    batch = [Query(text, priority=int(at % 4 == 0)) for at, text in enumerate(texts(20))]
    full = {"small": 3, "middle": 2, "large": 1}
    plan = trio().route(batch, min_quality=0.0, capacity=full)
    assert plan.status is Status.OVERLOADED
    assert len(plan.deferred) == 14
    assert [plan.models[at] is not None for at in range(0, 20, 4)] == [True] * 5
    assert np.isnan(plan.cost[plan.deferred]).all()
    assert "capacities hold no more" in plan.reason(int(plan.deferred[0]))
    with pytest.raises(Overloaded, match="raise the capacity of small by 4, of middle by 7"):
        trio().route(batch, min_quality=0.0, capacity=full, overload="raise")


def test_hard_needs_rule_models_out():
    batch = [
        Query("a picture", vision=True),
        Query("a call", tools=True),
        Query("a book", context_tokens=50_000),
        Query("mine alone", models=("middle",)),
        Query("picky", min_quality=0.9),
        "anything",
    ]
    plan = trio().route(batch, quality_value=0.0, unroutable="defer")
    assert plan.models[0] == "large"
    assert plan.models[1] == "middle"
    assert plan.models[2] == "large"
    assert plan.models[3] == "middle"
    assert plan.models[4] is None or plan.quality[4] >= 0.9
    assert plan.models[5] == "small"


def test_the_expected_answer_counts_into_the_context_window():
    pool = PAIR.replace("cheap", context_window=450)
    assert pair(pool).route(["hard"], quality_value=0.0).models == ["dear"]
    assert pair(pool).route([Query("hard", max_output_tokens=300)], quality_value=0.0).models == ["cheap"]


def test_a_query_s_own_floor_takes_the_place_of_the_policy_s():
    batch = ["hard", Query("hard", min_quality=0.0)]
    plan = pair().route(batch, quality_value=0.0, query_floor=0.5)
    assert plan.models == ["dear", "cheap"]


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        (Query("a", context_tokens=200_000, id="q7"), r"query 1 \(id 'q7'\).*small: context window of 8,000"),
        (Query("a", models=("small",), vision=True), "small: no vision; middle: not among the models"),
        (Query("a", models=("small",), tools=True), "small: no tools"),
        (Query("a", min_quality=1.0), "predicted success 0.* is below the floor 1"),
    ],
)
def test_a_query_that_no_model_may_take_is_named_with_the_reason_or_deferred(query, reason):
    with pytest.raises(NoModelError, match=reason):
        trio().route(["fine", query])
    plan = trio().route(["fine", query], unroutable="defer")
    assert plan.models[0] is not None
    assert plan.models[1] is None
    assert "no model may take it" in plan.reason(1)
    everything = trio().route([query], unroutable="defer")
    assert everything.models == [None]
    assert str(everything)


def test_a_model_that_a_query_allows_must_be_in_the_pool():
    with pytest.raises(QueryError, match=r"query 1 allows 'smal'.*did you mean 'small'"):
        trio().route(["a", Query("b", models=("smal",))])


def test_a_capacity_must_name_a_model_of_the_pool():
    with pytest.raises(PolicyError, match=r"capacity names 'larg'.*did you mean 'large'"):
        trio().route(["a"], capacity={"larg": 3})


def test_groups_keep_their_own_limits():
    batch = [Query(text, group="gold" if at % 2 else "free") for at, text in enumerate(texts(60))]
    gold = np.arange(60) % 2 == 1
    plain = trio().route(batch, min_quality=0.6)
    assert plain.quality[gold].mean() < 0.75
    plan = trio().route(batch, min_quality=0.6, group_min_quality={"gold": 0.75, "absent": 0.9})
    assert plan.quality[gold].mean() >= 0.75 - 1e-9
    budget = 0.9 * plain.cost[~gold].sum()
    plan = trio().route(batch, min_quality=0.6, group_budget={"free": budget})
    assert plan.cost[~gold].sum() <= budget * (1 + 1e-9)


@pytest.mark.parametrize(
    ("batch", "sentence"),
    [
        ("Hi", "a batch is a list of queries, got a single str"),
        ({"query": "Hi"}, "got a single dict"),
        (Query("Hi"), "got a single Query"),
        (7, "got int"),
        (["Hi", 7], "query 1: .*got int"),
        ([{"role": "user", "content": "Hi"}], "query 0: got a single chat message"),
    ],
)
def test_what_is_no_batch_is_refused(batch, sentence):
    with pytest.raises(QueryError, match=sentence):
        trio().route(batch)


def test_any_iterable_is_a_batch():
    wanted = trio().route(texts(5)).models
    assert trio().route(iter(texts(5))).models == wanted
    assert trio().route(np.array(texts(5))).models == wanted
    assert trio().route([[{"role": "user", "content": text}] for text in texts(5)]).models == wanted


def test_a_router_checks_its_parts():
    predictor = DrawnPredictor(["small", "middle"], [0, 1])
    with pytest.raises(PoolError, match="does not know 'large'; it knows small, middle"):
        Router(TRIO, predictor)
    with pytest.raises(PoolError, match="pool must be a Pool"):
        Router(list(TRIO), predictor)
    with pytest.raises(InputError, match=r"predictor must have models and predict\(queries\), got str"):
        Router(TRIO, "hybrid")
    with pytest.raises(PolicyError, match="policy must be a Policy"):
        Router(TRIO, DrawnPredictor(TRIO.names, [0, 1, 2]), {"min_quality": 0.5})
    with pytest.raises(PolicyError, match="did you mean 'min_quality'"):
        trio().route(["a"], min_qualty=0.5)
    with pytest.raises(PolicyError, match="paces a session"):
        trio().route(["a"], budget=1.0, per="day")
    with pytest.raises(InputError, match="pool was given beside router"):
        route(["a"], pool=TRIO, router=trio())


def test_a_predictor_that_loses_a_row_is_found_out():
    class Careless(DrawnPredictor):
        def predict(self, queries):
            return super().predict(queries[1:])

    with pytest.raises(InputError, match="gave 1 rows for 2 queries"):
        Router(TRIO, Careless(TRIO.names, [0, 1, 2])).route(["a", "b"])


def test_a_predictor_that_gives_nan_is_refused():
    rows = {"": ([float("nan"), 0.5], [1, 1])}
    with pytest.raises(EccosError, match="quality"):
        Router(PAIR, GivenPredictor(PAIR.names, rows)).route(["a"])


def test_the_pool_may_be_a_part_of_what_the_predictor_knows_in_any_order():
    pool = TRIO.select(["large", "small"])
    plan = trio(pool=pool).route(texts(30), min_quality=0.6)
    assert set(plan.models) <= {"large", "small"}
    whole = trio().predict(texts(30))
    assert plan.prediction.models == ("large", "small")
    assert np.array_equal(plan.prediction.quality[:, 1], whole.quality[:, 0])


def test_a_large_batch_is_predicted_in_slices_and_reports_progress():
    predictor = GivenPredictor(PAIR.names, PAIR_ROWS)
    steps: list[int] = []
    plan = Router(PAIR, predictor).route(["easy"] * 5000, progress=steps.append)
    assert sum(steps) == sum(predictor.calls) == 5000
    assert max(predictor.calls) <= 1024
    assert plan.prediction.embedding is None
    assert Router(PAIR, predictor).predict(["easy"] * 2000).embedding.shape == (2000, 4)


def test_a_hundred_thousand_queries_go_through():
    batch = ["easy", "hard"] * 50_000
    plan = pair().route(batch, min_quality=0.7)
    assert plan.status is Status.OPTIMAL
    assert plan.mean_quality >= 0.7 - 1e-9
    assert plan.total_cost <= assign(plan.problem.cost, plan.problem.quality, min_quality=0.7).bound * (
        1 + 1e-4
    )


def test_the_same_batch_gets_the_same_plan_and_order_does_not_matter():
    batch = texts(64)
    first, again = trio().route(batch), trio().route(batch)
    assert first.assignment.model.tobytes() == again.assignment.model.tobytes()
    turned = trio().route(batch[::-1])
    assert turned.total_cost == pytest.approx(first.total_cost, rel=2e-3)
