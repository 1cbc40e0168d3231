"""Real clients get through the gateway, of a model by its name or routed, what they get from the endpoint."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import re
import subprocess
import warnings
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import anthropic
import openai
import pydantic
import pytest

from eccos_rs.pools.pool import LLM, Endpoint, Pool
from tests.helpers.dialects import CHAT, MESSAGES, WEATHER, named
from tests.helpers.litellm import WARNINGS
from tests.helpers.paths import ROOT
from tests.helpers.scripted import COMPLETION, DONE, FINAL, Scripted, chunk, data, plain, stream
from tests.helpers.serving import running
from tests.serve.test_gateway import gateway

TOOL = {"type": "function", "function": {"name": "weather", "description": "It.", "parameters": WEATHER}}
TURNS = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Weather?"}]
FORECAST = '{"city": "Oslo", "degrees": 4}'


class Forecast(pydantic.BaseModel):
    """The weather in a city."""

    city: str
    degrees: int


def structured(body):
    choice = {"index": 0, "message": {"role": "assistant", "content": FORECAST}, "finish_reason": "stop"}
    if body.get("stream"):
        return stream(data(chunk(FORECAST)), data(chunk(finish="stop")), data(FINAL), DONE)
    return plain({**COMPLETION, "choices": [choice]})


ITEM = {"id": "m", "type": "message", "role": "assistant", "status": "completed"}
PART = {"type": "output_text", "text": "hello", "annotations": []}
RESPONSE = {
    "id": "resp_1", "object": "response", "created_at": 1, "status": "completed", "model": "m",
    "parallel_tool_calls": True, "tool_choice": "auto", "tools": [],
    "usage": {"input_tokens": 10, "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
              "output_tokens": 5, "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 15},
    "output": [{**ITEM, "content": [PART]}],
}  # fmt: skip
_BEGUN = {**RESPONSE, "status": "in_progress", "output": [], "usage": None}
_AT = {"item_id": "m", "output_index": 0, "content_index": 0}
EVENTS = [
    ("response.created", {"response": _BEGUN}),
    ("response.in_progress", {"response": _BEGUN}),
    (
        "response.output_item.added",
        {"output_index": 0, "item": {**ITEM, "status": "in_progress", "content": []}},
    ),
    ("response.content_part.added", {**_AT, "part": {**PART, "text": ""}}),
    ("response.output_text.delta", {**_AT, "delta": "hel", "logprobs": []}),
    ("response.output_text.delta", {**_AT, "delta": "lo", "logprobs": []}),
    ("response.output_text.done", {**_AT, "text": "hello", "logprobs": []}),
    ("response.content_part.done", {**_AT, "part": PART}),
    ("response.output_item.done", {"output_index": 0, "item": {**ITEM, "content": [PART]}}),
    ("response.completed", {"response": RESPONSE}),
]


def answer(body, path):
    """Answer as the endpoint of a provider: Responses, Messages or Chat Completions, by path and request."""
    at = 1 if body.get("stream") else 0
    if path.endswith("/responses"):
        events = [named(name, {**fields, "sequence_number": at}) for at, (name, fields) in enumerate(EVENTS)]
        return stream(*events) if at else plain(RESPONSE)
    what = "call" if body.get("tools") else "hello"
    if body.get("tools") and body["tools"][0].get("function", {}).get("name") == "Forecast":
        call = {"id": "call_1", "type": "function", "function": {"name": "Forecast", "arguments": FORECAST}}
        message = {"role": "assistant", "content": None, "tool_calls": [call]}
        return plain(
            {**COMPLETION, "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]}
        )
    if path.endswith("/messages"):
        return MESSAGES[what][at]
    said = structured(body) if body.get("response_format") else CHAT[what][at]
    asked = (body.get("stream_options") or {}).get("include_usage")
    return said if asked else replace(said, pieces=[each for each in said.pieces if each != data(FINAL)])


@contextmanager
def served(kind):
    there = Scripted(answer)
    with running(there, lifespan="off") as url:
        endpoint = Endpoint(f"{url}/v1" if kind == "openai" else url, kind=kind, timeout=20.0)
        fields = {"endpoint": endpoint, "tools": True, "vision": True}
        with gateway(Pool([LLM("small", 1, 4, **fields), LLM("large", 10, 40, **fields)])) as front:
            yield url, front, there


@pytest.fixture(scope="module")
def openai_kind():
    with served("openai") as found:
        yield found


@pytest.fixture(scope="module")
def anthropic_kind():
    with served("anthropic") as found:
        yield found


def compare(found, call):
    """Make a call to the endpoint, and to the gateway by the model's name and routed: nothing may differ."""
    direct, front, there = found
    made = []
    for url, model in ((direct, "small"), (front, "small"), (front, "eccos")):
        del there.requests[:], there.paths[:]
        told = _plain(call(url, model))
        # What the gateway asks for and takes out again: the usage at a stream's end.
        asked = [{k: v for k, v in body.items() if k != "stream_options"} for body in there.requests]
        made.append((told, asked, list(there.paths)))
    assert made[0] == made[1] == made[2]
    assert made[0][1], "nothing was asked"


