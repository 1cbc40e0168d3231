"""Collecting, part by part: tasks, grading, usage, the money ceiling, the journal."""

from __future__ import annotations

import asyncio
import json
from email.utils import formatdate
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from eccos_rs.errors import InputError, PoolError, RecordError
from eccos_rs.pools.pool import LLM, Endpoint, Pool
from eccos_rs.records.collect import CollectOptions, Task, collect, grade, read_tasks
from eccos_rs.records.collect.endpoint import Caller, Retry
from eccos_rs.records.collect.faults import retry_after
from eccos_rs.records.collect.grade import judged_score, parse_number
from eccos_rs.records.collect.journal import Journal
from eccos_rs.records.collect.money import SpendLedger
from eccos_rs.records.collect.prompt import judge_messages, task_messages
from eccos_rs.records.collect.usage import check_usage, most_input_tokens

if TYPE_CHECKING:
    from pathlib import Path

SETTINGS = {"temperature": 0.0}


def tasks_file(tmp_path: Path, *rows: dict[str, Any]) -> Path:
    path = tmp_path / "tasks.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_tasks_of_every_kind(tmp_path):
    path = tasks_file(
        tmp_path,
        {"query": "Which?", "choices": ["red", "blue"], "answer": "blue", "id": 1},
        {"query": "Which letter?", "choices": ["red", "blue"], "answer": "a", "dataset": "letters"},
        {"query": "Which place?", "choices": ["red", "blue"], "answer": 1},
        {"query": "6 x 7?", "kind": "numeric", "answer": 42, "tolerance": 0.1, "max_output_tokens": 5},
        {"query": "Capital of France?", "kind": "exact", "answer": ["Paris", "City of Paris"]},
        {"query": "Say something.", "kind": "free"},
    )
    tasks = read_tasks(path)
    assert [task.answers for task in tasks] == [
        ("B",),
        ("A",),
        ("B",),
        ("42",),
        ("Paris", "City of Paris"),
        (),
    ]
    assert tasks[0].text == "Which?\n(A) red\n(B) blue"
    assert [tasks[0].id, tasks[0].dataset, tasks[1].dataset] == ["1", "tasks", "letters"]
    assert tasks[3].max_output_tokens == 5
    assert len({task.digest for task in tasks}) == 6


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"query": "", "kind": "free"}, "row 1, column 'query'"),
        ({"query": "q"}, "column 'kind': got None"),
        ({"query": "q", "kind": "essay"}, "column 'kind': got 'essay'"),
        ({"query": "q", "kind": "numeric"}, "column 'answer': is missing"),
        ({"query": "q", "kind": "numeric", "answer": "seven"}, "wanted a number"),
        ({"query": "q", "kind": "multiple_choice", "answer": "A"}, "needs choices"),
        ({"query": "q", "kind": "exact", "answer": "A", "choices": ["a", "b"]}, "takes no choices"),
        ({"query": "q", "choices": ["a"], "answer": "A"}, "2 to 26 options"),
        ({"query": "q", "choices": ["a", "b"], "answer": "C"}, "got 'C', wanted a letter A to B"),
        ({"query": "q", "choices": ["a", "b"], "answer": 2}, "got 2"),
        ({"query": "q", "kind": "free", "colour": 1}, "nobody knows"),
    ],
)
def test_a_task_with_a_mistake_is_named(tmp_path, row, problem):
    with pytest.raises(RecordError) as caught:
        read_tasks(tasks_file(tmp_path, row))
    assert problem in str(caught.value)


