"""Every dialect in front, every kind of endpoint behind: real clients, recorded shapes of answers."""

from __future__ import annotations

import json
from contextlib import contextmanager

import anthropic
import httpx
import openai
import pytest

from eccos_rs.pools.pool import LLM, Endpoint, Pool
from tests.helpers.dialects import ANSWERS, BASES, CALL, MESSAGES, WEATHER, DialectEndpoint
from tests.helpers.scripted import Scripted, plain
from tests.helpers.serving import running
from tests.serve.test_gateway import gateway


@pytest.fixture(scope="module", params=list(ANSWERS))
def served(request, tmp_path_factory):
    with endpoints(request.param) as pair:
        yield pair


@contextmanager
def endpoints(kind):
    there = DialectEndpoint(kind)
    with running(there, lifespan="off") as url, pytest.MonkeyPatch.context() as patch:
        patch.setenv("ENDPOINT_KEY", "secret")
        endpoint = Endpoint(f"{url}{BASES[kind]}", kind=kind, api_key_env="ENDPOINT_KEY", timeout=20.0)
        fields = {"endpoint": endpoint, "tools": True, "vision": True, "cached_input_price": 0.1}
        with gateway(Pool([LLM("small", 1, 4, **fields), LLM("large", 10, 40, **fields)])) as front:
            yield front, there


def spent(front):
    return httpx.get(f"{front}/v1/stats").json()["spend"]["spent"]


TURNS = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Weather?"},
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "call_1", "content": "rain"},
    {"role": "user", "content": "And tomorrow?"},
]
CHAT_TOOLS = [
    {"type": "function", "function": {"name": "weather", "description": "It.", "parameters": WEATHER}}
]


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("what", ["hello", "call"])
def test_the_openai_client_speaks_chat_to_every_kind(served, what, streaming, closing):
    front, there = served
    there.what = what
    client = closing(openai.OpenAI(base_url=f"{front}/v1", api_key="none", max_retries=0))
    options = {"stream": True, "stream_options": {"include_usage": True}} if streaming else {}
    got = client.chat.completions.create(
        model="eccos", messages=TURNS, tools=CHAT_TOOLS, max_tokens=2000, **options
    )
    if streaming:
        chunks = list(got)
        text = "".join(each.choices[0].delta.content or "" for each in chunks if each.choices)
        calls = [call for each in chunks if each.choices for call in each.choices[0].delta.tool_calls or ()]
        name = next((call.function.name for call in calls if call.function.name), None)
        arguments = "".join(call.function.arguments or "" for call in calls)
        finish = [each.choices[0].finish_reason for each in chunks if each.choices][-1]
        usage = chunks[-1].usage
    else:
        message = got.choices[0].message
        text, finish, usage = message.content or "", got.choices[0].finish_reason, got.usage
        name, arguments = (
            (message.tool_calls[0].function.name, message.tool_calls[0].function.arguments)
            if message.tool_calls
            else (None, "")
        )
    if what == "hello":
        assert (text, finish) == ("hello", "stop")
    else:
        assert (name, json.loads(arguments), finish) == ("weather", {"city": "Oslo"}, "tool_calls")
    assert (usage.prompt_tokens, usage.completion_tokens) == (10, 1000)


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("what", ["hello", "call"])
def test_the_anthropic_client_speaks_messages_to_every_kind(served, what, streaming, closing):
    front, there = served
    there.what = what
    client = closing(anthropic.Anthropic(base_url=front, api_key="none", max_retries=0))
    turns = [
        {"role": "user", "content": "Weather?"},
        {
            "role": "assistant",
            "content": [{"type": "tool_use", "id": "call_1", "name": "weather", "input": {"city": "Oslo"}}],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "call_1", "content": "rain"},
                {"type": "text", "text": "And tomorrow?"},
            ],
        },
    ]
    tools = [{"name": "weather", "description": "It.", "input_schema": WEATHER}]
    asked = {"model": "eccos", "max_tokens": 2000, "messages": turns, "tools": tools, "system": "Be brief."}
    if streaming:
        with client.messages.stream(**asked) as events:
            got = events.get_final_message()
    else:
        got = client.messages.create(**asked)
    if what == "hello":
        assert [block.text for block in got.content] == ["hello"]
        assert got.stop_reason == "end_turn"
    else:
        assert [(block.name, block.input) for block in got.content] == [("weather", {"city": "Oslo"})]
        assert got.stop_reason == "tool_use"
    total = (
        got.usage.input_tokens
        + (got.usage.cache_read_input_tokens or 0)
        + (got.usage.cache_creation_input_tokens or 0)
    )
    assert (total, got.usage.output_tokens) == (10, 1000)


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("what", ["hello", "call"])
def test_the_openai_client_speaks_responses_to_every_kind(served, what, streaming, closing):
    front, there = served
    there.what = what
    client = closing(openai.OpenAI(base_url=f"{front}/v1", api_key="none", max_retries=0))
    items = [
        {"role": "user", "content": "Weather?"},
        {"type": "function_call", "call_id": "call_1", "name": "weather", "arguments": '{"city":"Oslo"}'},
        {"type": "function_call_output", "call_id": "call_1", "output": "rain"},
        {"role": "user", "content": [{"type": "input_text", "text": "And tomorrow?"}]},
    ]
    tools = [
        {"type": "function", "name": "weather", "description": "It.", "parameters": WEATHER, "strict": False}
    ]
    asked = {
        "model": "eccos",
        "input": items,
        "tools": tools,
        "instructions": "Be brief.",
        "max_output_tokens": 2000,
    }
    if streaming:
        with client.responses.stream(**asked) as events:
            kinds = [event.type for event in events]
            got = events.get_final_response()
        assert kinds[0] == "response.created"
        assert kinds[-1] == "response.completed"
    else:
        got = client.responses.create(**asked)
    assert got.status == "completed"
    if what == "hello":
        assert got.output_text == "hello"
    else:
        assert [(item.name, json.loads(item.arguments)) for item in got.output] == [
            ("weather", {"city": "Oslo"})
        ]
    assert (got.usage.input_tokens, got.usage.output_tokens) == (10, 1000)


