"""Collecting from a server that misbehaves over real HTTP: what is tried again, and what it may cost."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from eccos_rs.errors import RecordError
from eccos_rs.pools.pool import LLM, Endpoint, Pool
from eccos_rs.records import read_records
from eccos_rs.records.collect import CollectOptions, CollectSummary, Progress, collect
from eccos_rs.records.collect.endpoint import Retry
from tests.helpers.endpoints import (
    Handler,
    Misbehaving,
    Request,
    journal_events,
    misbehaving,
    pool_toml,
    sum_tasks,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

QUICK = Retry(attempts=4, first_wait=0.02, longest_wait=0.1)


def gather(
    tmp_path: Path, server: Misbehaving, count: int, *, model: dict[str, Any] | None = None, **options: Any
) -> CollectSummary:
    tasks = sum_tasks(tmp_path / "tasks.jsonl", count)
    pool = pool_toml(tmp_path / "pool.toml", {"name": "m", "url": server.url, **(model or {})})
    chosen = CollectOptions(**{"retry": QUICK, "max_output_tokens": 16, **options})
    return collect(tasks, Pool.load(pool), tmp_path / "out.jsonl", options=chosen)


def unsure(tmp_path: Path) -> float:
    return sum(
        event["unsure_usd"] for event in journal_events(tmp_path / "out.jsonl.journal.jsonl", "unsure")
    )


def first_then_well(first: Callable[[Handler], None]) -> Callable[[Handler, Request], None]:
    """Misbehave on the first request alone."""

    def behaviour(handler: Handler, request: Request) -> None:
        if request.number == 1:
            first(handler)
        else:
            handler.answer()

    return behaviour


def test_a_good_server_is_asked_once_a_task(tmp_path):
    seen: list[Progress] = []
    with misbehaving(lambda handler, _: handler.answer()) as server:
        pool = pool_toml(tmp_path / "pool.toml", {"name": "m", "url": server.url, "upstream": "real-name"})
        summary = collect(
            sum_tasks(tmp_path / "tasks.jsonl", 6),
            Pool.load(pool),
            tmp_path / "out.jsonl",
            progress=seen.append,
        )
    assert summary.stopped == "done"
    assert len(set(server.keys)) == len(server.keys) == 6
    assert summary.spent_usd == pytest.approx(6 * (30 * 1.0 + 4 * 4.0) / 1e6)
    assert {request.body["model"] for request in server.requests} == {"real-name"}
    assert server.requests[0].body["max_tokens"] == 4096
    assert server.requests[0].body["temperature"] == 0.0
    records = list(read_records(tmp_path / "out.jsonl"))
    assert [record.outputs[0].quality for record in records] == [1.0] * 6
    assert records[0].outputs[0].cost_usd == pytest.approx(46e-6)
    assert [now.done for now in seen] == [0, 1, 2, 3, 4, 5, 6]
    assert seen[-1].spent_usd == pytest.approx(summary.spent_usd)


@pytest.mark.parametrize(
    ("fault", "may_cost"),
    [
        (lambda handler: handler.refuse(429), False),
        (lambda handler: handler.refuse(503), False),
        (lambda handler: handler.refuse(500), True),
        (lambda handler: handler.refuse(408), False),
        (Handler.half_json, True),
        (Handler.break_off, True),
        (lambda handler: handler.send(200, b"<html>busy</html>", content_type="text/html"), True),
        (lambda handler: handler.send(200, b'{"choices": []}'), True),
        (lambda handler: handler.send(200, b"[1]"), True),
        (lambda handler: handler.send(200, b""), True),
    ],
    ids=["429", "503", "500", "408", "half-json", "cut", "html", "no-choices", "list", "empty"],
)  # fmt: skip
def test_a_passing_fault_is_tried_again(tmp_path, fault, may_cost):
    with misbehaving(first_then_well(fault)) as server:
        summary = gather(tmp_path, server, 2, concurrency=1)
    assert (summary.stopped, summary.answered, len(server.requests)) == ("done", 2, 3)
    assert server.keys[0] == server.keys[1]
    # Where the server may have done the work, the most that the call can cost counts as possibly spent.
    assert (summary.unsure_usd > 0) == may_cost
    assert summary.unsure_usd == pytest.approx(unsure(tmp_path))


@pytest.mark.parametrize("fault", [Handler.hang, Handler.trickle], ids=["hang", "trickle"])
def test_an_endpoint_that_hangs_is_left_and_tried_again(tmp_path, fault):
    with misbehaving(first_then_well(fault)) as server:
        started = time.monotonic()
        summary = gather(tmp_path, server, 3, concurrency=1, timeout=0.5)
        took = time.monotonic() - started
    assert summary.stopped == "done"
    assert summary.unsure_usd > 0
    assert took < 15  # the server would have held it for 30


def test_retry_after_is_heeded_by_all_calls_to_the_endpoint(tmp_path):
    def behaviour(handler: Handler, request: Request) -> None:
        if request.number == 1:
            handler.refuse(429, retry_after="0.8")
        else:
            # Under way beside the refused call, so that its worker is free again during the quiet time.
            time.sleep(0.2 if request.number == 2 else 0.0)
            handler.answer()

    with misbehaving(behaviour) as server:
        summary = gather(tmp_path, server, 5, concurrency=2)
    assert (summary.stopped, len(server.requests)) == ("done", 6)
    times = [request.at - server.requests[0].at for request in server.requests]
    # Only the call that was under way already may have come before the time was over.
    assert sum(at < 0.75 for at in times[1:]) <= 1


def test_a_server_that_never_recovers_fails_the_pair_and_the_next_run_tries_again(tmp_path):
    with misbehaving(lambda handler, _: handler.refuse(500, "broken inside")) as server:
        summary = gather(tmp_path, server, 1)
        assert (summary.stopped, summary.answered, summary.records) == ("failed", 0, 0)
        assert len(server.requests) == QUICK.attempts
        ((error, pairs),) = summary.failures.items()
        assert error.startswith("m: status 500")
        assert "broken inside" in error
        assert pairs == 1
    assert not (tmp_path / "out.jsonl").exists()
    with misbehaving(lambda handler, _: handler.answer()) as server:
        again = gather(tmp_path, server, 1)
    assert (again.stopped, again.answered) == ("done", 1)
    assert again.unsure_usd == pytest.approx(summary.unsure_usd)


@pytest.mark.parametrize(
    ("status", "message"), [(401, "bad key"), (404, "no such model"), (429, "insufficient_quota")]
)
def test_a_hopeless_endpoint_is_asked_no_more(tmp_path, status, message):
    with misbehaving(lambda handler, _: handler.refuse(status, message)) as server:
        summary = gather(tmp_path, server, 40, concurrency=2)
    assert summary.stopped == "failed"
    assert len(server.requests) <= 2
    assert sum(summary.failures.values()) == 40
    assert all(f"status {status}" in error for error in summary.failures)


def test_a_refused_request_fails_its_own_pair_alone(tmp_path):
    def behaviour(handler: Handler, request: Request) -> None:
        if "0 + 7" in request.body["messages"][0]["content"]:
            handler.refuse(400, "content policy")
        else:
            handler.answer()

    with misbehaving(behaviour) as server:
        summary = gather(tmp_path, server, 5)
    assert (summary.answered, summary.records, len(server.requests)) == (4, 4, 5)
    assert summary.failures == {"m: refused: " + next(iter(summary.failures)).split("refused: ")[1]: 1}


def test_one_dead_endpoint_does_not_stop_the_others(tmp_path):
    with misbehaving(lambda handler, _: handler.answer()) as server:
        pool = pool_toml(
            tmp_path / "pool.toml",
            {"name": "dead", "url": "http://127.0.0.1:9/v1"},
            {"name": "well", "url": server.url},
        )
        options = CollectOptions(retry=Retry(2, 0.01, 0.01))
        tasks = sum_tasks(tmp_path / "tasks.jsonl", 3)
        summary = collect(tasks, Pool.load(pool), tmp_path / "out.jsonl", options=options)
    assert (summary.stopped, summary.answered, summary.unsure_usd) == ("failed", 3, 0.0)
    assert all("connection was refused" in error for error in summary.failures)
    (first, *_) = read_records(tmp_path / "out.jsonl")
    assert [output.model for output in first.outputs] == ["well"]


@pytest.mark.parametrize(
    "usage",
    [
        {"prompt_tokens": None, "completion_tokens": None},
        {"prompt_tokens": -5},
        {"completion_tokens": 0},
        {"prompt_tokens": 10**9},
        {"completion_tokens": 10**9},
    ],
)
def test_a_server_that_lies_about_usage_is_not_believed(tmp_path, usage):
    with misbehaving(lambda handler, _: handler.answer("Answer: 7 " + "because " * 10, **usage)) as server:
        summary = gather(tmp_path, server, 2, max_output_tokens=64)
    assert summary.flagged == 2
    assert 0 < summary.spent_usd < 1e-3
    for record in read_records(tmp_path / "out.jsonl"):
        assert 20 <= record.input_tokens <= 60
        assert 4 <= record.outputs[0].output_tokens <= 30
    flags = [event["flag"] for event in journal_events(tmp_path / "out.jsonl.journal.jsonl", "answered")]
    assert all(next(iter(usage)) in flag for flag in flags)


def test_an_answer_without_text_is_wrong_and_paid(tmp_path):
    with misbehaving(lambda handler, _: handler.answer(None, completion_tokens=16)) as server:
        summary = gather(tmp_path, server, 1)
    assert summary.spent_usd == pytest.approx((30 + 16 * 4) / 1e6)
    (record,) = read_records(tmp_path / "out.jsonl")
    assert record.outputs[0].quality == 0.0


def test_a_server_of_another_dialect_is_followed(tmp_path):
    def behaviour(handler: Handler, request: Request) -> None:
        if "max_tokens" in request.body:
            handler.refuse(400, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.")
        elif "temperature" in request.body:
            handler.refuse(400, "Unsupported value: 'temperature' does not support 0.0 with this model.")
        else:
            handler.answer()

    with misbehaving(behaviour) as server:
        summary = gather(tmp_path, server, 4, concurrency=1)
    assert summary.stopped == "done"
    assert len(server.requests) == 6
    assert server.requests[-1].body["max_completion_tokens"] == 16


def test_concurrency_and_pace_are_kept(tmp_path):
    def slow(handler: Handler, _: Request) -> None:
        time.sleep(0.1)
        handler.answer()

    with misbehaving(slow) as server:
        gather(tmp_path, server, 12, model={"slots": 3})
        assert 2 <= server.most_running <= 3
    (tmp_path / "out.jsonl.journal.jsonl").unlink()
    with misbehaving(lambda handler, _: handler.answer()) as server:
        gather(tmp_path, server, 6, model={"requests_per_minute": 600})
    times = [request.at for request in server.requests]
    # Six calls a tenth of a second apart; the first may be held up by its connection.
    assert times[-1] - times[0] >= 0.3


@pytest.mark.parametrize("lie", [{}, {"completion_tokens": None}])
def test_the_ceiling_is_never_passed(tmp_path, lie):
    """Every answer uses all it may; what the server could bill stays below the ceiling at every moment."""

    def dear(handler: Handler, _: Request) -> None:
        time.sleep(0.01)
        handler.answer("Answer: 7" + " x" * 10, **{"prompt_tokens": 150, "completion_tokens": 16, **lie})

    ceiling = 0.003
    with misbehaving(dear) as server:
        summary = gather(tmp_path, server, 60, max_cost=ceiling, concurrency=8)
        billed = len(server.requests) * (150 + 16 * 4) / 1e6
        assert summary.stopped == "max_cost"
        assert 0 < summary.answered < 60
        assert billed <= ceiling
        assert summary.spent_usd <= ceiling
        # The run ends when what is left cannot pay for one more call at its dearest.
        assert summary.spent_usd > 0.5 * ceiling
        asked = len(server.requests)
        again = gather(tmp_path, server, 60, max_cost=ceiling)
        assert (again.stopped, len(server.requests)) == ("max_cost", asked)
        more = gather(tmp_path, server, 60, max_cost=1.0)
    assert (more.stopped, more.answered, more.found) == ("done", 60, summary.answered)
    assert len(set(server.keys)) == len(server.keys) == 60


def test_a_ceiling_below_one_call_asks_nothing(tmp_path):
    with misbehaving(lambda handler, _: handler.answer()) as server:
        summary = gather(tmp_path, server, 3, max_cost=1e-6)
    assert (summary.stopped, summary.answered, len(server.requests)) == ("max_cost", 0, 0)


def test_a_judge_grades_free_answers(tmp_path):
    import json

    def behaviour(handler: Handler, request: Request) -> None:
        text = request.body["messages"][0]["content"]
        if request.body["model"] == "judge":
            handler.answer("I cannot say." if "garbled" in text else "Score: 8", completion_tokens=5)
        else:
            handler.answer("garbled" if "second" in text else "A fine answer.")

    rows = [
        {"query": f"Write the {word} poem.", "kind": "free", "answer": "a poem"}
        for word in ("first", "second")
    ]
    tasks = tmp_path / "tasks.jsonl"
    tasks.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with misbehaving(behaviour) as server:
        judge = {"name": "judge", "url": server.url, "input_price": 10.0, "output_price": 10.0}
        pool = Pool.load(pool_toml(tmp_path / "pool.toml", {"name": "m", "url": server.url}, judge))
        options = CollectOptions(judge="judge", retry=QUICK)
        summary = collect(tasks, pool, tmp_path / "out.jsonl", options=options)
        asked = [request.body["model"] for request in server.requests]
        assert sorted(asked) == ["judge", "judge", "judge", "m", "m"]
        assert summary.failures == {"the judge judge gave no score in 2 tries": 1}
        # Judging is paid for as well: three calls of 30 + 5 tokens at 10 US$ a million.
        assert summary.spent_usd == pytest.approx(2 * 46e-6 + 3 * 35 * 10 / 1e6)
        (record,) = read_records(tmp_path / "out.jsonl")
        assert record.outputs[0].quality == 0.8
        assert record.outputs[0].cost_usd == pytest.approx(46e-6)
        # The next run has the answer and asks the judge alone.
        collect(tasks, pool, tmp_path / "out.jsonl", options=options)
        asked = [request.body["model"] for request in server.requests[5:]]
        assert asked == ["judge", "judge"]
        other = CollectOptions(judge="m", retry=QUICK)
        with pytest.raises(RecordError, match=r"grades of the judge 'judge', this run has 'm'"):
            collect(tasks, pool, tmp_path / "out.jsonl", models=["m"], options=other)


def test_what_the_pool_says_of_an_endpoint_is_sent(tmp_path, monkeypatch):
    monkeypatch.setenv("TINY_KEY", "sesame")
    endpoint = {"api_key_env": "TINY_KEY", "headers": {"X-Team": "ants"}}
    with misbehaving(lambda handler, _: handler.answer()) as server:
        model = LLM("m", 1, 4, effort="low", endpoint=Endpoint(server.url, **endpoint))
        collect(sum_tasks(tmp_path / "tasks.jsonl", 1), Pool([model]), tmp_path / "out.jsonl")
    (request,) = server.requests
    assert request.headers["authorization"] == "Bearer sesame"
    assert request.headers["x-team"] == "ants"
    assert request.body["reasoning_effort"] == "low"
    assert "sesame" not in (tmp_path / "out.jsonl.journal.jsonl").read_text()


def test_tasks_may_be_added_and_taken_out_between_runs(tmp_path):
    with misbehaving(lambda handler, _: handler.answer()) as server:
        gather(tmp_path, server, 4)
        summary = gather(tmp_path, server, 6)
        assert (summary.found, summary.answered, len(server.requests)) == (4, 6, 6)
        fewer = gather(tmp_path, server, 2)
    assert (fewer.wanted, fewer.answered, fewer.records) == (2, 2, 2)
    assert fewer.spent_usd == pytest.approx(6 * 46e-6)