def _plain(value):
    """Return what a client gave as plain data, without what it draws by chance."""
    if isinstance(value, pydantic.BaseModel):
        return _plain(value.model_dump())
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items() if not name.startswith("_")}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return re.sub(r"lc_run--[0-9a-f-]+", "lc_run", value) if isinstance(value, str) else value


def chat_calls(client, model):
    asked = {"model": model, "messages": TURNS}
    return {
        "chat": lambda: client.chat.completions.create(**asked, temperature=0.5, seed=7),
        "stream": lambda: list(client.chat.completions.create(**asked, stream=True)),
        "usage": lambda: list(
            client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True})
        ),
        "tools": lambda: client.chat.completions.create(**asked, tools=[TOOL], tool_choice="auto"),
        "stream tools": lambda: list(client.chat.completions.create(**asked, tools=[TOOL], stream=True)),
        "structured": lambda: client.chat.completions.parse(**asked, response_format=Forecast),
        "responses": lambda: client.responses.create(model=model, input="Weather?", instructions="Be brief."),
        "stream responses": lambda: list(client.responses.create(model=model, input="Hi", stream=True)),
    }


KINDS = ["chat", "stream", "usage", "tools", "stream tools", "structured", "responses", "stream responses"]


PARSED = pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")  # of the client's own generics


@PARSED
@pytest.mark.parametrize("kind", KINDS)
def test_openai(openai_kind, kind):
    def call(url, model):
        with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
            return chat_calls(client, model)[kind]()

    compare(openai_kind, call)


@PARSED
@pytest.mark.parametrize("kind", ["chat", "tools", "structured", "responses", "stream", "stream responses"])
def test_openai_async(openai_kind, kind):
    async def ask(url, model):
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
            if kind == "stream":
                asked = {"model": model, "messages": TURNS, "stream": True}
                return [each async for each in await client.chat.completions.create(**asked)]
            if kind == "stream responses":
                asked = {"model": model, "input": "Hi", "stream": True}
                return [each async for each in await client.responses.create(**asked)]
            return await chat_calls(client, model)[kind]()

    compare(openai_kind, lambda url, model: asyncio.run(ask(url, model)))


@pytest.mark.parametrize("tools", [False, True])
@pytest.mark.parametrize("streaming", [False, True])
def test_anthropic(anthropic_kind, tools, streaming):
    def call(url, model):
        asked = {"model": model, "max_tokens": 500, "messages": TURNS[1:], "system": "Be brief."}
        if tools:
            asked["tools"] = [{"name": "weather", "description": "It.", "input_schema": WEATHER}]
        with anthropic.Anthropic(base_url=url, api_key="none", max_retries=0) as client:
            if not streaming:
                return client.messages.create(**asked)
            with client.messages.stream(**asked) as events:
                return [each.type for each in events], events.get_final_message()

    compare(anthropic_kind, call)


