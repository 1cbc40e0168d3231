"""Bodies, events and usages in every form in which they come."""

from __future__ import annotations

import json

import pytest

from eccos_rs.dialects.usage import Allowance, Usage, answer_cost, read_usage, written_tokens
from eccos_rs.pools.pool import LLM
from eccos_rs.serve.body import REMOVED, parse_body
from eccos_rs.serve.sse import EventReader, parse_event


@pytest.mark.parametrize(
    ("raw", "changes", "wanted"),
    [
        (b'{"a": 1, "model" :"x" }', {"model": "y"}, b'{"a": 1, "model" :"y" }'),
        (b'{"model":"x","model":"z"}', {"model": "y"}, b'{"model":"y","model":"y"}'),
        (b' {"a":1}\n', {"b": [2]}, b' {"a":1,"b":[2]}\n'),
        (b"{ }", {"b": 2}, b'{ "b":2}'),
        (
            b'{"s":"\\ud83d\\ude00 \\ud800","n":1.10}',
            {"n2": 1},
            b'{"s":"\\ud83d\\ude00 \\ud800","n":1.10,"n2":1}',
        ),
        (b'{"a":{"model":"q"},"model":1}', {"model": 2}, b'{"a":{"model":"q"},"model":2}'),
        (b'{"a":1,"b":2}', {"a": REMOVED}, b'{"b":2}'),
        ('{"a":"é漢"}'.encode(), {}, '{"a":"é漢"}'.encode()),
    ],
)
def test_a_body_is_changed_where_it_is_changed(raw, changes, wanted):
    body = parse_body(raw)
    assert body.edited(changes) == wanted
    json.loads(body.edited(changes))


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "not JSON"),
        (b"[]", "must be a JSON object, got list"),
        (b'"x"', "must be a JSON object, got str"),
        (b'{"a":1e999}', "beyond what JSON readers hold"),
        (b'{"a":-1e999}', "beyond what JSON readers hold"),
        (b'{"a":NaN}', "NaN is no JSON"),
        (b'{"a":[Infinity]}', "Infinity is no JSON"),
        (b'{"a":1}x', "something follows"),
        (b'{"a":1,}', "name in double quotes is missing"),
        (b'{"a" 1}', "colon is missing"),
        (b'{"a":1 "b":2}', "comma is missing"),
        (b'{"a":}', "value is missing"),
        (b'{"a":' + b"9" * 5000 + b"}", "not JSON"),
        (b'{"a":' + b"[" * 100_000, "not JSON"),
        (b'{"a":"\xff"}', "not JSON"),
        (b'{"a":"\n"}', "not JSON"),
    ],
)
def test_a_malformed_body_is_refused_with_its_reason(raw, reason):
    with pytest.raises(ValueError, match=reason):
        parse_body(raw)


def test_utf16_and_a_byte_order_mark_are_read():
    for encoding in ("utf-8-sig", "utf-16", "utf-32"):
        assert parse_body('{"a":"é"}'.encode(encoding)).values == {"a": "é"}


STREAM = [b'data: {"a":1}', b': ping\nevent: message\nid: 7\ndata: {"b":\ndata: 2}', b"data:[DONE]"]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("spare", [b"", b"\n"])
def test_events_are_cut_whatever_ends_their_lines(end, size, spare):
    text = b"".join(spare.replace(b"\n", end) + part.replace(b"\n", end) + end + end for part in STREAM)
    reader, events = EventReader(), []
    for at in range(0, len(text), size):
        events += reader.feed(text[at : at + size])
    rest = reader.rest()
    assert b"".join(events) + rest == text
    parsed = [parse_event(raw) for raw in [*events, rest]]
    found = [event for event in parsed if event.data is not None]
    assert [event.data for event in found] == [b'{"a":1}', b'{"b":\n2}', b"[DONE]"]
    assert [event.name for event in found] == ["", "message", ""]
    assert found[1].json() == {"b": 2}


