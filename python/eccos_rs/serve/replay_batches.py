"""The batch endpoint of the replay server: files and batches, in the form of OpenAI's API."""

from __future__ import annotations

import json
import random
import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from eccos_rs.domain.validation import shown
from eccos_rs.serve.wire import RequestError, error_response, read_body

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request

__all__ = ["Batches", "batch_routes"]

MOST_ROWS = 50_000
MOST_BYTES = 200 * 1024 * 1024
ENDPOINT = "/v1/chat/completions"
_PAGE, _MOST_PAGE = 20, 100
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


@dataclass(slots=True)
class _File:
    id: str
    name: str
    purpose: str
    content: bytes
    made: int = field(default_factory=lambda: int(time.time()))

    def shown(self) -> dict[str, Any]:
        return {
            "id": self.id, "object": "file", "bytes": len(self.content), "created_at": self.made,
            "filename": self.name, "purpose": self.purpose, "status": "processed",
        }  # fmt: skip


@dataclass(slots=True)
class _ReplayedBatch:
    """One batch: its rows, when it was made, and how it ended, if it has."""

    id: str
    source: str
    window: str
    metadata: dict[str, str]
    rows: list[dict[str, Any]]
    errors: list[dict[str, Any]]
    made: float = field(default_factory=time.monotonic)
    told: dict[str, int] = field(default_factory=lambda: {"created_at": int(time.time())})
    cancelled: float | None = None
    ended: str | None = None
    output: str | None = None
    error: str | None = None
    done: int = 0
    failed: int = 0