def test_what_is_asked_reaches_each_kind_in_its_own_words(served):
    front, there = served
    there.what = "hello"
    body = {
        "model": "small",
        "messages": TURNS,
        "tools": CHAT_TOOLS,
        "max_tokens": 2000,
        "temperature": 0.5,
        "stop": "x",
    }
    before = spent(front)
    assert httpx.post(f"{front}/v1/chat/completions", json=body).status_code == 200
    sent, path, headers = there.requests[-1], there.paths[-1], there.headers[-1]
    price = (10 - 7) * 1 + 7 * 0.1 if there.kind in ("anthropic", "gemini") else 10
    assert spent(front) - before == pytest.approx((price + 1000 * 4) / 1e6)
    if there.kind in ("openai", "azure"):
        assert sent["messages"] == TURNS
        assert path == (
            "/v1/chat/completions"
            if there.kind == "openai"
            else "/openai/deployments/small/chat/completions?api-version=2026-01-01"
        )
        assert headers.get("authorization" if there.kind == "openai" else "api-key", "").endswith("secret")
        return
    if there.kind == "anthropic":
        assert (path, headers["x-api-key"], headers["anthropic-version"]) == (
            "/v1/messages",
            "secret",
            "2023-06-01",
        )
        assert (sent["model"], sent["max_tokens"], sent["temperature"], sent["stop_sequences"]) == (
            "small",
            2000,
            0.5,
            ["x"],
        )
        assert sent["system"] == "Be brief."
        assert [turn["role"] for turn in sent["messages"]] == ["user", "assistant", "user"]
        assert sent["messages"][1]["content"][0]["input"] == {"city": "Oslo"}
        assert [block["type"] for block in sent["messages"][2]["content"]] == ["tool_result", "text"]
        assert sent["tools"][0]["input_schema"] == WEATHER
        assert sent["cache_control"] == {"type": "ephemeral"}  # a conversation, whose prefix comes again
        return
    assert (path, headers["x-goog-api-key"]) == ("/v1beta/models/small:generateContent", "secret")
    assert "model" not in sent
    assert sent["systemInstruction"]["parts"][0]["text"] == "Be brief."
    assert [turn["role"] for turn in sent["contents"]] == ["user", "model", "user"]
    assert sent["contents"][2]["parts"][0]["functionResponse"]["name"] == "weather"
    assert sent["generationConfig"] == {"temperature": 0.5, "maxOutputTokens": 2000, "stopSequences": ["x"]}
    assert sent["tools"][0]["functionDeclarations"][0]["parametersJsonSchema"] == WEATHER


LOST = [
    ("responses", {"input": "x", "tools": [{"type": "web_search"}]}, r"tools[0]: web_search"),
    ("responses", {"input": "x", "background": True}, "background"),
    ("responses", {"input": [{"type": "reasoning", "encrypted_content": "x"}]}, "input[0]: reasoning"),
    ("messages", {"max_tokens": 5, "top_k": 3, "messages": [{"role": "user", "content": "x"}]}, "top_k"),
    (
        "messages",
        {"max_tokens": 5, "messages": [{"role": "user", "content": [{"type": "document"}]}]},
        "document",
    ),
    (
        "messages",
        {"max_tokens": 5, "mcp_servers": [1], "messages": [{"role": "user", "content": "x"}]},
        "mcp_servers",
    ),
    ("chat/completions", {"messages": [{"role": "user", "content": "x"}], "n": 2}, "n"),
]


