"""A provider that speaks the batch API over real HTTP: files, batches, results, and live completions."""

from __future__ import annotations

import email.parser
import email.policy
import json
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from tests.helpers.endpoints import completion

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass
class BatchProvider:
    """What a provider was sent and what it does with it.

    `seconds` pass until a batch is completed; `fails` are questions whose row ends in the error file;
    `unfinished` are those that are not answered by the time a batch is cancelled.
    """

    url: str
    seconds: float = 0.1
    fails: frozenset[str] = frozenset()
    unfinished: frozenset[str] = frozenset()
    refuses: bool = False
    ends_as: str = "completed"
    files: dict[str, bytes] = field(default_factory=dict)
    batches: dict[str, dict[str, Any]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def batched(self) -> list[str]:
        """The questions of all batches, as often as they were sent."""
        return [
            _question(json.loads(line)["body"])
            for batch in self.batches.values()
            for line in self.files[batch["input_file_id"]].splitlines()
        ]

    def add_file(self, raw: bytes) -> str:
        name = f"file-{len(self.files)}"
        self.files[name] = raw
        return name

    def create(self, told: dict[str, Any]) -> dict[str, Any]:
        name = f"batch-{len(self.batches)}"
        fields = {"id": name, "object": "batch", "status": "in_progress", "created_at": int(time.time())}
        self.batches[name] = {
            **told,
            **fields,
            "output_file_id": None,
            "error_file_id": None,
            "_at": time.monotonic(),
        }
        return self.batches[name]

    def look(self, name: str) -> dict[str, Any]:
        batch = self.batches[name]
        if batch["status"] == "in_progress" and time.monotonic() - batch["_at"] >= self.seconds:
            self._end(batch, self.ends_as)
        return batch

    def cancel(self, name: str) -> dict[str, Any]:
        batch = self.batches[name]
        if batch["status"] == "in_progress":
            self._end(batch, "cancelled")
        return batch

    def _end(self, batch: dict[str, Any], status: str) -> None:
        batch["status"] = status
        good, bad = [], []
        for line in self.files[batch["input_file_id"]].splitlines():
            row = json.loads(line)
            question = _question(row["body"])
            if status != "completed" and question in self.unfinished:
                continue
            failed = question in self.fails
            body = {"error": {"message": "no"}} if failed else json.loads(completion(f"batched: {question}"))
            told = {
                "custom_id": row["custom_id"],
                "response": {"status_code": 500 if failed else 200, "body": body},
            }
            (bad if failed else good).append(json.dumps(told))
        if good:
            batch["output_file_id"] = self.add_file("\n".join(good).encode())
        if bad:
            batch["error_file_id"] = self.add_file("\n".join(bad).encode())


def _question(body: dict[str, Any]) -> str:
    return str(body["messages"][0]["content"])


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Any

    def log_message(self, *_: Any) -> None:
        """Stay silent."""

    def do_GET(self) -> None:
        state: BatchProvider = self.server.state
        path = self.path.partition("?")[0].removeprefix("/v1")
        with state.lock:
            if path == "/batches":
                listed = [_shown(state.look(name)) for name in reversed(state.batches)]
                self._json({"object": "list", "data": listed, "has_more": False})
            elif path.startswith("/batches/"):
                self._json(_shown(state.look(path.split("/")[2])))
            elif path.endswith("/content"):
                self._send(200, state.files[path.split("/")[2]], "application/octet-stream")
            else:
                self._send(404, b"{}")

    def do_POST(self) -> None:
        state: BatchProvider = self.server.state
        raw = self.rfile.read(int(self.headers.get("content-length", 0)))
        path = self.path.removeprefix("/v1")
        with state.lock:
            if path == "/chat/completions":
                body = json.loads(raw)
                state.asked.append(_question(body))
                self._send(200, completion(f"live: {_question(body)}"))
            elif state.refuses:
                self._send(404, b'{"error": {"message": "there are no batches here"}}')
            elif path == "/files":
                name = state.add_file(_file_of(self.headers["content-type"], raw))
                fields = {
                    "bytes": 1,
                    "created_at": 1,
                    "filename": "f",
                    "purpose": "batch",
                    "status": "processed",
                }
                self._json({"id": name, "object": "file", **fields})
            elif path == "/batches":
                self._json(_shown(state.create(json.loads(raw))))
            else:
                self._json(_shown(state.cancel(path.split("/")[2])))

    def _json(self, value: dict[str, Any]) -> None:
        self._send(200, json.dumps(value).encode())

    def _send(self, status: int, body: bytes, kind: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _shown(batch: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in batch.items() if not name.startswith("_")}


def _file_of(kind: str, raw: bytes) -> bytes:
    """Return the file of a multipart form."""
    head = f"content-type: {kind}\r\n\r\n".encode()
    form = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + raw)
    for part in form.iter_parts():  # type: ignore[attr-defined]  # a multipart message has them
        if part.get_filename():
            content: bytes = part.get_payload(decode=True)
            return content
    raise ValueError("the form holds no file")


@contextmanager
def batch_provider(**ways: Any) -> Iterator[BatchProvider]:
    """Serve on a free port while the block runs."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    state = BatchProvider(f"http://127.0.0.1:{server.server_address[1]}/v1", **ways)
    server.state = state  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
