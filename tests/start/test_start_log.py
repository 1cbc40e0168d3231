"""Logs as they are: every form, bad rows, repetitions, a sample of a long one; whom to ask, and for whom."""

from __future__ import annotations

import json

import numpy as np
import pytest

from eccos_rs.errors import InputError
from eccos_rs.start.clusters import describe, find_clusters
from eccos_rs.start.log import read_log
from eccos_rs.start.sampling import Design, asking_order, importance, sample_weights

CHAT = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Name a river."}]
TOOL = {"type": "function", "function": {"name": "rain", "parameters": {"type": "object", "properties": {}}}}


def written(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "row",
    [
        {"model": "gpt-4o", "messages": CHAT, "temperature": 0.3},
        {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions",
         "body": {"model": "gpt-4o", "messages": CHAT}},
        {"request_id": "a", "call_type": "acompletion", "model": "gpt-4o", "spend": 0.0,
         "messages": json.dumps(CHAT)},
        {"request_id": "a", "model": "gpt-4o", "spend": 0.0, "messages": "{}",
         "proxy_server_request": json.dumps({"model": "gpt-4o", "messages": CHAT})},
        {"model": "gpt-4o", "messages": [*CHAT, {"role": "assistant", "content": "The Rhine."}]},
    ],
)  # fmt: skip
def test_every_form_asks_the_same(tmp_path, row):
    log = read_log(written(tmp_path / "log.jsonl", [row, row]), sample=100)
    (entry,) = log.entries
    assert (entry.count, entry.today, log.requests) == (2, "gpt-4o", 2)
    assert entry.task.chat() == CHAT
    assert entry.query.question == "Name a river."
    assert entry.task.kind == "free"


def test_tools_and_schemas_are_sent_along(tmp_path):
    body = {"model": "m", "messages": CHAT, "tools": [TOOL], "tool_choice": "auto", "temperature": 1.0}
    rows = [body, {"model": "m", "messages": CHAT}]
    with_tools, plain = read_log(written(tmp_path / "log.jsonl", rows), sample=9).entries
    assert dict(with_tools.task.fields) == {"tools": [TOOL], "tool_choice": "auto"}
    assert with_tools.query.tools
    assert not plain.query.tools
    assert plain.task.fields == ()
    assert plain.task.digest != with_tools.task.digest


@pytest.mark.parametrize(
    ("row", "kind", "answers"),
    [
        ({"query": "2 + 2?", "answer": 4}, "numeric", ("4",)),
        ({"query": "Capital?", "expected": "Paris"}, "exact", ("Paris",)),
        ({"query": "Why?", "reference": "Because " * 10}, "free", (("Because " * 10).strip(),)),
        ({"query": "Which?", "choices": ["ja", "nein"], "answer": "nein"}, "multiple_choice", ("B",)),
        ({"query": "Which?", "choices": ["ja", "nein"], "answer": "b"}, "multiple_choice", ("B",)),
    ],
)
def test_an_expected_answer_says_how_to_grade(tmp_path, row, kind, answers):
    (entry,) = read_log(written(tmp_path / "log.jsonl", [row]), sample=9).entries
    assert (entry.task.kind, entry.task.answers) == (kind, answers)


def test_bad_rows_are_counted_and_the_first_is_named(tmp_path):
    path = written(
        tmp_path / "log.jsonl", [{"query": "Hi"}, {"url": "/v1/embeddings", "body": {"input": "x"}}]
    )
    with path.open("a") as stream:
        stream.write('{"query": "Ho"}\n{"query": "torn of')
    log = read_log(path, sample=9)
    assert [entry.query.text for entry in log.entries] == ["Hi", "Ho"]
    assert (log.rows, log.read, log.unreadable) == (4, 4, 2)
    assert "line 4" in log.problem or "line 2" in log.problem


@pytest.mark.parametrize("text", ["", "{}\n", '{"query": ""}\n', '{"torn": '])
def test_a_log_without_a_request_says_so(tmp_path, text):
    path = tmp_path / "log.jsonl"
    path.write_text(text)
    with pytest.raises(InputError, match=r"log\.jsonl.*(is empty|holds no request)"):
        read_log(path, sample=9)


def test_a_long_log_is_sampled_fairly(tmp_path):
    rows = [{"query": f"question {number // 100}"} for number in range(4000)]
    log = read_log(written(tmp_path / "log.jsonl", rows), sample=500, seed=1)
    assert (log.rows, log.read, len(log.entries)) == (4000, 500, 40)
    counts = [entry.count for entry in log.entries]
    assert sum(counts) == 500
    assert min(counts) >= 4  # 12.5 expected of each
    assert max(counts) <= 25
    again = read_log(tmp_path / "log.jsonl", sample=500, seed=1)
    assert [e.count for e in again.entries] == counts


def test_five_languages_and_one_request(tmp_path):
    texts = [
        "Was ist Licht?",
        "Qu'est-ce que la lumière ?",
        "光とは何ですか",
        "Что такое свет?",
        "ما هو الضوء؟",
    ]
    log = read_log(written(tmp_path / "log.jsonl", [{"query": text} for text in texts]), sample=9)
    assert [entry.query.text for entry in log.entries] == texts