def test_what_cannot_be_translated_is_refused_by_name():
    with endpoints("gemini") as (front, there):
        for dialect, body, name in LOST:
            got = httpx.post(f"{front}/v1/{dialect}", json={"model": "eccos", **body})
            assert got.status_code == 400, got.text
            assert name in got.json()["error"]["message"]
        assert not there.requests
        unknown = {"model": "eccos", "input": "x", "previous_response_id": "resp_1"}
        got = httpx.post(f"{front}/v1/responses", json=unknown)
        assert (got.status_code, got.json()["error"]["code"]) == (400, "previous_response_not_found")
        error = httpx.post(f"{front}/v1/messages", json={"model": "huge", "max_tokens": 1, "messages": []})
        assert error.json()["type"] == "error"


def test_a_dialect_is_passed_on_as_it_is_to_endpoints_of_its_own():
    raw = (
        b'{ "max_tokens": 50, "model":"small", "top_k":3,'
        b'"messages":[{"role":"user","content":"x"}],"thinking":{"type":"adaptive"} }'
    )
    with endpoints("anthropic") as (front, there):
        headers = {"content-type": "application/json", "anthropic-beta": "some-beta"}
        got = httpx.post(f"{front}/v1/messages", content=raw, headers=headers)
        assert got.json() == json.loads(MESSAGES["hello"][0].pieces[0])
        assert there.raw == [raw]
        assert there.headers[0]["anthropic-beta"] == "some-beta"
        counted = httpx.post(f"{front}/v1/messages/count_tokens", content=raw, headers=headers)
        assert counted.json()["input_tokens"] >= 1
        listed = httpx.get(f"{front}/v1/models", headers={"anthropic-version": "2023-06-01"}).json()
        assert [row["type"] for row in listed["data"]] == ["model"] * 3


RESPONSE = {
    "id": "resp_up",
    "object": "response",
    "created_at": 1,
    "status": "completed",
    "model": "m",
    "parallel_tool_calls": True,
    "tool_choice": "auto",
    "tools": [],
    "usage": {"input_tokens": 10, "output_tokens": 1000, "total_tokens": 1010},
    "output": [
        {
            "id": "m",
            "type": "message",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": "hello", "annotations": []}],
        }
    ],
}


def test_a_response_that_lies_with_an_endpoint_is_gone_on_from_there(closing):
    there = Scripted(lambda body, path: plain(RESPONSE))
    with running(there, lifespan="off") as url:
        endpoint = Endpoint(f"{url}/v1")
        pool = Pool([LLM("small", 1, 4, endpoint=endpoint), LLM("large", 10, 40, endpoint=endpoint)])
        with gateway(pool) as front:
            client = closing(openai.OpenAI(base_url=f"{front}/v1", api_key="none", max_retries=0))
            first = client.responses.create(model="large", input="x")
            assert first.id == "resp_up"
            client.responses.create(model="eccos", input="y", previous_response_id="resp_up")
            assert [body["model"] for body in there.requests] == ["large", "large"]
            assert spent(front) == pytest.approx(2 * (10 * 10 + 1000 * 40) / 1e6)


def test_completions_and_embeddings_are_passed_through(closing):
    def answer(body, path):
        if path == "/v1/embeddings":
            row = {"object": "embedding", "index": 0, "embedding": [0.5, 1.0]}
            return plain(
                {
                    "object": "list",
                    "data": [row],
                    "model": "m",
                    "usage": {"prompt_tokens": 4, "total_tokens": 4},
                }
            )
        choice = {"index": 0, "text": "hello", "finish_reason": "stop", "logprobs": None}
        usage = {"prompt_tokens": 10, "completion_tokens": 1000, "total_tokens": 1010}
        return plain(
            {
                "id": "c",
                "object": "text_completion",
                "created": 1,
                "model": "m",
                "choices": [choice],
                "usage": usage,
            }
        )

    there = Scripted(answer)
    with running(there, lifespan="off") as url:
        endpoint = Endpoint(f"{url}/v1")
        pool = Pool([LLM("small", 1, 4, endpoint=endpoint), LLM("large", 10, 40, endpoint=endpoint)])
        with gateway(pool) as front:
            client = closing(openai.OpenAI(base_url=f"{front}/v1", api_key="none", max_retries=0))
            assert client.embeddings.create(model="small", input=["a", "b"]).data[0].embedding == [0.5, 1.0]
            assert spent(front) == pytest.approx(4e-6)
            assert client.completions.create(model="eccos", prompt="x").choices[0].text == "hello"
            assert there.paths == ["/v1/embeddings", "/v1/completions"]
            with pytest.raises(openai.BadRequestError, match="name a model"):
                client.embeddings.create(model="eccos", input="a")