DETAILS = "prompt_tokens_details", "completion_tokens_details"
USAGES = [
    ({"prompt_tokens": 10, "completion_tokens": 5}, (10, 5, 0, 0, 0)),
    ({"prompt_tokens": 10.0, "completion_tokens": 5.0}, (10, 5, 0, 0, 0)),
    ({"prompt_tokens": "10", "completion_tokens": "5"}, (10, 5, 0, 0, 0)),
    ({"prompt_tokens": 100, "completion_tokens": 5, DETAILS[0]: {"cached_tokens": 80}}, (100, 5, 80, 0, 0)),
    ({"prompt_tokens": 1000, "completion_tokens": 10, "prompt_cache_hit_tokens": 900}, (1000, 10, 900, 0, 0)),
    (
        {"prompt_cache_hit_tokens": 900, "prompt_cache_miss_tokens": 100, "completion_tokens": 1},
        (1000, 1, 900, 0, 0),
    ),
    (
        {"prompt_tokens": 10, "completion_tokens": 90, DETAILS[1]: {"reasoning_tokens": 80}},
        (10, 90, 0, 0, 80),
    ),
    # Beside the completion, as the total shows, or as no part can be larger than the whole.
    (
        {
            "prompt_tokens": 10,
            "completion_tokens": 10,
            "total_tokens": 1020,
            DETAILS[1]: {"reasoning_tokens": 1000},
        },
        (10, 1010, 0, 0, 1000),
    ),
    (
        {"prompt_tokens": 10, "completion_tokens": 20, "total_tokens": 35, "reasoning_tokens": 5},
        (10, 25, 0, 0, 5),
    ),
    (
        {
            "input_tokens": 50,
            "output_tokens": 9,
            "input_tokens_details": {"cached_tokens": 40, "cache_write_tokens": 6},
            "output_tokens_details": {"reasoning_tokens": 4},
        },
        (50, 9, 40, 6, 4),
    ),
    (
        {
            "input_tokens": 10,
            "cache_read_input_tokens": 1000,
            "cache_creation_input_tokens": 200,
            "output_tokens": 7,
        },
        (1210, 7, 1000, 200, 0),
    ),
    ({"input_tokens": 10, "cache_read_input_tokens": None, "output_tokens": 7}, (10, 7, 0, 0, 0)),
    (
        {  # LiteLLM's proxy in front of Anthropic
            "prompt_tokens": 1000,
            "completion_tokens": 7,
            "cache_read_input_tokens": 600,
            "cache_creation_input_tokens": 100,
        },
        (1000, 7, 600, 100, 0),
    ),
    ({"prompt_tokens": -1, "completion_tokens": True}, (None, None, 0, 0, 0)),
    ({"prompt_tokens": "many", "completion_tokens": float("nan")}, (None, None, 0, 0, 0)),
    ({}, (None, None, 0, 0, 0)),
]


@pytest.mark.parametrize(("stated", "wanted"), USAGES)
def test_every_providers_usage_is_understood(stated, wanted):
    got = read_usage({"usage": stated})
    assert (
        got.input_tokens,
        got.output_tokens,
        got.cached_tokens,
        got.cache_write_tokens,
        got.reasoning_tokens,
    ) == wanted


def test_usage_where_it_is_nested():
    inner = {"usage": {"input_tokens": 3, "output_tokens": 4}, "service_tier": "flex"}
    assert read_usage({"type": "response.completed", "response": inner}) == Usage(
        3, 4, tier="flex", stated=True
    )
    assert read_usage({"type": "message_start", "message": inner}).output_tokens == 4
    gemini = {
        "promptTokenCount": 100,
        "candidatesTokenCount": 5,
        "thoughtsTokenCount": 50,
        "cachedContentTokenCount": 60,
    }
    assert read_usage({"usageMetadata": gemini}) == Usage(100, 55, 60, 0, 50, stated=True)
    assert read_usage({"usage": None}) is None
    assert read_usage([]) is None


def test_later_usage_completes_earlier():
    start = read_usage(
        {"message": {"usage": {"input_tokens": 10, "cache_read_input_tokens": 90, "output_tokens": 1}}}
    )
    last = read_usage({"type": "message_delta", "usage": {"output_tokens": 77}})
    assert last.over(start) == Usage(100, 77, 90, stated=True)


def test_an_absurd_usage_is_clamped_and_logged(caplog):
    llm = LLM("m", 1.0, 4.0, cached_input_price=0.1)
    allowance = Allowance.of(llm, size=1000, attached=10, cap=200, n=2)
    assert allowance == Allowance(1000 + 200 + 8192, 400)
    sound = Usage(900, 400, 800)
    assert allowance.clamp(sound, "m") == sound
    assert not caplog.records
    got = allowance.clamp(read_usage({"usage": {"prompt_tokens": 1e29, "completion_tokens": 10**400}}), "m")
    assert (got.input_tokens, got.output_tokens) == (9392, 400)
    assert "model m states" in caplog.text
    assert answer_cost(llm, got) == pytest.approx((9392 + 4 * 400) / 1e6)
    lying = allowance.clamp(Usage(100, 1, cached_tokens=10**6, cache_write_tokens=10**6), "m")
    assert (lying.cached_tokens, lying.cache_write_tokens) == (100, 0)
    small = LLM("m", 1.0, 4.0, context_window=300)
    assert Allowance.of(small, size=10**6, attached=0, cap=None, n=1) == Allowance(300, 300)


@pytest.mark.parametrize(
    ("raw", "tokens"),
    [
        (b'data: {"choices":[{"delta":{"content":"word "}}]}\n\n' * 30, 37),
        (b'data: {"choices":[{"delta":{"content":""}}]}\n\n', 0),
        (b'{"delta":{"reasoning_content":"' + b"x" * 400 + b'"}}', 100),
        (b'{"function":{"arguments":"{\\"a\\": 1}"}}', 2),
        (b'{"type":"content_block_delta","delta":{"type":"text_delta","text":"hello"}}', 1),
        (b'{"type":"response.output_text.delta","delta":"hello"}', 1),
    ],
)
def test_what_was_passed_on_is_estimated(raw, tokens):
    assert written_tokens(raw) == tokens
