"""An endpoint that answers as a script says: over real HTTP, byte by byte where that matters."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

USAGE = {"prompt_tokens": 10, "completion_tokens": 1000, "total_tokens": 1010}
FINAL = {
    "id": "c",
    "object": "chat.completion.chunk",
    "created": 1,
    "model": "m",
    "choices": [],
    "usage": USAGE,
}
COMPLETION = {
    "id": "c", "object": "chat.completion", "created": 1, "model": "m", "usage": USAGE,
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}],
}  # fmt: skip


def chunk(text: str | None = None, finish: str | None = None, **extra: Any) -> dict[str, Any]:
    delta = {} if text is None else {"content": text}
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {
        "id": "c",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": [choice],
        **extra,
    }


def data(content: Any) -> bytes:
    return b"data: " + json.dumps(content).encode() + b"\n\n"


WORDS = [data(chunk("one ")), data(chunk("two ")), data(chunk("three")), data(chunk(finish="stop"))]
DONE = b"data: [DONE]\n\n"


@dataclass
class Answer:
    """What is sent: a number among the pieces is a pause in seconds; `hold` keeps the response open."""

    pieces: list[bytes | float]
    status: int = 200
    kind: str = "text/event-stream"
    headers: dict[str, str] = field(default_factory=dict)
    hold: float = 0.0
    cut: bool = False


def plain(content: Any, status: int = 200, kind: str = "application/json", **headers: str) -> Answer:
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    return Answer([raw], status, kind, {name.replace("_", "-"): value for name, value in headers.items()})


def stream(*pieces: bytes | float, **fields: Any) -> Answer:
    return Answer(list(pieces), **fields)


class Scripted:
    """An ASGI application whose answers a function of the request's body and path chooses."""

    def __init__(self, answer: Callable[[dict[str, Any], str], Answer]) -> None:
        self.answer = answer
        self.listing = plain({}, 503)  # to GET: a breaker's probe finds it as dead as the requests did
        self.requests: list[dict[str, Any]] = []
        self.raw: list[bytes] = []
        self.paths: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.left = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        raw, more = b"", True
        while more:
            message = await receive()
            raw += message.get("body", b"")
            more = message.get("more_body", False)
        query = scope["query_string"].decode()
        path = scope["path"] + (f"?{query}" if query else "")
        body = json.loads(raw) if raw else {}
        if scope["method"] == "POST":
            self.requests.append(body)
            self.raw.append(raw)
            self.paths.append(path)
            self.headers.append({name.decode(): value.decode() for name, value in scope["headers"]})
        answer = self.answer(body, path) if scope["method"] == "POST" else self.listing
        head = [(b"content-type", answer.kind.encode())]
        head += [(name.encode(), value.encode()) for name, value in answer.headers.items()]
        gone = asyncio.ensure_future(receive())
        try:
            await send({"type": "http.response.start", "status": answer.status, "headers": head})
            for piece in answer.pieces:
                if isinstance(piece, float):
                    await asyncio.wait([gone], timeout=piece)
                    if gone.done():
                        self.left += 1
                        return
                else:
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
            if answer.cut:
                raise ConnectionResetError
            if answer.hold:
                await asyncio.wait([gone], timeout=answer.hold)
            await send({"type": "http.response.body", "body": b""})
        finally:
            gone.cancel()
