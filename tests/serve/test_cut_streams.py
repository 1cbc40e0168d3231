"""Streams that are cut where it hurts: inside a tool call or a thought, in every pair of dialects."""

from __future__ import annotations

import json

import anthropic
import httpx
import openai
import pytest

from eccos_rs.dialects import usage
from tests.helpers.dialects import ANSWERS, WEATHER, named
from tests.helpers.scripted import chunk, data, stream
from tests.serve.test_dialects import CHAT_TOOLS, endpoints
from tests.serve.test_endpoint_faults import served as one_endpoint

THOUGHT = [
    named("message_start", {"message": {"id": "m", "type": "message", "role": "assistant", "model": "c",
                                        "content": [], "stop_reason": None,
                                        "usage": {"input_tokens": 10, "output_tokens": 1}}}),
    named("content_block_start", {"index": 0, "content_block": {"type": "thinking", "thinking": ""}}),
    named("content_block_delta", {"index": 0, "delta": {"type": "thinking_delta", "thinking": "hmm " * 40}}),
]  # fmt: skip


def inside_the_call(kind):
    """The events of a tool call up to the middle of its arguments."""
    pieces = ANSWERS[kind]["call"][1].pieces
    if kind == "gemini":  # which sends its calls whole: cut in the text before
        return ANSWERS[kind]["hello"][1].pieces[:1]
    at = next(at for at, piece in enumerate(pieces) if b'{\\"city\\":' in piece)
    return pieces[: at + 1]


def ask(front, dialect, **fields):
    tools = {
        "chat/completions": {"messages": [{"role": "user", "content": "Weather?"}], "tools": CHAT_TOOLS},
        "messages": {"messages": [{"role": "user", "content": "Weather?"}], "max_tokens": 2000,
                     "tools": [{"name": "weather", "description": "It.", "input_schema": WEATHER}]},
        "responses": {"input": "Weather?", "tools": [{"type": "function", "name": "weather",
                                                      "parameters": WEATHER, "strict": False}]},
    }[dialect]  # fmt: skip
    body = {"model": "small", "stream": True, **tools, **fields}
    return httpx.post(f"{front}/v1/{dialect}", json=body, timeout=30)


@pytest.mark.parametrize("how", ["reset", "ended"])
@pytest.mark.parametrize("dialect", ["chat/completions", "messages", "responses"])
@pytest.mark.parametrize("kind", ["openai", "anthropic", "gemini"])
def test_a_stream_cut_inside_a_tool_call_is_no_answer(kind, dialect, how):
    """The client is told: it never gets half a call with the end of a whole one. What came is booked."""
    with endpoints(kind) as (front, there):
        there.answer = lambda *_: stream(*inside_the_call(kind), cut=how == "reset")
        got = ask(front, dialect)
        last = got.text.rstrip().split("\n\n")[-1]
        content = json.loads(last.partition("data: ")[2])
        assert "ended its answer early" in json.dumps(content)
        if dialect == "chat/completions":
            assert content["error"]["code"] == "upstream_broke"
        else:
            assert last.startswith("event: error")
            assert content["type"] == "error"
        for mark in ("[DONE]", "message_stop", "response.completed", '"finish_reason": "tool_calls"'):
            assert mark not in got.text
        figures = httpx.get(f"{front}/v1/stats").json()
        assert (figures["in_flight"], figures["spend"]["spent"] > 0) == (0, True)
        assert next(row for row in figures["models"] if row["name"] == "small")["failed"] == 1


def test_real_clients_say_that_a_call_was_cut(closing):
    with endpoints("anthropic") as (front, there):
        there.answer = lambda *_: stream(*inside_the_call("anthropic"))
        client = closing(openai.OpenAI(base_url=f"{front}/v1", api_key="none", max_retries=0))
        turns = [{"role": "user", "content": "Weather?"}]
        asked = {"model": "small", "messages": turns, "stream": True}
        with pytest.raises(openai.APIError, match="ended its answer early"):
            list(client.chat.completions.create(**asked, tools=CHAT_TOOLS))
        other = closing(anthropic.Anthropic(base_url=front, api_key="none", max_retries=0))
        with (
            pytest.raises(anthropic.APIError, match="ended its answer early"),
            other.messages.stream(model="small", max_tokens=99, messages=turns) as events,
        ):
            events.get_final_message()


@pytest.mark.parametrize("dialect", ["chat/completions", "messages", "responses"])
def test_a_stream_cut_inside_a_thought_is_booked_as_far_as_it_went(dialect):
    with endpoints("anthropic") as (front, there):
        there.answer = lambda *_: stream(*THOUGHT)
        assert "ended its answer early" in ask(front, dialect).text
        spent = httpx.get(f"{front}/v1/stats").json()["spend"]["spent"]
        # The input as stated. Output is stated as it began: what was thought since is read off the stream.
        thought = usage.written_tokens(THOUGHT[-1])
        assert spent >= (10 * 1 + thought * 4) / 1e6


@pytest.mark.parametrize(
    "pieces",
    [
        [data(chunk("hel")), data(chunk("lo", finish="stop"))],
        [data(chunk("hel")), data(chunk(finish="length"))],
        [data({**chunk("hello"), "usage": None}), data(chunk(finish="stop")), b": bye\n\n"],
    ],
)
def test_an_endpoint_that_says_how_it_ends_needs_no_done(pieces):
    with one_endpoint(lambda *_: stream(*pieces)) as (front, _):
        got = ask(front, "chat/completions", tools=None)
        assert "upstream_broke" not in got.text
        assert (
            next(row for row in httpx.get(f"{front}/v1/stats").json()["models"] if row["name"] == "small")[
                "failed"
            ]
            == 0
        )
