"""What a query can carry: every number has a bound, and attachments and answers count."""

from __future__ import annotations

import base64
import json
import struct

import numpy as np
import pytest

from eccos_rs import LLM, Policy, Pool, Query, QueryError, Router
from eccos_rs.domain.attachments import definition_tokens, image_tokens, text_tokens
from eccos_rs.domain.query import LARGEST
from eccos_rs.errors import NoModelError
from tests.helpers.given import GivenPredictor

HUGE = [2**63, -(2**63) - 1, 10**400, -(10**400), 2**53 + 1]


@pytest.mark.parametrize(
    "field", ["priority", "context_tokens", "max_output_tokens", "extra_input_tokens", "n", "min_quality"]
)
@pytest.mark.parametrize("value", HUGE)
def test_no_number_is_without_a_bound(field, value):
    with pytest.raises(QueryError, match=field):
        Query("a", **{field: value})


@pytest.mark.parametrize("field", ["priority", "context_tokens", "max_output_tokens", "extra_input_tokens"])
def test_the_bound_itself_is_routed(field):
    router = Router(Pool([LLM("a", 1, 1)]), GivenPredictor(["a"], {"": ([0.5], [10])}))
    plan = router.route(["x", Query("y", **{field: LARGEST}), "z"], quality_value=1.0)
    assert list(plan.models) == ["a", "a", "a"]


@pytest.mark.parametrize("calls", [5, "x", [5], {"id": "a"}, [None], True])
def test_malformed_tool_calls_are_named(calls):
    with pytest.raises(QueryError, match="message 1: tool_calls"):
        Query(
            messages=[
                {"role": "user", "content": "x"},
                {"role": "assistant", "content": "y", "tool_calls": calls},
            ]
        )


class Choking(GivenPredictor):
    """Fails whenever a certain text is among the queries, in a way nobody foresaw."""

    def predict(self, queries):
        if any("poison" in query.prompt for query in queries):
            raise OverflowError("int too large to convert")
        return super().predict(queries)


@pytest.mark.parametrize("at", [0, 3, 6])
def test_the_row_that_makes_a_batch_fail_is_named(at):
    router = Router(Pool([LLM("a", 1, 1)]), Choking(["a"], {"": ([0.5], [10])}))
    batch = [Query(f"q {row}", id=f"row-{row}") for row in range(7)]
    batch[at] = Query("poison", id=f"row-{at}")
    with pytest.raises(QueryError, match=rf"query {at} \(id 'row-{at}'\) cannot be routed: OverflowError"):
        router.route(batch, quality_value=1.0)


POOL = Pool(
    [
        LLM("a", 2.0, 8.0, context_window=8_000, tools=True, tokens_per_minute=1e6),
        LLM("b", 20.0, 80.0, tools=True),
    ]
)


def route(query, policy=None):
    router = Router(POOL, GivenPredictor(["a", "b"], {"": ([0.5, 0.5], [10, 10])}))
    return router.route([query], policy=policy or Policy(quality_value=0.0))


def test_what_is_attached_counts_in_cost_and_window():
    plain, attached = route(Query("x")), route(Query("x", extra_input_tokens=7_000))
    assert attached.cost[0] == pytest.approx(plain.cost[0] + 7_000 * 2e-6)
    assert attached.input_tokens[0] == 7_100
    assert attached.problem.load[1, 0, 0] == 7_110
    assert route(Query("x", extra_input_tokens=40_000)).models == ["b"]
    with pytest.raises(NoModelError, match="context window of 8,000 tokens, needed are 40,110"):
        route(Query("x", extra_input_tokens=40_000, models=("a",)))


def test_every_answer_is_paid_for():
    assert route(Query("x", n=100)).cost[0] == pytest.approx((100 * 2 + 100 * 10 * 8) / 1e6)
    assert route(Query("x", n=100, max_output_tokens=5)).cost[0] == pytest.approx((200 + 100 * 5 * 8) / 1e6)
    assert route(Query("x", n=100)).problem.load[1, 0, 0] == 100 + 1000
    # Answers lie beside each other in the window, not behind each other.
    assert route(Query("x", n=1000)).models == ["a"]


def test_tools_in_a_mapping_are_counted():
    tools = [{"type": "function", "function": {"name": "f", "description": "word " * 1000}}]
    query = Query.of({"query": "x", "tools": tools})
    assert query.tools
    assert 950 <= query.attached_tokens <= 1200


def test_definitions_are_counted_in_tokens_and_once():
    schema = {"type": "object", "properties": {f"field_{at}": {"type": "string"} for at in range(100)}}
    # What o200k_base makes of it lies between 1,100 and 1,500.
    assert 900 <= definition_tokens(schema) <= 1900
    assert definition_tokens(schema, None) == definition_tokens(schema)
    assert definition_tokens(None, [], {}) == 0
    assert text_tokens(json.dumps("word " * 40_000)) == pytest.approx(40_000, rel=0.01)


def png(width, height):
    return base64.b64encode(b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", width, height)).decode()


@pytest.mark.parametrize(
    ("part", "tokens"),
    [
        ({"type": "image_url", "image_url": {"url": "https://x/y.png", "detail": "low"}}, 85),
        ({"type": "image_url", "image_url": {"url": "https://x/y.png"}}, 765),
        ({"type": "image_url", "image_url": {"url": f"data:image/png;base64,{png(512, 512)}"}}, 255),
        ({"type": "image_url", "image_url": {"url": f"data:image/png;base64,{png(2048, 4096)}"}}, 1105),
        ({"type": "input_image", "image_url": f"data:image/png;base64,{png(512, 512)}"}, 255),
        ({"type": "image", "source": {"type": "base64", "data": png(750, 100)}}, 100),
        ({"type": "image", "source": {"type": "base64", "data": png(5000, 5000)}}, 1568),
        ({"type": "image", "source": {"type": "url", "url": "https://x/y.png"}}, 1568),
        ({"type": "image_url", "image_url": 5}, 765),
        ({"type": "image_url", "image_url": "data:image/png;base64,!!"}, 765),
    ],
)
def test_images_are_estimated(part, tokens):
    assert image_tokens(part) == tokens
    query = Query(messages=[{"role": "user", "content": [part, part]}])
    assert query.attached_tokens == 2 * tokens


def test_a_jpeg_tells_its_size():
    head = b"\xff\xd8" + b"\xff\xe0" + struct.pack(">H", 4) + b"ab"
    head += b"\xff\xc0" + struct.pack(">HBHH", 17, 8, 512, 1024) + bytes(10)
    url = "data:image/jpeg;base64," + base64.b64encode(head).decode()
    assert image_tokens({"type": "image_url", "image_url": {"url": url}}) == 85 + 2 * 170


def test_costs_of_a_router_count_the_same():
    router = Router(POOL, GivenPredictor(["a", "b"], {"": ([0.5, 0.5], [10, 10])}))
    queries = [Query("x", n=3, extra_input_tokens=50)]
    costs = router.costs(router.predict(queries), queries)
    assert np.allclose(costs, router.route(queries, quality_value=0.0).problem.cost)