def test_tasks_that_repeat_or_are_none(tmp_path):
    row = {"query": "q", "kind": "free"}
    merged: list[str] = []
    assert len(read_tasks(tasks_file(tmp_path, row, {**row, "id": 9}), on_duplicate=merged.append)) == 1
    assert merged == ["tasks.jsonl, row 2: the same task stands in row 1 already; merged"]
    with pytest.raises(
        RecordError, match="the same task stands in row 1 with the answer 'a', here it is 'b'"
    ):
        read_tasks(tasks_file(tmp_path, {**row, "answer": "a"}, {**row, "answer": "b"}))
    with pytest.raises(RecordError, match="the id '5' stands in row 1"):
        read_tasks(tasks_file(tmp_path, {**row, "id": 5}, {**row, "query": "r", "id": 5}))
    with pytest.raises(RecordError, match="holds no task"):
        read_tasks(tasks_file(tmp_path))


CHOICE = Task("Which?", "multiple_choice", ("C",), ("red", "blue", "green", "A grey"))


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("C", True),
        (" (C) ", True),
        ("C.", True),
        ("Answer: C", True),
        ("Some thoughts (A), (B).\n**Answer:** (C) green", True),
        ("Answer: A\nNo, wait.\nAnswer: C", True),
        ("The answer is (C).", True),
        ("So it is \\boxed{C}", True),
        ("Answer: green", True),
        ("C) green", True),
        ("It cannot be (A) or (B), so (C)", True),
        ("Answer: B", False),
        ("A", False),
        ("Can it be? Cows are red.", False),
        ("Answer: Cows", False),
        ("", False),
        ("Answer: E", False),
    ],
)
def test_multiple_choice(text, right):
    assert grade(CHOICE, text) == float(right)


@pytest.mark.parametrize(
    ("answer", "text", "right"),
    [
        ("42", "6 x 7 = 42", True),
        ("42", "I think it is 40.\nAnswer: 42 apples", True),
        ("42", "Answer: 6 x 7 = 42", True),
        ("42", "#### 42", True),
        ("42", "Answer: 42.0", True),
        ("1234.5", "Answer: $1,234.50", True),
        ("0.75", "Answer: 3/4", True),
        ("0.75", "\\boxed{\\frac{3}{4}}", True),
        ("-3", "Answer: −3", True),
        ("0.001", "Answer: 1e-3", True),
        ("20", "Answer: 20 %", True),
        ("42", "Answer: 43", False),
        ("42", "", False),
        ("42", "no idea", False),
        ("42", "Answer: 1/0", False),
        ("3", "Answer: -3", False),
        ("1000000", "Answer: 1000001", True),  # within the relative tolerance of 1e-4
        ("1000000", "Answer: 1000200", False),
    ],
)
def test_numbers(answer, text, right):
    assert grade(Task("?", "numeric", (answer,)), text) == float(right)


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("Paris", True),
        ("Answer: the City of  PARIS.", True),
        ("It is on the Seine.\nAnswer: Paris", True),
        ("Paris or London", False),
        ("", False),
    ],
)
def test_exact_texts(text, right):
    assert grade(Task("?", "exact", ("Paris", "City of Paris")), text) == float(right)


@example("E0")
@example(".e5/3")
@given(st.text(max_size=60))
@example("E0")
@example(".e5/3")
def test_any_text_is_graded(text):
    for task in (CHOICE, Task("?", "numeric", ("42",)), Task("?", "exact", ("Paris",))):
        assert grade(task, text) in (0.0, 1.0)
    assert judged_score(text) is None or 0 <= judged_score(text) <= 1
    parse_number(text)


def test_a_judges_score():
    assert judged_score("Score: 7") == 0.7
    assert judged_score("Fine.\n**Score:** 10") == 1.0
    assert judged_score(" 8/10 ") == 0.8
    assert judged_score("Score: 70") is None
    assert judged_score("good") is None


def test_prompts_ask_where_the_grader_looks():
    (message,) = task_messages(CHOICE)
    assert "(D) A grey" in message["content"]
    assert "Answer: " in message["content"]
    assert task_messages(Task("Say it.", "free", ()))[0]["content"] == "Say it."
    (message,) = judge_messages(Task("Say it.", "free", ("a reference",)), "an answer")
    for part in ("Say it.", "a reference", "an answer", "Score: "):
        assert part in message["content"]


