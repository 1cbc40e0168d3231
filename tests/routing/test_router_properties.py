"""What every plan must keep, recomputed in plain Python from the queries, the pool and the predictions."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eccos_rs import LLM, NoModelError, Policy, Pool, Query, Router, Status
from tests.helpers.given import DrawnPredictor

NAMES = ("a", "b", "c", "d")
PREDICTOR = DrawnPredictor(NAMES, [-0.5, 0.3, 0.8, 1.6])

models = st.builds(
    LLM,
    name=st.sampled_from(NAMES),
    input_price=st.floats(0, 20),
    output_price=st.floats(0, 60),
    context_window=st.none() | st.integers(50, 2000),
    vision=st.booleans(),
    tools=st.booleans(),
    slots=st.none() | st.integers(0, 12),
    requests_per_minute=st.none() | st.integers(1, 20),
    tokens_per_minute=st.none() | st.floats(100, 5000),
)
pools = st.lists(models, min_size=1, max_size=4, unique_by=lambda model: model.name).map(Pool)
queries = st.builds(
    Query,
    text=st.text(max_size=60),
    tools=st.booleans(),
    vision=st.booleans(),
    context_tokens=st.none() | st.integers(0, 1500),
    max_output_tokens=st.none() | st.integers(1, 400),
    priority=st.integers(0, 2),
    min_quality=st.none() | st.floats(0, 0.7),
)
goals = st.one_of(
    st.fixed_dictionaries({"min_quality": st.floats(0, 1)}),
    st.fixed_dictionaries({"budget": st.floats(0, 0.05)}),
    st.fixed_dictionaries({"quality_value": st.floats(0, 0.05)}),
    st.fixed_dictionaries({"relative_quality": st.floats(0, 1)}),
    st.fixed_dictionaries({"min_quality": st.floats(0, 1), "confidence": st.floats(0.51, 0.99)}),
)


def may(model: LLM, query: Query, prompt: int, output: float, quality: float) -> bool:
    if (
        model.context_window is not None
        and prompt + (query.context_tokens or 0) + output > model.context_window
    ):
        return False
    if (query.vision and not model.vision) or (query.tools and not model.tools):
        return False
    return quality >= (query.min_quality or 0.0)


@settings(max_examples=100, deadline=None)
@given(pools, st.lists(queries, max_size=25), goals)
def test_a_plan_keeps_every_limit_it_says_it_keeps(pool, batch, goal):
    plan = Router(pool, PREDICTOR).route(batch, policy=Policy(unroutable="defer", **goal))
    prediction = PREDICTOR.predict(batch).select(pool.names)
    used = {name: [0, 0.0] for name in pool.names}
    total, quality = 0.0, []
    for at, (query, name) in enumerate(zip(batch, plan.models, strict=True)):
        prompt = int(prediction.input_tokens[at])
        outputs = [
            min(float(tokens), query.max_output_tokens or math.inf) for tokens in prediction.output_tokens[at]
        ]
        open_to = [
            may(model, query, prompt, outputs[column], prediction.quality[at, column])
            for column, model in enumerate(pool)
        ]
        assert (at in plan.problem.unroutable) == (not any(open_to))
        if name is None:
            continue
        column = pool.index(name)
        assert open_to[column]
        cost = (prompt * pool[name].input_price + outputs[column] * pool[name].output_price) / 1e6
        assert plan.cost[at] == pytest.approx(cost, rel=1e-9, abs=1e-15)
        total += cost
        quality.append(float(prediction.quality[at, column]))
        used[name][0] += 1
        used[name][1] += prompt + outputs[column]
    for model in pool:
        requests, tokens = used[model.name]
        for limit in (model.slots, model.requests_per_minute):
            assert limit is None or requests <= limit
        assert model.tokens_per_minute is None or tokens <= model.tokens_per_minute * (1 + 1e-9)
    assert plan.total_cost == pytest.approx(total, rel=1e-9, abs=1e-15)
    if quality:
        assert plan.mean_quality == pytest.approx(sum(quality) / len(quality), rel=1e-6)
    check_status(plan, total, quality)


def check_status(plan, total, quality):
    served = len(quality) + len(plan.problem.unroutable)
    assert (plan.status is Status.OVERLOADED) == (served < len(plan))
    if plan.status in (Status.OPTIMAL, Status.FEASIBLE) and quality:
        name, value = plan.policy.goal
        if name == "budget":
            assert total <= value * (1 + 1e-9) + 1e-15
        if plan.promised is not None:
            assert sum(quality) / len(quality) >= plan.promised * (1 - 1e-9) - 1e-12
        if plan.margin is not None:
            assert plan.margin.kept
    if plan.status is Status.QUALITY_UNREACHABLE and plan.margin is None:
        assert plan.mean_quality < plan.promised
        assert plan.explanation


@settings(max_examples=40, deadline=None)
@given(pools, st.lists(queries, min_size=1, max_size=10))
def test_a_query_without_a_model_is_told_before_anything_is_solved(pool, batch):
    router = Router(pool, PREDICTOR)
    unroutable = router.route(batch, unroutable="defer").problem.unroutable
    if unroutable:
        with pytest.raises(NoModelError, match=rf"^query {min(unroutable)}: "):
            router.route(batch)
    else:
        assert router.route(batch).problem.unroutable == {}


@settings(max_examples=40, deadline=None)
@given(pools, st.lists(queries, max_size=8), goals)
def test_every_plan_can_be_shown(pool, batch, goal):
    plan = Router(pool, PREDICTOR).route(batch, policy=Policy(unroutable="defer", **goal))
    for text in (str(plan), repr(plan), plan._repr_html_(), *(row.reason for row in plan)):
        text.encode("utf-8")
        assert "nan %" not in text
