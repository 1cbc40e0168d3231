"""What tests of LiteLLM share: an endpoint on loopback, the package, adapters that are closed."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # its map is fetched from the network otherwise

from eccos_rs.routing.policy import Policy
from tests.helpers.sessions import ByNumber, population

WARNINGS = [
    # Not ours to mend: deprecations inside LiteLLM and its dependencies.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::pydantic.PydanticDeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def litellm():
    return pytest.importorskip("litellm", reason="pip install 'eccos-rs[litellm]'")


class Endpoint(BaseHTTPRequestHandler):
    """Answers with the name of the model that was asked; fails those in `broken`."""

    protocol_version = "HTTP/1.1"
    broken: frozenset[str] = frozenset()
    asked: list[str] = []  # noqa: RUF012 - one list for all requests
    delay = 0.0

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.asked.append(body["model"])
        time.sleep(self.delay)
        if body["model"] in self.broken:
            self._send(500, "application/json", json.dumps({"error": {"message": "down"}}))
        elif body.get("stream"):
            pieces = [{"delta": {"content": word}} for word in ("one ", "two")]
            chunks = [{"choices": [{"index": 0, **piece}]} for piece in pieces]
            chunks[-1]["choices"][0]["finish_reason"] = "stop"
            lines = [f"data: {json.dumps(self._body(body, **chunk))}\n\n" for chunk in chunks]
            self._send(200, "text/event-stream", "".join([*lines, "data: [DONE]\n\n"]))
        else:
            choice = {
                "index": 0,
                "finish_reason": "stop",
                "message": {"role": "assistant", "content": "hello"},
            }
            usage = {"prompt_tokens": 3, "completion_tokens": 42, "total_tokens": 45}
            self._send(200, "application/json", json.dumps(self._body(body, choices=[choice], usage=usage)))

    @staticmethod
    def _body(asked, **rest):
        return {"id": "1", "object": "chat.completion", "created": 1, "model": asked["model"], **rest}

    def _send(self, status, kind, text):
        data = text.encode()
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


@pytest.fixture
def endpoint():
    Endpoint.broken, Endpoint.delay = frozenset(), 0.0
    Endpoint.asked.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    server.server_close()
    thread.join()


PRICES = {"small": (1e-7, 4e-7), "mid": (5e-7, 2e-6), "large": (2.5e-6, 1e-5)}


def deployments(base, group="eccos", **params):
    return [
        {
            "model_name": group,
            "litellm_params": {
                "model": f"openai/{name}", "api_base": base, "api_key": "none",
                "input_cost_per_token": PRICES[name][0], "output_cost_per_token": PRICES[name][1],
                **params.get(name, {}),
            },
        }
        for name in PRICES
    ]  # fmt: skip


def chat(text="3"):
    return [{"role": "user", "content": text}]


@pytest.fixture
def adapters():
    opened = []
    yield opened
    for adapter in opened:
        adapter.close()


def open_adapter(kind, adapters, model_list, quality_value=10.0, **options):
    policy = Policy(quality_value=quality_value)
    adapter = kind.open(model_list, predictor=ByNumber(population(512)), policy=policy, **options)
    adapters.append(adapter)
    return adapter


async def until(condition):
    """Wait for what LiteLLM reports in the background."""
    for _ in range(200):
        if condition():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it never came")