SENT = [{"role": "user", "content": "What is the answer to all this?" * 20}]


@pytest.mark.parametrize(
    ("stated", "flag"),
    [
        ({"prompt_tokens": 150, "completion_tokens": 3}, None),
        ({"prompt_tokens": 150, "completion_tokens": 64}, None),  # hidden reasoning counts
        ({"prompt_tokens": -1, "completion_tokens": 3}, "prompt_tokens=-1 is not a count"),
        ({"prompt_tokens": True, "completion_tokens": 3}, "prompt_tokens=True is not a count"),
        ({"prompt_tokens": "150", "completion_tokens": 3}, "is not a count"),
        ({"prompt_tokens": 2, "completion_tokens": 3}, "prompt_tokens=2 cannot hold 620 bytes"),
        ({"prompt_tokens": 10**7, "completion_tokens": 3}, "the most there can be"),
        ({"prompt_tokens": 150, "completion_tokens": 0}, "completion_tokens=0 cannot hold 9 bytes"),
        ({"prompt_tokens": 150, "completion_tokens": 900}, "completion_tokens=900 is above 65"),
        ({"prompt_tokens": 150}, "completion_tokens is missing"),
        (None, "prompt_tokens is missing; completion_tokens is missing"),
    ],
)
def test_usage_that_cannot_be_is_counted_anew(stated, flag):
    usage = None if stated is None else SimpleNamespace(**stated)
    checked = check_usage(usage, SENT, "forty-two", longest=64, count=lambda text: len(text.split()))
    if flag is None:
        assert checked.flag is None
        assert (checked.input_tokens, checked.output_tokens) == tuple(stated.values())
    else:
        assert flag in (checked.flag or "")
        assert checked.input_tokens in (121, 150)
        assert checked.output_tokens in (1, 3)


def test_the_bound_on_input_holds_for_any_script():
    assert most_input_tokens([{"role": "user", "content": "日本語"}]) >= 9


async def test_the_ledger_waits_and_then_closes():
    ledger = SpendLedger(ceiling=1.0)
    first = await ledger.reserve(0.6)
    assert first is not None
    waiting = asyncio.create_task(ledger.reserve(0.5))
    await asyncio.sleep(0.01)
    assert not waiting.done()
    first.spend(0.1)
    second = await waiting
    assert second is not None
    assert ledger.spent + ledger.reserved == pytest.approx(0.6)
    second.doubt(0.5)
    assert await ledger.reserve(0.45) is None
    assert ledger.closed
    assert await ledger.reserve(0.01) is None
    assert (ledger.spent, ledger.unsure, ledger.reserved) == (0.1, 0.5, 0.0)


async def test_without_a_ceiling_nothing_waits():
    ledger = SpendLedger()
    held = [await ledger.reserve(1e9) for _ in range(3)]
    assert all(held)


async def written(path: Path, events: list[dict[str, Any]], settings: dict[str, Any] = SETTINGS) -> list[Any]:
    """Open a journal, append events, and return those that were there before."""
    found: list[Any] = []
    journal = Journal.open(path, settings, found.append)
    try:
        await asyncio.gather(*(journal.append(event) for event in events))
    finally:
        await journal.close()
    return found


async def test_a_journal_keeps_what_it_was_given(tmp_path):
    path = tmp_path / "j.jsonl"
    events = [{"event": "answered", "text": f"line\nbreak {number} \u2028 ü"} for number in range(50)]
    assert await written(path, events) == []
    assert await written(path, []) == events


@pytest.mark.parametrize("cut", [1, 5, 30])
async def test_a_torn_last_line_is_cut_off(tmp_path, cut):
    path = tmp_path / "j.jsonl"
    await written(path, [{"event": "a", "n": number, "text": "x" * 40} for number in range(3)])
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    found = await written(path, [{"event": "b"}])
    assert [event["n"] for event in found] == [0, 1]
    assert len(await written(path, [])) == 3
    assert path.read_bytes().startswith(whole[: whole.index(b'"n": 2') - 20])


