"""What was asked inside a row of a log or a trace, whatever it is called there."""

from __future__ import annotations

import json

import pytest

from eccos_rs.bulk.queries import RowReader, read_query_rows
from eccos_rs.errors import QueryError

BODY = {"model": "m", "messages": [{"role": "user", "content": "hi there"}], "max_tokens": 9}
ASKED = [("user", "hi there")]
CHAT = [{"role": "user", "content": "hi there"}]
ANSWER = {"role": "assistant", "content": "yo"}


def read(row):
    return RowReader().row("log, line 1", row).query


def shape(query):
    if query.messages is None:
        return query.text
    return [(each["role"], each["content"]) for each in query.messages]


@pytest.mark.parametrize(
    "row",
    [
        {"request": BODY, "response": {"choices": [{"message": ANSWER}]}},
        {"request": json.dumps(BODY), "response": "{}"},
        {"request_body": BODY, "response_body": {"messages": [ANSWER]}},
        {"ts": 1, "input": CHAT, "output": [ANSWER]},
        {"input": {"messages": CHAT}, "output": ANSWER},
        {"kwargs": BODY, "latency": 0.3},
        {"anything": BODY, "status": 200},
        {"conversation_id": "1", "conversation": CHAT},
        {"id": "x", "conversations": [{"from": "human", "value": "hi there"}]},
        {"contents": [{"role": "user", "parts": [{"text": "hi there"}]}]},
        {"request": {"contents": [{"role": "user", "parts": [{"text": "hi there"}]}]}},
        {"custom_id": "a", "params": BODY},
        {"custom_id": "a", "body": json.dumps(BODY)},
    ],
)
def test_the_request_is_found(row):
    found = read(row)
    asked = shape(found)
    if isinstance(asked[0][1], list):
        asked = [(role, parts[0]["text"]) for role, parts in asked]
    assert asked == ASKED
    if any(cell in (BODY, json.dumps(BODY)) for cell in row.values()):
        assert found.max_output_tokens == 9


@pytest.mark.parametrize(
    "system", ["be brief", [{"type": "text", "text": "be brief", "cache_control": {"type": "ephemeral"}}]]
)
@pytest.mark.parametrize("inside", [False, True])
def test_instructions_beside_the_messages_count(system, inside):
    body = {**BODY, "system": system}
    assert shape(read({"request": body} if inside else body)) == [("system", "be brief"), *ASKED]
    gemini = {
        "contents": [{"role": "user", "parts": [{"text": "hi"}]}],
        "systemInstruction": {"parts": [{"text": "be brief"}]},
    }
    assert shape(read({"request": gemini} if inside else gemini))[0] == ("system", "be brief")


SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
MESSAGES_BODY = {
    "model": "claude",
    "max_tokens": 50.0,
    "system": "be brief",
    "tools": [{"name": "weather", "description": "It.", "input_schema": SCHEMA}],
    "messages": [
        {"role": "user", "content": "weather?"},
        {
            "role": "assistant",
            "content": [{"type": "tool_use", "id": "a", "name": "weather", "input": {"city": "Oslo"}}],
        },
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a", "content": "rain"}]},
    ],
}
RESPONSES_BODY = {
    "model": "gpt",
    "max_output_tokens": float("nan"),
    "instructions": "be brief",
    "tools": [{"type": "function", "name": "weather", "parameters": SCHEMA}],
    "input": [
        {"role": "user", "content": [{"type": "input_text", "text": "weather?"}]},
        {"type": "function_call", "call_id": "a", "name": "weather", "arguments": '{"city": "Oslo"}'},
        {"type": "function_call_output", "call_id": "a", "output": "rain"},
    ],
}


@pytest.mark.parametrize("body", [MESSAGES_BODY, RESPONSES_BODY])
@pytest.mark.parametrize("wrap", [dict, lambda body: {"request": body, "response": {}}])
def test_calls_of_tools_are_read_in_every_dialect(body, wrap):
    found = read(wrap(body))
    assert [each["role"] for each in found.messages] == ["system", "user", "assistant", "tool"]
    assert found.messages[2]["tool_calls"][0]["function"]["name"] == "weather"
    assert found.messages[3]["content"] == "rain"
    assert found.tools
    assert found.extra_input_tokens > 5
    assert found.max_output_tokens == (50 if "messages" in body else None)


def test_a_malformed_body_is_told_with_its_place():
    with pytest.raises(QueryError, match=r"log, line 1: .*max_tokens"):
        read({**MESSAGES_BODY, "max_tokens": "many"})


def test_columns_beside_the_request_still_count():
    found = read({"request": BODY, "group": "a", "priority": 3, "id": "r1"})
    assert (found.group, found.priority, found.id) == ("a", 3, "r1")


def test_pictures_and_answers_of_gemini_keep_their_place():
    parts = [{"text": "what is it?"}, {"inlineData": {"mimeType": "image/png", "data": "aGk="}}]
    turns = [{"role": "user", "parts": parts}, {"role": "model", "parts": [{"text": "a cat"}]}]
    found = read({"contents": turns})
    assert found.vision
    assert [each["role"] for each in found.messages] == ["user", "assistant"]


@pytest.mark.parametrize(
    "row",
    [
        {"request": "GET /", "status": 200},
        {"output": CHAT, "latency": 2},
        {"one": CHAT, "two": CHAT},
        {"request": {"model": "text-embedding-3-small", "input": "hi"}, "status": 200},
        {"request": {"contents": [3]}, "status": 200},
    ],
)
def test_what_is_no_request_is_told(row):
    with pytest.raises(QueryError, match="log, line 1: no column holds the query; wanted one of query"):
        read(row)


def test_a_csv_of_requests_is_read(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text('at,request\n1,"' + json.dumps(BODY).replace('"', '""') + '"\n', encoding="utf-8")
    assert [shape(row.query) for row in read_query_rows(path)] == [ASKED]
