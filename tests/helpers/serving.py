"""Real servers for tests: an application on a free port of this machine, until the block ends."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import uvicorn

from eccos_rs.pools.pool import LLM, Endpoint, Pool
from eccos_rs.predict.protocol import Prediction
from eccos_rs.records.record import Output, Record
from eccos_rs.records.table import RecordTable
from eccos_rs.serve.protocol import BoundedHttp

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from starlette.types import ASGIApp

    from eccos_rs.domain.query import Query

MODELS = ("small", "large")
TEXTS = tuple(f"What is {number} plus {number}?" for number in range(40))


@contextmanager
def running(app: ASGIApp, **options: object) -> Iterator[str]:
    """Serve an application; yields its address without a path."""
    listener = socket.create_server(("127.0.0.1", 0))
    settings: dict[str, object] = {
        "log_level": "error",
        "ws": "none",
        "http": BoundedHttp,
        "lifespan": "auto",
    }
    settings["timeout_graceful_shutdown"] = 1
    config = uvicorn.Config(app, **{**settings, **options})  # type: ignore[arg-type]
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    deadline = time.monotonic() + 20
    while not server.started:
        if not thread.is_alive() or time.monotonic() > deadline:
            raise RuntimeError("the server did not start")
        time.sleep(0.005)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)
        listener.close()


def recorded(tokens: int = 12) -> RecordTable:
    """A small data set: the large model is always right, the small one every second time."""
    rows = []
    for number, text in enumerate(TEXTS):
        outputs = (Output("small", float(number % 2), tokens, 1e-6), Output("large", 1.0, 2 * tokens, 1e-4))
        rows.append(Record(text, "sums", 8, outputs, str(number)))
    return RecordTable.from_records(rows)


def pool_at(address: str, **fields: object) -> Pool:
    """The two models, both served at `address`."""
    endpoint = Endpoint(f"{address}/v1", timeout=20.0)
    return Pool(
        [
            LLM("small", 0.1, 0.1, endpoint=endpoint, **fields),  # type: ignore[arg-type]
            LLM("large", 5.0, 15.0, endpoint=endpoint, **fields),  # type: ignore[arg-type]
        ]
    )


class FixedPredictor:
    """The same prediction for every query: the small model is right 60 % of the time, the large one 90 %."""

    models = MODELS

    def predict(self, queries: Sequence[Query]) -> Prediction:
        n = len(queries)
        rows = np.ones((n, 1), np.float32)
        return Prediction(
            models=MODELS,
            quality=rows * np.array([[0.6, 0.9]], np.float32),
            output_tokens=rows * np.array([[12.0, 24.0]], np.float32),
            quality_std=rows * np.array([[0.05, 0.05]], np.float32),
            log_tokens_std=rows * np.array([[0.5, 0.5]], np.float32),
            input_tokens=np.full(n, 8, np.int64),
            embedding=None,
            similarity=None,
            seconds={},
        )


def chat(text: str, model: str = "eccos", **fields: object) -> dict[str, object]:
    """The body of a chat completion request."""
    return {"model": model, "messages": [{"role": "user", "content": text}], **fields}
