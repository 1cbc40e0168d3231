"""Rows with a deadline of their own: no lane that is too late, the soonest first, none asked after it."""

from __future__ import annotations

import json
import time

import pytest

from eccos_rs import LLM, NoModelError, Pool, Query, QueryError, Router
from eccos_rs.bulk.queries import RowReader
from tests.bulk import test_batch_lane as lane
from tests.bulk.test_execute import answers, asked, execution
from tests.bulk.test_route_folder import NAMES, ByText
from tests.helpers.batches import batch_provider
from tests.helpers.endpoints import misbehaving


def write(folder, *deadlines):
    rows = (
        {"id": f"r{at}", "query": f"Question {at}"} | ({} if seconds is None else {"deadline": seconds})
        for at, seconds in enumerate(deadlines)
    )
    (folder / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_a_lane_that_answers_too_late_is_closed_to_a_query():
    batch = LLM("small", 0.05, 0.2, lane="batch", model="small")
    hours = LLM("mid", 1.0, 4.0, lane="flex", lane_hours=2.0)
    pool = Pool([batch, hours, LLM("large", 3.0, 12.0)])
    assert [model.lane_seconds for model in pool] == [86_400.0, 7_200.0, 0.0]
    router = Router(pool, ByText())
    wanted = (None, 86_400.0, 86_399.0, 7_199.0)
    queries = [Query("Hello", deadline=seconds) for seconds in wanted]
    allowed = router.problem(router.predict(queries), queries).allowed
    assert allowed.tolist() == [[True] * 3, [True] * 3, [False, True, True], [False, False, True]]
    with pytest.raises(NoModelError, match="its lane answers within 86,400 s, wanted are 60"):
        Router(Pool([batch]), ByText()).route([Query("Hello", deadline=60)])


@pytest.mark.parametrize("seconds", [0, -1, float("inf"), "soon", True])
def test_a_deadline_that_is_none_is_told(seconds):
    with pytest.raises(QueryError, match="deadline must be seconds, more than 0, got"):
        Query("Hello", deadline=seconds)


def test_a_column_holds_it_unless_it_is_ones_own():
    assert RowReader().row("row 1", {"query": "a", "deadline": "3600"}).query.deadline == 3600
    kept = RowReader(own=("deadline",)).row("row 1", {"query": "a", "deadline": "2027-01-01"})
    assert kept.query.deadline is None
    assert kept.own["deadline"] == "2027-01-01"


def test_rows_that_may_wait_are_batched_and_the_others_asked_at_once(tmp_path):
    write(tmp_path, *(None if at % 2 else 3600.0 for at in range(30)))
    with batch_provider() as provider:
        report = lane.execution(tmp_path, provider.url).run()
        batched = {int(question.split()[1]) for question in provider.batched}
    assert (report.stopped, report.answered, report.late) == ("done", 30, 0)
    assert batched
    assert all(number % 2 for number in batched)


def test_the_soonest_come_first_and_none_after_its_deadline(tmp_path):
    write(tmp_path, *[None] * 12, *[60.0] * 6, *[1e-6] * 6)

    def slow(handler, _):
        time.sleep(0.02)
        handler.answer("yes")

    with misbehaving(slow) as server:
        run = execution(tmp_path, server.url, concurrency=1)
        run.job.router = Router(run.job.router.pool.replace("small", slots=1), ByText())
        report = run.run()
        numbers = [int(question.split()[1]) for question in asked(server)]
        again = execution(tmp_path, server.url).run()
        assert len(server.requests) == 18
    assert (report.stopped, report.answered, report.late) == ("deadline", 18, 6)
    assert (again.stopped, again.found, again.late) == ("deadline", 18, 6)
    assert set(numbers) == set(range(18))
    by_model = {name: [] for name in NAMES}
    model = {row["id"]: row.get("model") for row in answers(tmp_path)}
    for number in numbers:
        by_model[model[f"r{number}"]].append(number)
    small = by_model["small"]
    assert small == sorted(small, key=lambda number: (number < 12, number))
    assert [row["status"] for row in answers(tmp_path)[18:]] == ["late"] * 6


def test_a_deadline_counts_from_the_start_of_the_job(tmp_path):
    write(tmp_path, 1.0, None)
    works = []

    def at_first_never(handler, _):
        if works:
            handler.answer("yes")
        else:
            handler.refuse(503)

    with misbehaving(at_first_never) as server:
        assert execution(tmp_path, server.url).run().answered == 0
        works.append(True)
        server.requests.clear()
        time.sleep(1.0)
        second = execution(tmp_path, server.url).run()
        assert asked(server) == ["Question 1"]
    assert (second.answered, second.late, second.stopped) == (1, 1, "deadline")