def test_words_of_one_request_alone_do_not_name_a_kind():
    rng = np.random.default_rng(0)
    kinds = rng.normal(size=(2, 16))
    texts, vectors = [], []
    for number in range(60):
        kind = number % 2
        texts.append(
            f"{'invoice payment due' if kind else 'river garden walk'} secretname{'abcdefghij'[number % 10]}"
        )
        vectors.append(kinds[kind] + 0.05 * rng.normal(size=16))
    unit = np.array(vectors) / np.linalg.norm(vectors, axis=1, keepdims=True)
    texts[0] += " hunter"
    label = find_clusters(unit.astype(np.float32), np.ones(60))
    # A cluster holds one kind alone.
    assert all(len({row % 2 for row in np.flatnonzero(label == at)}) == 1 for at in np.unique(label))
    words = {word for each in describe(label, np.ones(60), texts, None) for word in each.words}
    assert words & {"invoice", "payment", "due", "river", "garden", "walk"}
    assert not any("hunter" in word for word in words)


def test_more_money_asks_the_same_and_more_and_weights_recover_the_log():
    """The weighted sample's mean is the log's, over many draws of the lots."""
    rng = np.random.default_rng(2)
    n = 400
    label = rng.integers(0, 6, n)
    mass = rng.geometric(0.5, n).astype(float)
    quality = rng.uniform(0.05, 0.95, (n, 3))
    cost = np.exp(rng.normal(size=n))
    tells = importance(mass, quality, cost)
    outcome = rng.random(n) + 0.2 * label
    truth = np.average(outcome, weights=mass)
    found = []
    for draw in range(60):
        order = asking_order([f"{draw}/{at}" for at in range(n)], tells, label)
        assert sorted(order.tolist()) == list(range(n))
        rows = np.sort(order[:80])
        weight = sample_weights(rows, mass, Design(order, tells, label))
        assert weight.sum() == pytest.approx(mass.sum())
        found.append(np.average(outcome[rows], weights=weight))
    assert np.mean(found) == pytest.approx(truth, abs=3 * np.std(found) / 60**0.5 + 0.01)
    # Spread over the kinds in proportion to what they tell.
    share = np.bincount(label[order[:80]], weights=np.ones(80)) / 80
    wanted = np.bincount(label, weights=tells) / tells.sum()
    assert np.abs(share - wanted).max() < 0.04


def test_pieces_of_keys_and_addresses_are_no_words():
    secrets = "sk-live-SECRETkey password=hunter ada@example.org"
    texts = [f"please rotate {secrets} now {number}" for number in range(20)]
    (kind,) = describe(np.zeros(20, dtype=int), np.ones(20), [*texts[:-1], "else"], None)
    assert kind.words == () or set(kind.words) <= {"please", "rotate", "now"}
    two = describe(np.repeat([0, 1], 20), np.ones(40), [*texts, *["name a river"] * 20], None)
    words = {word for each in two for word in each.words}
    assert words >= {"river", "rotate"}
    assert not words & {"secretkey", "live", "password", "hunter", "ada", "example", "org"}


USAGES = [
    {"prompt_tokens": 30, "completion_tokens": 70},
    {"usage": {"prompt_tokens": 30, "completion_tokens": 70, "total_tokens": 100}},
    {"usage": {"input_tokens": 30, "output_tokens": 70}},
    {"usage": {"input_tokens": 10, "cache_read_input_tokens": 20, "output_tokens": 70}},
    {"response": {"id": "c", "usage": {"prompt_tokens": 30, "completion_tokens": 70}}},
    {"response": {"status_code": 200, "body": {"usage": {"prompt_tokens": 30, "completion_tokens": 70}}}},
    {
        "response": {
            "usageMetadata": {"promptTokenCount": 30, "candidatesTokenCount": 50, "thoughtsTokenCount": 20}
        }
    },
    {"usage": {"prompt_tokens": 30, "cache_read_input_tokens": 20, "completion_tokens": 70}},
    {"response": json.dumps({"usage": {"prompt_tokens": 30, "completion_tokens": 70}})},
    {"prompt_tokens": "30", "completion_tokens": "70.0"},
]
NO_USAGES = [
    {},
    {"prompt_tokens": 30},
    {"prompt_tokens": 30, "completion_tokens": 0},
    {"prompt_tokens": -3, "completion_tokens": 70},
    {"prompt_tokens": "many", "completion_tokens": 70},
    {"prompt_tokens": float("nan"), "completion_tokens": 70},
    {"usage": None, "response": "an answer"},
    {"usage": {"usage": {"usage": {"usage": {"prompt_tokens": 30, "completion_tokens": 70}}}}},
]


@pytest.mark.parametrize("counted", USAGES)
def test_what_answers_took_is_read_in_every_form(tmp_path, counted):
    row = {"model": "gpt-4o", "messages": CHAT, **counted}
    (entry,) = read_log(written(tmp_path / "log.jsonl", [row, row]), sample=9).entries
    assert (entry.used["gpt-4o"].answers, entry.used["gpt-4o"].means) == (2, (30.0, 70.0))


@pytest.mark.parametrize("counted", NO_USAGES)
def test_what_cannot_be_a_count_is_none(tmp_path, counted):
    row = {"model": "gpt-4o", "messages": CHAT, **counted}
    (entry,) = read_log(written(tmp_path / "log.jsonl", [row]), sample=9).entries
    assert entry.used == {}


@pytest.mark.parametrize(
    ("more", "today"),
    [
        ({"reasoning_effort": "high"}, "o3@high"),
        ({"reasoning": {"effort": "low"}, "service_tier": "flex"}, "o3@low@flex"),
        ({"service_tier": "auto", "reasoning_effort": None}, "o3"),
    ],
)
def test_the_effort_and_the_lane_are_part_of_who_answered(tmp_path, more, today):
    row = {"model": "o3", "messages": CHAT, **more}
    (entry,) = read_log(written(tmp_path / "log.jsonl", [row]), sample=9).entries
    assert entry.today == today