@pytest.fixture(scope="module", autouse=True)
def _kept_connections():
    """Collect what LangChain keeps open of loops that have ended: later it would fail another file's test."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture
def runner():
    """One event loop for all calls of a test: LangChain keeps clients with their connections."""
    with asyncio.Runner() as made:
        yield made


def langchain_calls(chat, runner):
    tool = {"name": "weather", "description": "It.", "parameters": WEATHER}
    return {
        "invoke": lambda: chat.invoke(["system: Be brief.", "Weather?"]),
        "stream": lambda: list(chat.stream("Weather?")),
        "tools": lambda: chat.bind_tools([tool]).invoke("Weather?"),
        "stream tools": lambda: list(chat.bind_tools([tool]).stream("Weather?")),
        "batch": lambda: chat.batch(["Weather?"] * 3),
        "async": lambda: runner.run(chat.ainvoke("Weather?")),
    }


LANGCHAIN = ["invoke", "stream", "tools", "stream tools", "batch", "async"]


@pytest.fixture
def quiet(monkeypatch):
    """Nothing that LangChain and LiteLLM send elsewhere."""
    for name in ("LANGSMITH_TRACING", "LANGCHAIN_TRACING_V2"):
        monkeypatch.setenv(name, "false")


@pytest.mark.usefixtures("quiet")
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("kind", [*LANGCHAIN, "structured", "responses"])
def test_langchain_openai(openai_kind, runner, kind):
    langchain = pytest.importorskip("langchain_openai")

    def call(url, model):
        options = {"use_responses_api": True} if kind == "responses" else {}
        chat = langchain.ChatOpenAI(
            base_url=f"{url}/v1", model=model, api_key="none", max_retries=0, **options
        )
        if kind == "structured":
            return chat.with_structured_output(Forecast, method="json_schema").invoke("Weather?")
        return langchain_calls(chat, runner)["invoke" if kind == "responses" else kind]()

    compare(openai_kind, call)


@pytest.mark.usefixtures("quiet")
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("kind", LANGCHAIN)
def test_langchain_anthropic(anthropic_kind, runner, kind):
    langchain = pytest.importorskip("langchain_anthropic")

    def call(url, model):
        chat = langchain.ChatAnthropic(
            base_url=url, model=model, api_key="none", max_tokens=500, max_retries=0
        )
        return langchain_calls(chat, runner)[kind]()

    compare(anthropic_kind, call)


INSTRUCTOR = """
import json, sys
import instructor, openai, pydantic

class Forecast(pydantic.BaseModel):
    city: str
    degrees: int

url, model, mode = sys.argv[1:]
with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
    made = instructor.from_openai(client, mode=getattr(instructor.Mode, mode))
    turns = [{"role": "user", "content": "Weather?"}]
    told, raw = made.create_with_completion(
        model=model, messages=turns, response_model=Forecast, max_retries=0
    )
print(json.dumps([told.model_dump(), raw.model_dump(exclude={"_raw_response"})]))
"""


@pytest.mark.parametrize("mode", ["TOOLS", "JSON"])
def test_instructor(openai_kind, mode):
    """In an environment of its own: it wants older versions of what the other clients use."""
    python = os.environ.get("ECCOS_INSTRUCTOR", ROOT / ".venv-instructor" / "bin" / "python")
    if not Path(python).exists():
        pytest.skip("instructor is not installed: make test-python installs it")

    def call(url, model):
        done = subprocess.run(
            [python, "-c", INSTRUCTOR, url, model, mode],
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    compare(openai_kind, call)
    assert call(openai_kind[1], "eccos")[0] == {"city": "Oslo", "degrees": 4}


class TestLiteLLM:
    """The package itself, as a client."""

    pytestmark = WARNINGS

    @pytest.mark.parametrize("kind", ["chat", "stream", "tools", "anthropic"])
    def test_calls(self, openai_kind, anthropic_kind, kind):
        litellm = pytest.importorskip("litellm")

        def call(url, model):
            asked = {
                "model": f"openai/{model}",
                "messages": TURNS,
                "api_key": "none",
                "api_base": f"{url}/v1",
            }
            if kind == "anthropic":
                asked |= {"model": f"anthropic/{model}", "api_base": url, "max_tokens": 500}
            if kind == "tools":
                asked["tools"] = [TOOL]
            got = litellm.completion(**asked, stream=kind == "stream", num_retries=0)
            told = [each.model_dump() for each in got] if kind == "stream" else got.model_dump()
            # It puts its own clock, ids and the name that it was asked for into what it passes on.
            return [
                {k: v for k, v in each.items() if k not in ("model", "created", "id")}
                for each in (told if isinstance(told, list) else [told])
            ]

        compare(anthropic_kind if kind == "anthropic" else openai_kind, call)


def test_what_is_compared_can_differ(openai_kind):
    """A gateway that changed a word would be seen."""

    def call(url, model):
        with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
            return client.chat.completions.create(
                model=model, messages=[{"role": "user", "content": f"{model} {os.urandom(2).hex()}"}]
            )

    with pytest.raises(AssertionError):
        compare(openai_kind, call)