async def test_a_torn_header_starts_anew(tmp_path):
    path = tmp_path / "j.jsonl"
    path.write_bytes(b'{"journal": 1, "sett')
    assert await written(path, [{"event": "a"}]) == []
    assert await written(path, []) == [{"event": "a"}]


async def test_a_damaged_middle_is_named(tmp_path):
    path = tmp_path / "j.jsonl"
    await written(path, [{"event": "a"}, {"event": "b"}])
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + b"garbage\n" + lines[2])
    with pytest.raises(RecordError, match=r"line 2: is damaged"):
        await written(path, [])


async def test_other_settings_and_a_second_writer_are_refused(tmp_path):
    path = tmp_path / "j.jsonl"
    await written(path, [])
    with pytest.raises(RecordError, match=r"made with temperature=0.0, this run has 0.7"):
        await written(path, [], {"temperature": 0.7})
    journal = Journal.open(path, SETTINGS, lambda _: None)
    try:
        with pytest.raises(RecordError, match="another run is writing it"):
            Journal.open(path, SETTINGS, lambda _: None)
    finally:
        await journal.close()


def test_waits_double_and_heed_the_server():
    retry = Retry(first_wait=1.0, longest_wait=8.0)
    for attempt, whole in ((2, 1), (3, 2), (4, 4), (5, 8), (9, 8)):
        waits = [retry.wait(attempt, None) for _ in range(100)]
        assert whole / 2 <= min(waits) <= max(waits) <= whole
        assert max(waits) - min(waits) > whole / 10
    assert retry.wait(2, 30.0) == 30.0


def test_retry_after_in_every_form():
    assert retry_after({"retry-after": "7"}) == 7
    assert retry_after({"retry-after": "0.5"}) == 0.5
    assert retry_after({"retry-after-ms": "250"}) == 0.25
    assert retry_after({}) is None
    assert retry_after({"retry-after": "soon"}) is None
    import time

    assert retry_after({"retry-after": formatdate(time.time() + 20, usegmt=True)}) == pytest.approx(20, abs=2)
    assert retry_after({"retry-after": formatdate(time.time() - 20, usegmt=True)}) == 0


async def test_an_endpoint_is_checked_before_anything_is_asked(monkeypatch):
    with pytest.raises(PoolError, match=r"'m' has no endpoint"):
        Caller(LLM("m", 1, 1), 4)
    keyed = LLM("m", 1, 1, endpoint=Endpoint("http://localhost:1/v1", api_key_env="NO_SUCH_KEY"))
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    with pytest.raises(PoolError, match="environment variable NO_SUCH_KEY"):
        Caller(keyed, 4)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"max_cost": -1}, "max_cost"),
        ({"concurrency": 0}, "concurrency"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"timeout": 0}, "timeout"),
        ({"retry": Retry(attempts=0)}, "attempts"),
        ({"temperature": float("nan")}, "temperature"),
    ],
)
def test_options_out_of_range(change, problem):
    with pytest.raises(InputError, match=f"^{problem}: got"):
        CollectOptions(**change)


def test_what_cannot_be_collected(tmp_path):
    pool = Pool([LLM("m", 1, 1, endpoint=Endpoint("http://localhost:1/v1"))])
    free = [Task("Say it.", "free", ())]
    out = tmp_path / "out.jsonl"
    with pytest.raises(InputError, match="free' need a judge"):
        collect(free, pool, out)
    with pytest.raises(PoolError, match="judge: the pool has no model 'x'"):
        collect(free, pool, out, options=CollectOptions(judge="x"))
    with pytest.raises(PoolError, match="nobody is left to be asked"):
        collect(free, pool, out, options=CollectOptions(judge="m"))
    with pytest.raises(RecordError, match="tasks: got none"):
        collect([], pool, out)
    assert list(tmp_path.iterdir()) == []
