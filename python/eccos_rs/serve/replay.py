"""A server that answers from a recorded data set, at a settable speed and with settable faults."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from eccos_rs.dialects.chat import chat_query
from eccos_rs.domain.attachments import text_tokens
from eccos_rs.domain.window import Window
from eccos_rs.errors import InputError
from eccos_rs.records.grouping import normalise
from eccos_rs.serve.replay_batches import Batches, batch_routes
from eccos_rs.serve.replay_caches import PromptCaches
from eccos_rs.serve.wire import (
    CLIENT_LEFT,
    DONE,
    RequestError,
    cancel_on_disconnect,
    error_body,
    error_response,
    event,
    read_body,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping

    from starlette.requests import Request

    from eccos_rs.domain.llm import LLM
    from eccos_rs.domain.query import Query
    from eccos_rs.records.table import RecordTable

__all__ = ["FAULTS", "Replay", "ReplaySettings", "build_replay_app"]

FAULTS = ("500", "429", "drop", "stall")
"""What a fault may be: two statuses, a connection cut in the middle of the answer, silence."""

_STALL = 3600.0
_EVENT_INTERVAL = 0.02  # seconds: at high speeds several tokens share an event


@dataclass(frozen=True)
class ReplaySettings:
    """How the recorded answers are given.

    Parameters
    ----------
    tokens_per_second : float
        Speed of an answer; inf answers at once.
    ttft : float
        Seconds until the first token.
    slots : int, optional
        Requests that one model serves at once; one more is answered with 429. None: no limit.
    fault_rate : float
        Share of requests that meet a fault, in [0, 1].
    faults : sequence of {"500", "429", "drop", "stall"}
        What these faults are, each as often as the others.
    unknown : {"error", "mean"}
        What happens to a query that the data set does not have: 404, or an answer of the model's mean length.
    seed : int
        Of the faults.
    batch_seconds : float
        From the creation of a batch to its last row.
    requests_per_minute, tokens_per_minute : int, optional
        Of each model; what is beyond, counted over a sliding minute when a request comes, is answered with
        429. Tokens are those of the prompt and of the recorded answer.
    caches : mapping of str to LLM
        Models with a prompt cache, on the terms of these; its counts stand in the usage.
    """

    tokens_per_second: float = 50.0
    ttft: float = 0.2
    slots: int | None = None
    fault_rate: float = 0.0
    faults: tuple[str, ...] = ("500", "429", "drop")
    unknown: str = "error"
    seed: int = 0
    batch_seconds: float = 1.0
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    caches: Mapping[str, LLM] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.tokens_per_second > 0:
            raise InputError(
                f"tokens_per_second must be above 0 (inf: at once), got {self.tokens_per_second}"
            )
        if not (math.isfinite(self.ttft) and self.ttft >= 0):
            raise InputError(f"ttft must be a finite number of at least 0 seconds, got {self.ttft}")
        if self.slots is not None and self.slots < 1:
            raise InputError(f"slots must be at least 1, got {self.slots}")
        if not (math.isfinite(self.batch_seconds) and self.batch_seconds >= 0):
            raise InputError(f"batch_seconds must be a finite number of at least 0, got {self.batch_seconds}")
        for name in ("requests_per_minute", "tokens_per_minute"):
            if (limit := getattr(self, name)) is not None and limit < 1:
                raise InputError(f"{name} must be at least 1, got {limit}")
        if not 0 <= self.fault_rate <= 1:
            raise InputError(f"fault_rate must lie in [0, 1], got {self.fault_rate}")
        for fault in self.faults:
            if fault not in FAULTS:
                raise InputError(f"faults must be of {', '.join(FAULTS)}; got {fault!r}")
        if self.fault_rate and not self.faults:
            raise InputError("fault_rate is above 0 and faults is empty")
        if self.unknown not in ("error", "mean"):
            raise InputError(f"unknown must be 'error' or 'mean', got {self.unknown!r}")


@dataclass(frozen=True)
class RecordedAnswer:
    """One recorded answer: success in [0, 1] (NaN: not recorded) and tokens."""

    quality: float
    input_tokens: int
    output_tokens: int


class Replay:
    """The recorded answers and the state of the pretended engine.

    Parameters
    ----------
    table : RecordTable
        The data set.
    settings : ReplaySettings
        Speed, limits, faults.
    """

    def __init__(self, table: RecordTable, settings: ReplaySettings) -> None:
        self.table = table
        self.settings = settings
        self.running = dict.fromkeys(table.models, 0)
        self.served = 0
        self.limited = 0
        limits = settings.requests_per_minute, settings.tokens_per_minute
        self._windows = {
            name: [None if limit is None else Window(limit) for limit in limits] for name in table.models
        }
        self._column = {name: at for at, name in enumerate(table.models)}
        self._row: dict[str, int] = {}
        for row, text in enumerate(table.query):
            self._row.setdefault(normalise(text), row)
        self.caches = PromptCaches(settings.caches)
        self._mean_tokens = np.nanmean(table.output_tokens, axis=0)
        self._faults = itertools.count()

    def answer(self, model: str, query: Query) -> RecordedAnswer:
        """Look an answer up: by the whole prompt, else by what is asked last, behind a longer prompt.

        Raises
        ------
        RequestError
            404: the data set does not have the model, or the query (unless `unknown` is "mean").
        """
        if model not in self._column:
            known = ", ".join(self.table.models)
            raise RequestError(404, "model_not_found", f"no model {model!r} is recorded; known are {known}")
        column = self._column[model]
        text, more = query.prompt, query.attached_tokens
        row = self._row.get(normalise(text))
        if row is None and query.messages is not None:
            row = self._row.get(normalise(query.question))
            more += text_tokens(text) - text_tokens(query.question)
        if row is not None and np.isfinite(self.table.output_tokens[row, column]):
            tokens, read = int(self.table.output_tokens[row, column]), int(self.table.input_tokens[row])
            return RecordedAnswer(float(self.table.quality[row, column]), read + max(more, 0), tokens)
        if self.settings.unknown == "error":
            raise RequestError(404, "query_not_found", f"no answer of {model!r} to this query is recorded")
        return RecordedAnswer(
            math.nan, max(1, len(text) // 4), max(1, round(float(self._mean_tokens[column])))
        )

    def take(self, model: str, tokens: int) -> None:
        """Count a request in the minute of its model.

        Raises
        ------
        RequestError
            429: it is beyond the requests or the tokens per minute.
        """
        now, amounts = time.monotonic(), (1, tokens)
        windows = [(each, use) for each, use in zip(self._windows[model], amounts, strict=True) if each]
        wait = max((window.seconds_until(use, now) for window, use in windows), default=0.0)
        if wait > 0:
            self.limited += 1
            later = {} if math.isinf(wait) else {"Retry-After": str(math.ceil(wait))}
            raise RequestError(429, "rate_limit_exceeded", f"{model}: its minute is used up", headers=later)
        for window, use in windows:
            window.add(use, now)

    def batched(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]] | None:
        """Answer a row of a batch with a status and a body; None: by a fault it is never answered."""
        try:
            model, query, answer = _asked(self, body)
        except RequestError as error:
            return error.status, error_body(error.status, error.code, str(error))
        fault = self.fault()
        if fault in ("429", "500"):
            return int(fault), error_body(int(fault), "fault", "a fault, as asked for")
        if fault is not None:
            return None
        self.served += 1
        key = _key(model, query.prompt)
        return 200, _Stream(self, model, answer, query.max_output_tokens, None, key).completion()

    def fault(self) -> str | None:
        """Draw whether this request meets a fault; the same seed draws the same sequence."""
        if not self.settings.fault_rate:
            return None
        draw = np.random.default_rng((self.settings.seed, next(self._faults)))
        if draw.random() >= self.settings.fault_rate:
            return None
        return str(draw.choice(self.settings.faults))


def build_replay_app(table: RecordTable, settings: ReplaySettings | None = None) -> Starlette:
    """Make the application that answers from `table`.

    Routes are ``/v1/chat/completions`` (streaming and not), ``/v1/files`` and ``/v1/batches``,
    ``/v1/models`` and ``/healthz``. An answer says whether the record was right in its text, and in the
    header ``x-replay-quality``.
    """
    replay = Replay(table, settings or ReplaySettings())

    async def completions(request: Request) -> Response:
        try:
            body = (await read_body(request)).values
            answer = await cancel_on_disconnect(request, _complete(replay, body))
            return Response(status_code=CLIENT_LEFT) if answer is None else answer
        except RequestError as error:
            return error_response(error.status, error.code, str(error), error.headers)

    async def models(_: Request) -> Response:
        rows = [{"id": name, "object": "model", "created": 0, "owned_by": "replay"} for name in table.models]
        return JSONResponse({"object": "list", "data": rows})

    async def health(_: Request) -> Response:
        counts = {"running": replay.running, "served": replay.served, "limited": replay.limited}
        return JSONResponse({"status": "ok", **counts})

    app = Starlette(
        routes=[
            Route("/v1/chat/completions", completions, methods=["POST"]),
            Route("/v1/models", models),
            Route("/healthz", health),
            *batch_routes(Batches(replay.batched, replay.settings.batch_seconds)),
        ]
    )
    app.state.replay = replay
    return app


def _asked(replay: Replay, body: dict[str, Any]) -> tuple[str, Query, RecordedAnswer]:
    model = body.get("model")
    if not isinstance(model, str):
        raise RequestError(400, "invalid_model", f"model must be a text, got {model!r}")
    query = chat_query(body)
    return model, query, replay.answer(model, query)


async def _complete(replay: Replay, body: dict[str, Any]) -> Response:
    model, query, answer = _asked(replay, body)
    most = query.max_output_tokens
    given = answer.output_tokens if most is None else min(answer.output_tokens, most)
    replay.take(model, answer.input_tokens + given)
    fault = replay.fault()
    slots = replay.settings.slots
    if fault == "429" or (slots is not None and replay.running[model] >= slots):
        raise RequestError(429, "rate_limited", f"{model} is busy", headers={"Retry-After": "1"})
    if fault == "500":
        raise RequestError(500, "fault", "a fault, as asked for")
    stream = _Stream(replay, model, answer, query.max_output_tokens, fault, _key(model, query.prompt))
    stream.details = replay.caches.read(model, query, answer.input_tokens)
    headers = {"x-replay-quality": f"{answer.quality:g}"}
    if body.get("stream"):
        options = body.get("stream_options")
        with_usage = isinstance(options, dict) and bool(options.get("include_usage"))
        return StreamingResponse(stream.events(with_usage), 200, headers, "text/event-stream")
    return JSONResponse(await stream.whole(), 200, headers)


def _key(model: str, text: str) -> str:
    return hashlib.sha256(f"{model}\n{text}".encode()).hexdigest()[:24]


@dataclass
class _Stream:
    """One answer on its way out."""

    replay: Replay
    model: str
    answer: RecordedAnswer
    limit: int | None
    fault: str | None
    key: str
    details: Mapping[str, int] | None = None

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": f"replay-{self.key}", "object": kind, "created": int(time.time()), "model": self.model}

    @property
    def _tokens(self) -> int:
        recorded = self.answer.output_tokens
        return recorded if self.limit is None else min(recorded, self.limit)

    @property
    def _usage(self) -> dict[str, Any]:
        usage = {
            "prompt_tokens": self.answer.input_tokens,
            "completion_tokens": self._tokens,
            "total_tokens": self.answer.input_tokens + self._tokens,
        }
        return usage if self.details is None else {**usage, "prompt_tokens_details": dict(self.details)}

    def _finish(self) -> str:
        return "stop" if self._tokens == self.answer.output_tokens else "length"

    def _words(self) -> Iterator[str]:
        quality = self.answer.quality
        yield "unrecorded" if math.isnan(quality) else "right" if quality >= 0.5 else "wrong"
        yield from itertools.repeat(" .")

    async def _begin(self) -> None:
        await asyncio.sleep(_STALL if self.fault == "stall" else self.replay.settings.ttft)

    async def whole(self) -> dict[str, Any]:
        """Return the answer in one piece, after the time it takes."""
        self.replay.running[self.model] += 1
        try:
            await self._begin()
            await asyncio.sleep(self._tokens / self.replay.settings.tokens_per_second)
            if self.fault == "drop":
                raise ConnectionResetError("a fault, as asked for")
            self.replay.served += 1
        finally:
            self.replay.running[self.model] -= 1
        return self.completion()

    def completion(self) -> dict[str, Any]:
        """Return the answer in one piece."""
        text = "".join(itertools.islice(self._words(), self._tokens))
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "finish_reason": self._finish()}
        return {**self._head("chat.completion"), "choices": [choice], "usage": self._usage}

    async def events(self, with_usage: bool) -> AsyncIterator[bytes]:
        """Yield the answer as it comes into being."""
        head = self._head("chat.completion.chunk")

        def chunk(delta: dict[str, str], finish: str | None = None) -> bytes:
            return event({**head, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})

        speed = self.replay.settings.tokens_per_second
        step = self._tokens if math.isinf(speed) else max(1, math.ceil(speed * _EVENT_INTERVAL))
        words = self._words()
        self.replay.running[self.model] += 1
        try:
            await self._begin()
            yield chunk({"role": "assistant", "content": ""})
            for start in range(0, self._tokens, max(1, step)):
                if self.fault == "drop" and start >= self._tokens // 2:
                    raise ConnectionResetError("a fault, as asked for")
                count = min(step, self._tokens - start)
                if not math.isinf(speed):
                    await asyncio.sleep(count / speed)
                yield chunk({"content": "".join(itertools.islice(words, count))})
            yield chunk({}, self._finish())
            if with_usage:
                yield event({**head, "choices": [], "usage": self._usage})
            yield DONE
            self.replay.served += 1
        finally:
            self.replay.running[self.model] -= 1