class Batches:
    """Files and batches of one server, in memory: they end with it.

    A batch is worked off in the order of its rows, evenly over `seconds`, whenever somebody looks; its output
    comes in another order, in two files, as providers have it. Rows that never get an answer leave a batch
    in progress until its window ends, when it expires.

    Parameters
    ----------
    answer : callable
        Takes the body of a request; gives a status and a body, or None where no answer ever comes.
    seconds : float
        From a batch's creation to its last row.
    """

    def __init__(
        self, answer: Callable[[dict[str, Any]], tuple[int, dict[str, Any]] | None], seconds: float
    ) -> None:
        self._answer, self._seconds = answer, seconds
        self._files: dict[str, _File] = {}
        self._batches: dict[str, _ReplayedBatch] = {}

    def add_file(self, name: str, purpose: str, content: bytes) -> dict[str, Any]:
        """Keep a file."""
        made = _File(f"file-{len(self._files)}", name, purpose, content)
        self._files[made.id] = made
        return made.shown()

    def file(self, name: str) -> _File:
        """Return a file, or raise 404."""
        if name not in self._files:
            raise RequestError(404, "file_not_found", f"there is no file {name!r}")
        return self._files[name]

    def files(self) -> list[dict[str, Any]]:
        """Return all files, the newest first."""
        return [each.shown() for each in reversed(self._files.values())]

    def delete(self, name: str) -> dict[str, Any]:
        """Forget a file."""
        del self._files[self.file(name).id]
        return {"id": name, "object": "file", "deleted": True}

    def create(self, body: dict[str, Any]) -> dict[str, Any]:
        """Begin a batch; a file that cannot be one makes it ``failed``, with an error a line."""
        endpoint, window = body.get("endpoint"), body.get("completion_window")
        if endpoint != ENDPOINT:
            raise RequestError(400, "invalid_endpoint", f"endpoint must be {ENDPOINT}, got {endpoint!r}")
        if not isinstance(window, str) or _seconds(window) is None:
            raise RequestError(
                400, "invalid_completion_window", f"completion_window must be like '24h', got {window!r}"
            )
        metadata = body.get("metadata") or {}
        if not isinstance(metadata, dict) or not all(isinstance(each, str) for each in metadata.values()):
            raise RequestError(400, "invalid_metadata", f"metadata must map texts to texts, got {metadata!r}")
        source = self.file(str(body.get("input_file_id")))
        if source.purpose != "batch":
            raise RequestError(
                400, "invalid_file", f"the purpose of {source.id} is {source.purpose!r}, wanted 'batch'"
            )
        rows, errors = _rows(source.content)
        made = _ReplayedBatch(f"batch-{len(self._batches)}", source.id, window, metadata, rows, errors)
        self._batches[made.id] = made
        if errors:
            self._end(made, "failed")
        return self._shown(made)

    def look(self, name: str) -> dict[str, Any]:
        """Return a batch as it stands now."""
        batch = self._batch(name)
        self._work(batch)
        return self._shown(batch)

    def cancel(self, name: str) -> dict[str, Any]:
        """Ask for a batch to end with the rows that are done; the next look finds it cancelled."""
        batch = self._batch(name)
        self._work(batch)
        if batch.ended is not None:
            raise RequestError(409, "batch_ended", f"{name} is {batch.ended} already")
        if batch.cancelled is None:
            batch.cancelled = time.monotonic()
            batch.told["cancelling_at"] = int(time.time())
        return self._shown(batch)

    def listed(self, after: str | None, limit: int) -> dict[str, Any]:
        """Return batches, the newest first, from behind the one named `after`."""
        names = list(reversed(self._batches))
        if after is not None:
            names = names[names.index(self._batch(after).id) + 1 :]
        shown = [self.look(name) for name in names[:limit]]
        ends = {"first_id": shown[0]["id"], "last_id": shown[-1]["id"]} if shown else {}
        return {"object": "list", "data": shown, "has_more": len(names) > limit, **ends}

    def _batch(self, name: str) -> _ReplayedBatch:
        if name not in self._batches:
            raise RequestError(404, "batch_not_found", f"there is no batch {name!r}")
        return self._batches[name]

    def _work(self, batch: _ReplayedBatch) -> None:
        """Answer the rows whose time has come, and end the batch where its own has."""
        if batch.ended is not None:
            return
        passed = (time.monotonic() if batch.cancelled is None else batch.cancelled) - batch.made
        share = 1.0 if self._seconds <= 0 else min(passed / self._seconds, 1.0)
        for row in batch.rows[: int(share * len(batch.rows))]:
            if "answer" not in row:
                row["answer"] = self._answer(row["body"])
        answered = [row["answer"] for row in batch.rows if row.get("answer") is not None]
        batch.done = sum(status == 200 for status, _ in answered)
        batch.failed = len(answered) - batch.done
        if batch.cancelled is not None:
            self._end(batch, "cancelled")
        elif len(answered) == len(batch.rows):
            self._end(batch, "completed")
        elif passed >= (_seconds(batch.window) or 0.0):
            self._end(batch, "expired")

    def _end(self, batch: _ReplayedBatch, status: str) -> None:
        batch.ended = status
        batch.told[f"{status}_at"] = int(time.time())
        good: list[dict[str, Any]] = []
        bad: list[dict[str, Any]] = []
        for at, row in enumerate(batch.rows):
            line: dict[str, Any] = {"id": f"{batch.id}-{at}", "custom_id": row["custom_id"]}
            if row.get("answer") is not None:
                code, body = row["answer"]
                answer = {"status_code": code, "request_id": f"{batch.id}-{at}", "body": body}
                # An error of HTTP lies in the body, beside an `error` of null, as at the provider.
                (good if code == 200 else bad).append({**line, "response": answer, "error": None})
            elif status == "expired":
                late = {"code": "batch_expired", "message": "the window ended before its turn"}
                bad.append({**line, "response": None, "error": late})
        for name, lines in (("output", good), ("error", bad)):
            if lines:
                # In any order: who relies on theirs is found out here.
                random.Random(batch.id).shuffle(lines)
                raw = b"".join(json.dumps(each).encode() + b"\n" for each in lines)
                setattr(batch, name, self.add_file(f"{batch.id}_{name}.jsonl", "batch_output", raw)["id"])

    def _shown(self, batch: _ReplayedBatch) -> dict[str, Any]:
        counts = {"total": len(batch.rows), "completed": batch.done, "failed": batch.failed}
        status = batch.ended or ("in_progress" if batch.cancelled is None else "cancelling")
        window = _seconds(batch.window) or 0.0
        return {
            "id": batch.id, "object": "batch", "endpoint": ENDPOINT, "input_file_id": batch.source,
            "completion_window": batch.window, "status": status, "output_file_id": batch.output,
            "error_file_id": batch.error, "request_counts": counts, "metadata": batch.metadata,
            "errors": {"object": "list", "data": batch.errors} if batch.errors else None,
            "expires_at": int(batch.told["created_at"] + window), **batch.told,
        }  # fmt: skip


