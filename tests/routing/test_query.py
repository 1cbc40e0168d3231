"""What comes in: coercion, the text a predictor sees, hard needs read off a chat."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eccos_rs import Query, QueryError

CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "First?"},
    {"role": "assistant", "content": "Yes."},
    {"role": "user", "content": "Second?"},
]


def test_a_text_a_chat_a_mapping_and_a_query_are_taken():
    assert Query.of("Hi").text == "Hi"
    assert Query.of(CHAT).messages == tuple(CHAT)
    assert Query.of({"query": "Hi", "id": "a", "min_quality": 0.5}) == Query("Hi", id="a", min_quality=0.5)
    assert Query.of({"prompt": "Hi"}) == Query.of({"text": "Hi"}) == Query("Hi")
    query = Query("Hi")
    assert Query.of(query) is query


def test_the_habits_of_other_apis_are_read():
    body = {"messages": CHAT, "max_completion_tokens": 50, "tools": [{"type": "function"}], "id": 7}
    query = Query.of(body)
    assert (query.max_output_tokens, query.tools, query.id) == (50, True, "7")
    assert Query.of({"messages": CHAT, "tools": []}).tools is False
    assert Query.of({"query": "Hi", "models": ["a", "b"], "group": None}).models == ("a", "b")


def test_the_prompt_of_a_chat_holds_every_turn_with_the_newest_first_and_the_system_last():
    assert Query.of(CHAT).prompt == "Second?\n\nYes.\n\nFirst?\n\nBe brief."


def test_a_chat_of_one_turn_reads_like_the_plain_text():
    assert Query.of([{"role": "user", "content": "Hi"}]).prompt == Query("Hi").prompt


def test_content_parts_are_joined_and_an_image_needs_vision():
    content = [
        {"type": "text", "text": "What is"},
        {"type": "text", "text": "this?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
    ]
    query = Query.of([{"role": "user", "content": content}])
    assert query.prompt == "What is\nthis?"
    assert query.vision
    assert not query.tools


def test_a_tool_call_and_its_answer_need_tools_and_count_as_text():
    call = {"id": "1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}
    chat = [
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": "rain"},
    ]
    query = Query.of(chat)
    assert query.tools
    assert query.prompt == 'rain\n\nweather {"city": "Oslo"}\n\nWeather?'


def test_a_chat_without_a_user_turn_is_routed_by_what_it_says():
    assert Query.of([{"role": "system", "content": "Write a haiku."}]).prompt == "Write a haiku."


@pytest.mark.parametrize(
    ("text", "prompt"),
    [
        ("", ""),
        ("a\x00b", "a\x00b"),
        ("lone \ud800 surrogate", "lone \ufffd surrogate"),
        ("pair \ud83d\ude00", "pair 😀"),
        ("\u202eright to left\u202c שלום", "\u202eright to left\u202c שלום"),
        ("👩‍👩‍👧 family", "👩‍👩‍👧 family"),
    ],
)
def test_the_prompt_is_valid_unicode_and_the_text_stays(text, prompt):
    query = Query(text)
    assert query.prompt == prompt
    assert query.text == text
    query.prompt.encode("utf-8")


@given(st.text(st.characters(codec=None)))
def test_every_text_has_a_prompt_that_encodes(text):
    Query(text).prompt.encode("utf-8")


def test_a_million_characters_are_no_trouble():
    assert len(Query("a é " * 250_000).prompt) == 1_000_000


@pytest.mark.parametrize(
    ("item", "sentence"),
    [
        (7, "a str, a list of chat messages, a mapping or a Query; got int"),
        (b"bytes", "got bytes"),
        ({}, "one of the keys query, text, prompt, messages"),
        ({"query": "a", "text": "b"}, "'text' gives text a second time"),
        ({"query": "a", "min_qualty": 1}, "'min_qualty'.*did you mean 'min_quality'"),
        ({"role": "user", "content": "Hi"}, "single chat message where a query was wanted"),
        ([], "messages is empty"),
        (["Hi"], "message 0 must be a mapping"),
        ([{"content": "Hi"}], "message 0 needs a role"),
        ([{"role": "user"}], r"message 0 \(user\) has no content"),
        ([{"role": "user", "content": 3}], "content must be a str or a list of parts, got int"),
        ([{"role": "user", "content": [3]}], "content part must be a mapping, got int"),
        ([{"role": "user", "content": [{"type": "input_audio"}]}], "'input_audio' cannot be routed"),
    ],
)
def test_what_is_no_query_is_refused_by_name(item, sentence):
    with pytest.raises(QueryError, match=sentence):
        Query.of(item)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({}, "exactly one of text and messages; got neither"),
        ({"text": "a", "messages": CHAT}, "got both"),
        ({"text": 3}, "text must be a str, got int"),
        ({"text": "a", "models": "gpt"}, "models must be a sequence of names"),
        ({"text": "a", "models": ()}, "at least one name"),
        ({"text": "a", "models": [1]}, "each a str"),
        ({"text": "a", "vision": 1}, "vision must be True or False, got 1"),
        ({"text": "a", "context_tokens": -1}, "context_tokens must be an int of at least 0, got -1"),
        ({"text": "a", "max_output_tokens": 0}, "max_output_tokens must be an int of at least 1, got 0"),
        ({"text": "a", "priority": 1.5}, "priority must be an int in .*, got 1.5"),
        ({"text": "a", "priority": None}, "priority must be an int in .*, got None"),
        ({"text": "a", "min_quality": 1.01}, r"min_quality must lie in \[0, 1\], got 1.01"),
        ({"text": "a", "min_quality": float("nan")}, "got nan"),
        ({"text": "a", "group": 3}, "group must be a str, got 3"),
        ({"messages": {"role": "user"}}, "messages must be a sequence of mappings, got dict"),
    ],
)
def test_a_malformed_field_is_refused_by_name(fields, sentence):
    with pytest.raises(QueryError, match=sentence):
        Query(**fields)


def test_a_query_is_a_value():
    query = Query.of(CHAT)
    assert pickle.loads(pickle.dumps(query)) == query
    with pytest.raises(AttributeError):
        query.priority = 3
