"""Endpoints for tests: one that misbehaves on purpose over real HTTP, and pool files that point to it."""

from __future__ import annotations

import json
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

Behaviour = "Callable[[Handler, Request], None]"


@dataclass(frozen=True)
class Request:
    """What came: its number from 1, the idempotency key, the body, the headers, and when."""

    number: int
    key: str
    body: dict[str, Any]
    headers: dict[str, str]
    at: float


@dataclass
class Misbehaving:
    """A server whose answers a function chooses; it keeps what it was sent."""

    url: str
    requests: list[Request] = field(default_factory=list)
    answered: list[str] = field(default_factory=list)
    running: int = 0
    most_running: int = 0
    stop: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def keys(self) -> list[str]:
        return [request.key for request in self.requests]


class Handler(BaseHTTPRequestHandler):
    """One request; the helpers are the ways to misbehave."""

    protocol_version = "HTTP/1.1"
    server: Any

    def log_message(self, *_: Any) -> None:
        """Stay silent."""

    def do_POST(self) -> None:
        state: Misbehaving = self.server.state
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        with state.lock:
            key = self.headers.get("idempotency-key", "")
            headers = {name.lower(): value for name, value in self.headers.items()}
            request = Request(len(state.requests) + 1, key, body, headers, time.monotonic())
            state.requests.append(request)
            state.running += 1
            state.most_running = max(state.most_running, state.running)
        try:
            self.server.behaviour(self, request)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        finally:
            with state.lock:
                state.running -= 1

    def send(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {
            "content-type": "application/json",
            "content-length": str(len(body)),
            **headers,
        }.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def answer(self, text: str | None = "Answer: 7", finish: str = "stop", **usage: Any) -> None:
        """Answer as one should; `usage` replaces counts, and a count of None leaves it out."""
        self.send(200, completion(text, finish, **usage))
        self.server.state.answered.append(self.headers.get("idempotency-key", ""))

    def refuse(self, status: int, message: str = "no", **headers: str) -> None:
        """Answer with an error, as the protocol words it."""
        error = {"error": {"message": message, "type": "t", "code": message}}
        self.send(status, json.dumps(error).encode(), **headers)

    def half_json(self) -> None:
        """A whole HTTP response whose body is half a JSON."""
        whole = completion("Answer: 7")
        self.send(200, whole[: len(whole) // 2])

    def break_off(self) -> None:
        """Promise a body and close the connection within it."""
        whole = completion("Answer: 7")
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(whole)))
        self.end_headers()
        self.wfile.write(whole[:20])
        self.wfile.flush()
        self.close_connection = True

    def hang(self) -> None:
        """Say nothing until the test is over."""
        self.server.state.stop.wait(30)
        self.close_connection = True

    def trickle(self) -> None:
        """Send a space every tenth of a second, for ever: every single read is in time."""
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", "100000")
        self.end_headers()
        while not self.server.state.stop.wait(0.1):
            self.wfile.write(b" ")
            self.wfile.flush()
        self.close_connection = True


def completion(text: str | None, finish: str = "stop", **usage: Any) -> bytes:
    """A chat completion, in bytes."""
    counts = {"prompt_tokens": 30, "completion_tokens": 4, **usage}
    counts = {name: value for name, value in counts.items() if value is not None}
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": finish}
    told = {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
    return json.dumps({**told, "usage": counts} if counts else told).encode()


@contextmanager
def misbehaving(behaviour: Callable[[Handler, Request], None]) -> Iterator[Misbehaving]:
    """Serve on a free port while the block runs."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    state = Misbehaving(f"http://127.0.0.1:{server.server_address[1]}/v1")
    server.state, server.behaviour = state, behaviour  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        state.stop.set()
        server.shutdown()
        server.server_close()
        thread.join(5)


def pool_toml(path: Path, *models: dict[str, Any]) -> Path:
    """Write a pool file; each model gives `name`, `url` and what else it has, prices 1 and 4 unless given."""
    lines = ["schema_version = 1"]
    for model in models:
        fields = {"input_price": 1.0, "output_price": 4.0, **model}
        url, upstream = fields.pop("url"), fields.pop("upstream", None)
        lines += ["[[model]]", *(f"{name} = {json.dumps(value)}" for name, value in fields.items())]
        lines += ["[model.endpoint]", f'base_url = "{url}"', "timeout = 20.0"]
        lines += [f'model = "{upstream}"'] if upstream else []
    path.write_text("\n".join(lines) + "\n")
    return path


def sum_tasks(path: Path, count: int) -> Path:
    """Write tasks whose right answer is always 7."""
    rows = (
        {"query": f"What is {number} + {7 - number}?", "kind": "numeric", "answer": 7}
        for number in range(count)
    )
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def journal_events(path: Path, kind: str) -> list[dict[str, Any]]:
    """The events of a kind in a journal."""
    events = (json.loads(line) for line in path.read_text().splitlines()[1:])
    return [event for event in events if event["event"] == kind]