def batch_routes(batches: Batches) -> list[Route]:
    """Return the routes of ``/v1/files`` and ``/v1/batches``."""

    async def upload(request: Request) -> Response:
        async with request.form() as form:
            sent, purpose = form.get("file"), form.get("purpose")
            if sent is None or isinstance(sent, str):
                raise RequestError(400, "missing_file", "the form has no file")
            name, content = sent.filename or "file", await sent.read()
        if len(content) > MOST_BYTES:
            raise RequestError(413, "file_too_large", f"the file has more than {MOST_BYTES:,} bytes")
        return JSONResponse(batches.add_file(name, str(purpose), content))

    async def files(_: Request) -> Response:
        return JSONResponse({"object": "list", "data": batches.files(), "has_more": False})

    async def file(request: Request) -> Response:
        name = request.path_params["name"]
        return JSONResponse(
            batches.delete(name) if request.method == "DELETE" else batches.file(name).shown()
        )

    async def content(request: Request) -> Response:
        found = batches.file(request.path_params["name"])
        return Response(found.content, media_type="application/octet-stream")

    async def create(request: Request) -> Response:
        return JSONResponse(batches.create((await read_body(request)).values))

    async def listed(request: Request) -> Response:
        asked = request.query_params
        limit = asked.get("limit", str(_PAGE))
        if not limit.isdecimal() or not 1 <= int(limit) <= _MOST_PAGE:
            raise RequestError(400, "invalid_limit", f"limit must be 1 to {_MOST_PAGE}, got {limit!r}")
        return JSONResponse(batches.listed(asked.get("after"), int(limit)))

    async def one(request: Request) -> Response:
        return JSONResponse(batches.look(request.path_params["name"]))

    async def cancel(request: Request) -> Response:
        return JSONResponse(batches.cancel(request.path_params["name"]))

    return [
        Route("/v1/files", _told(upload), methods=["POST"]),
        Route("/v1/files", _told(files)),
        Route("/v1/files/{name}", _told(file), methods=["GET", "DELETE"]),
        Route("/v1/files/{name}/content", _told(content)),
        Route("/v1/batches", _told(create), methods=["POST"]),
        Route("/v1/batches", _told(listed)),
        Route("/v1/batches/{name}", _told(one)),
        Route("/v1/batches/{name}/cancel", _told(cancel), methods=["POST"]),
    ]


def _told(work: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    """Answer errors as the API words them."""

    async def answer(request: Request) -> Response:
        try:
            return await work(request)
        except RequestError as error:
            return error_response(error.status, error.code, str(error), error.headers)

    return answer


def _seconds(window: str) -> float | None:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", window)
    return None if found is None else float(found[1]) * _UNITS[found[2]]


def _rows(content: bytes) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the rows of an input file, and what is wrong with it."""
    rows: list[dict[str, Any]] = []
    errors: list[dict[str, Any]] = []
    seen: set[str] = set()
    models: set[Any] = set()

    def wrong(code: str, message: str, line: int | None) -> None:
        errors.append({"code": code, "message": message, "line": line, "param": None})

    lines = content.removesuffix(b"\n").split(b"\n") if content else []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
        except ValueError:
            wrong("invalid_json_line", "the line is not JSON", number)
            continue
        key, body = (row.get("custom_id"), row.get("body")) if isinstance(row, dict) else (None, None)
        if not isinstance(key, str) or not isinstance(body, dict):
            wrong("invalid_request", "a line has a custom_id (a text) and a body (an object)", number)
        elif row.get("method") != "POST" or row.get("url") != ENDPOINT:
            wrong("invalid_url", f"method and url must be POST {ENDPOINT}", number)
        elif key in seen:
            wrong("duplicate_custom_id", f"custom_id {shown(key)} is there twice", number)
        else:
            seen.add(key)
            models.add(str(body.get("model")))
            rows.append({"custom_id": key, "body": body})
    if not lines:
        wrong("empty_file", "the file has no lines", None)
    if len(lines) > MOST_ROWS:
        wrong("too_many_tasks", f"the file has {len(lines):,} lines, at most {MOST_ROWS:,} may be", None)
    if len(models) > 1:
        wrong("mismatched_model", f"all lines must ask one model, got {', '.join(sorted(models))}", None)
    return rows, errors
